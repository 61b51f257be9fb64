//! Proxy variables of daemons: a way to the registries beside immutag, and at times one that
//! immutag's own address is taken through.
//!
//! Source: Go's `golang.org/x/net/http/httpproxy`, which every client here goes by.

use std::net::IpAddr;

use super::address::{Address, Source};
use super::finding::Finding;
use super::running::Then;
use super::scene::Scene;
use crate::cli::clients::{ClientKind, Endpoint};

/// Where units of systemd are, from strong to weak.
const UNIT_FOLDERS: [&str; 3] =
    ["/etc/systemd/system", "/lib/systemd/system", "/usr/lib/systemd/system"];

/// A variable, and where it is set.
struct Variable {
    name: String,
    value: String,
    place: String,
}

/// What it comes to that immutag is asked through a proxy.
pub(super) const THEN: Then = Then {
    open: "when that refuses or fails, this client goes to the registry",
    closed: "when that refuses or fails, so do this client's pulls",
};

/// What proxies come to for one client.
#[derive(Default)]
pub(super) struct Proxied {
    /// What is worth knowing.
    pub(super) notes: Vec<Finding>,
    /// Why immutag is not reached, if so: a finding whose weight is still to be found.
    pub(super) trouble: Option<Finding>,
}

/// Looks at the variables that a client's daemon runs with, or would.
pub(super) fn check(scene: &Scene, client: ClientKind, endpoint: Option<&Endpoint>) -> Proxied {
    let variables = variables(scene, client);
    let find = |name: &str| {
        let is_it = |variable: &&Variable| variable.name.eq_ignore_ascii_case(name);
        variables.iter().rev().find(is_it).filter(|variable| !variable.value.is_empty())
    };
    let mut proxied = Proxied::default();
    if let Some(proxy) = find("HTTPS_PROXY")
        && scene.source(&proxy.value) == Source::Other
    {
        let what = format!(
            "HTTPS_PROXY is {}: a way to the registries, for whatever goes round immutag",
            shown(&proxy.value)
        );
        let fix = "let that proxy refuse the registries, to all but immutag";
        proxied.notes.push(Finding::protected(client, what).at(proxy.place.as_str()).fix(fix));
    }
    let address = endpoint.and_then(|endpoint| Address::parse(&endpoint.to_string()));
    let scheme = if endpoint.is_some_and(|endpoint| endpoint.is_tls) { "HTTPS" } else { "HTTP" };
    if let (Some(address), Some(proxy)) = (address, find(&format!("{scheme}_PROXY")))
        && scene.source(&proxy.value) == Source::Other
        && !is_exempt(find("NO_PROXY").map_or("", |variable| &variable.value), &address)
    {
        let host = &address.host;
        let what = format!(
            "immutag is asked through the proxy {}, since NO_PROXY does not name {host}",
            shown(&proxy.value)
        );
        let fix = format!("add {host} to NO_PROXY, then restart {}", client.name());
        proxied.trouble = Some(Finding::protected(client, what).at(proxy.place.as_str()).fix(fix));
    }
    proxied
}

/// A proxy without what may be its password.
fn shown(url: &str) -> String {
    let Some(address) = Address::parse(url) else { return "set to no URL".to_owned() };
    address.port.map_or_else(|| address.host.clone(), |port| format!("{}:{port}", address.host))
}

/// The running daemon's, else those of its unit; Docker's own settings go over both.
fn variables(scene: &Scene, client: ClientKind) -> Vec<Variable> {
    let (program, units): (&str, &[&str]) = match client {
        ClientKind::Buildkit => ("buildkitd", &["buildkit", "buildkitd"]),
        ClientKind::Containerd => ("containerd", &["containerd"]),
        ClientKind::Crio => ("crio", &["crio"]),
        ClientKind::Docker => ("dockerd", &["docker"]),
        ClientKind::K3s => ("k3s", &["k3s", "k3s-agent"]),
        ClientKind::Podman => ("podman", &["podman"]),
        ClientKind::Rke2 => ("rke2", &["rke2-server", "rke2-agent"]),
        ClientKind::Talos => return Vec::new(),
    };
    let mut found = Vec::new();
    let running = scene
        .running(program)
        .find_map(|process| Some((process.place(), process.environment.as_ref()?)));
    match running {
        Some((place, environment)) => {
            let pairs = environment.iter();
            found.extend(pairs.map(|(name, value)| variable(name, value, &place)));
        }
        None => found.extend(units.iter().flat_map(|unit| of_unit(scene, unit))),
    }
    if client == ClientKind::Podman {
        let own = scene.environment.iter();
        found.extend(own.map(|(name, value)| variable(name, value, "the environment")));
    }
    if client == ClientKind::Docker {
        found.extend(of_daemon_json(scene));
    }
    found
}

fn variable(name: &str, value: &str, place: &str) -> Variable {
    Variable { name: name.to_owned(), value: value.to_owned(), place: place.to_owned() }
}

fn of_daemon_json(scene: &Scene) -> Vec<Variable> {
    let Ok(Some(settings)) = scene.json("/etc/docker/daemon.json") else { return Vec::new() };
    let entries = settings.root.get(&["proxies"]).map_or(&[][..], |proxies| proxies.entries());
    let each = entries.iter().filter_map(|entry| {
        let name = entry.key.replace('-', "_");
        Some(variable(&name, entry.node.text()?, &settings.at(entry.line)))
    });
    each.collect()
}

/// The variables of a unit and its drop-ins, the later going over the earlier.
fn of_unit(scene: &Scene, unit: &str) -> Vec<Variable> {
    let paths = UNIT_FOLDERS.iter().map(|folder| format!("{folder}/{unit}.service"));
    let main = paths.clone().find(|path| scene.files.exists(path));
    let drop_ins = paths.rev().flat_map(|path| scene.files.ending(&format!("{path}.d"), ".conf"));
    let mut found = Vec::new();
    for path in main.into_iter().chain(drop_ins) {
        let Ok(Some(text)) = scene.files.text(&path) else { continue };
        for (index, line) in text.lines().enumerate() {
            let Some(pairs) = line.trim().strip_prefix("Environment=") else { continue };
            if pairs.trim().is_empty() {
                found.clear();
            }
            let place = format!("{path}:{}", index + 1);
            found.extend(unquoted(pairs).iter().filter_map(|pair| {
                let (name, value) = pair.split_once('=')?;
                Some(variable(name, value, &place))
            }));
        }
    }
    found
}

/// The words of a line of systemd: separated by spaces, unless quotes are around.
fn unquoted(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), String::new(), None);
    for letter in line.chars() {
        match (letter, quote) {
            ('"' | '\'', None) => quote = Some(letter),
            (letter, Some(open)) if letter == open => quote = None,
            (letter, None) if letter.is_whitespace() => words.push(std::mem::take(&mut word)),
            (letter, _) => word.push(letter),
        }
    }
    words.push(word);
    words.retain(|word| !word.is_empty());
    words
}

/// Whether an address is asked without a proxy.
fn is_exempt(no_proxy: &str, address: &Address) -> bool {
    let host = address.host.trim_start_matches('[').trim_end_matches(']');
    let ip: Option<IpAddr> = host.parse().ok();
    address.is_loopback()
        || no_proxy.split(',').map(str::trim).any(|rule| {
            let rule = rule.to_ascii_lowercase();
            let (rule, port) = match rule.rsplit_once(':') {
                Some((rule, port)) if !rule.contains(':') => (rule.to_owned(), port.parse().ok()),
                _ => (rule, None),
            };
            if port.is_some() && port != address.port {
                return false;
            }
            let suffix = rule.trim_start_matches('*').trim_start_matches('.');
            rule == "*"
                || (rule == host && !rule.is_empty())
                || (!suffix.is_empty() && host.ends_with(&format!(".{suffix}")))
                || ip.is_some_and(|ip| is_in_network(&rule, ip))
        })
}

fn is_in_network(network: &str, ip: IpAddr) -> bool {
    let Some((base, bits)) = network.split_once('/') else { return false };
    let (Ok(base), Ok(bits)) = (base.parse::<IpAddr>(), bits.parse::<u32>()) else { return false };
    let kept = |address: u128, width: u32| {
        let rest = width.saturating_sub(bits);
        if rest >= 128 { 0 } else { address >> rest }
    };
    match (base, ip) {
        (IpAddr::V4(base), IpAddr::V4(ip)) => {
            kept(u128::from(base.to_bits()), 32) == kept(u128::from(ip.to_bits()), 32)
        }
        (IpAddr::V6(base), IpAddr::V6(ip)) => kept(base.to_bits(), 128) == kept(ip.to_bits(), 128),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_exempt_as_go_has_it() {
        for (no_proxy, address, expected) in [
            ("", "http://127.0.0.1:5050", true),
            ("", "http://localhost:5050", true),
            ("", "http://10.1.2.3:5050", false),
            ("10.0.0.0/8", "http://10.1.2.3:5050", true),
            ("10.0.0.0/16", "http://10.1.2.3:5050", false),
            ("10.1.2.3:5050", "http://10.1.2.3:5050", true),
            ("10.1.2.3:80", "http://10.1.2.3:5050", false),
            ("a.example, proxy.example", "http://proxy.example:5050", true),
            (".example", "http://proxy.example:5050", true),
            ("example", "http://proxy.example:5050", true),
            ("*.example", "http://proxy.example:5050", true),
            ("ample", "http://proxy.example:5050", false),
            (",", "http://proxy.example:5050", false),
            ("*", "http://proxy.example:5050", true),
            ("fd00::/8", "http://[fd12::1]:5050", true),
        ] {
            let address = Address::parse(address).unwrap();
            assert_eq!(is_exempt(no_proxy, &address), expected, "{no_proxy} {address:?}");
        }
    }

    #[test]
    fn words_of_systemd_are_unquoted() {
        let line = r#""HTTPS_PROXY=http://a b" NO_PROXY=x 'C=d'"#;
        assert_eq!(unquoted(line), ["HTTPS_PROXY=http://a b", "NO_PROXY=x", "C=d"]);
    }

    #[test]
    fn a_password_is_not_shown() {
        assert_eq!(shown("http://user:secret@proxy.example:3128"), "proxy.example:3128");
    }
}
