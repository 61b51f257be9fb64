//! A file for `nft -f`.

use std::collections::BTreeSet;

use clap::Args;

use super::network::{Network, near_and};
use crate::cli::setup::setting::{About, MARK, Merge, Refusal, Setting};
use crate::config::Config;

const FILE: &str = "/etc/immutag/egress.nft";

/// The file, with names in place of what depends on the options.
const TEMPLATE: &str = include_str!("egress.nft");

#[derive(Debug, Args)]
pub(super) struct NftablesArgs {
    /// The user that immutag runs as on this host, by name or number
    #[arg(long, value_name = "USER", default_value = "immutag", value_parser = parse_user)]
    user: String,
    /// The address or network of an immutag that runs in a container here; may be repeated
    #[arg(long, value_name = "CIDR")]
    from: Vec<Network>,
    /// A network besides the private ones that everybody may reach; may be repeated
    #[arg(long, value_name = "CIDR")]
    allow: Vec<Network>,
    /// A port of registries besides 80, 443 and those of the configured upstreams; may be repeated
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    port: Vec<u16>,
}

/// The rules for this host.
pub(super) fn setting(args: &NftablesArgs, config: &Config) -> Result<Setting, Refusal> {
    if matches!(args.user.as_str(), "root" | "0") {
        return Err(Refusal::Useless(
            "dockerd and containerd are root, too: run immutag as a user of its own, and name \
             that with --user"
                .to_owned(),
        ));
    }
    let mut setting = Setting::new("egress nftables");
    setting.file(FILE, rules(args, &ports(args, config)), Merge::Own);
    note(args, &mut setting);
    Ok(setting)
}

fn ports(args: &NftablesArgs, config: &Config) -> BTreeSet<u16> {
    let upstream = |url: &str| url.parse::<hyper::Uri>().ok()?.port_u16();
    let upstreams = config.upstreams.values().filter_map(|it| upstream(&it.url));
    [80, 443].into_iter().chain(upstreams).chain(args.port.iter().copied()).collect()
}

fn rules(args: &NftablesArgs, ports: &BTreeSet<u16>) -> String {
    let ports = listed(ports);
    let networks = near_and(&args.allow);
    let (of4, of6): (Vec<_>, Vec<_>) = networks.into_iter().partition(|it| it.is_ipv4());
    let user = match args.user.parse::<u32>() {
        Ok(number) => number.to_string(),
        Err(_) => format!("\"{}\"", args.user),
    };
    TEMPLATE
        .replace("@MARK@", MARK)
        .replace("@USER@", &user)
        .replace("@PORTS@", &ports)
        .replace("@OPEN4@", &listed(&of4))
        .replace("@OPEN6@", &listed(&of6))
        .replace("@FROM@", &from(&args.from))
}

/// The rules that let an immutag in a container out.
fn from(networks: &[Network]) -> String {
    let (of4, of6): (Vec<Network>, Vec<Network>) =
        networks.iter().partition(|network| network.is_ipv4());
    let rule = |family: &str, networks: &[Network]| match networks {
        [] => String::new(),
        networks => format!("        {family} saddr {{ {} }} accept\n", listed(networks)),
    };
    rule("ip", &of4) + &rule("ip6", &of6)
}

fn listed<'i, T: ToString + 'i>(items: impl IntoIterator<Item = &'i T>) -> String {
    items.into_iter().map(T::to_string).collect::<Vec<_>>().join(", ")
}

fn note(args: &NftablesArgs, setting: &mut Setting) {
    let user = &args.user;
    setting.note(
        About::Closed,
        format!(
            "whoever else on this host, or in a container of it, asks for a registry outside is \
             refused at once; immutag (user {user}) is not"
        ),
    );
    setting.note(
        About::Open,
        "registries and proxies in private networks, and what --allow names; registries on other \
         ports (--port); whoever is the same user as immutag; other hosts",
    );
    setting.note(
        About::Open,
        "it closes more than registries: package updates, git and web services on these ports need \
         --allow or a proxy in a private network",
    );
    setting.note(About::Pushes, "nowhere outside from this host: immutag takes none");
    if args.from.is_empty() {
        setting.note(
            About::Then,
            "where immutag runs in a container, name its address with --from: a container has no \
             user here",
        );
    }
    setting.note(
        About::Then,
        format!(
            "the user {user} must be there. Load it: `nft -f {FILE}`. At each boot: add `include \
             \"{FILE}\"` at the end of /etc/nftables.conf, and `systemctl enable nftables`. Undo: \
             `nft delete table inet immutag_egress`"
        ),
    );
}

fn parse_user(text: &str) -> Result<String, String> {
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "_-.".contains(letter);
    if text.is_empty() || text.starts_with(['-', '.']) || !text.chars().all(is_plain) {
        return Err(format!("{text} is no name of a user"));
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(user: &str) -> NftablesArgs {
        let from = ["172.17.0.5", "fd00::5"].map(|text| text.parse().unwrap()).into();
        NftablesArgs { user: user.to_owned(), from, allow: Vec::new(), port: vec![8443] }
    }

    fn config() -> Config {
        Config::with_data_dir("/nowhere".into())
    }

    #[test]
    fn the_file() {
        let setting = setting(&args("immutag"), &config()).unwrap();
        assert_eq!(setting.files[0].path, FILE);
        insta::assert_snapshot!(setting.files[0].content);
    }

    #[test]
    fn ports_of_upstreams_are_closed_too() {
        let mut config = config();
        let url = "http://registry.example:5000".to_owned();
        let upstream = crate::config::UpstreamConfig::for_origin(url);
        config.upstreams.insert("registry.example".parse().unwrap(), upstream);
        let ports: Vec<_> = ports(&args("immutag"), &config).into_iter().collect();
        assert_eq!(ports, [80, 443, 5000, 8443]);
    }

    #[test]
    fn rules_that_would_let_dockerd_out_are_refused() {
        for user in ["root", "0"] {
            let refusal = setting(&args(user), &config()).unwrap_err();
            assert!(refusal.to_string().contains("are root, too"), "{refusal}");
        }
        for user in ["a\"b", "", "-x", "a b", "a;"] {
            assert!(parse_user(user).is_err(), "{user}");
        }
        let numbered = setting(&args("65532"), &config()).unwrap();
        assert!(numbered.files[0].content.contains("meta skuid 65532 accept"));
    }
}
