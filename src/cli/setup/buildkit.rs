//! `BuildKit`: mirrors, to which it always adds the registry itself.

use super::options::{CA_FILE, Options, names_of};
use super::setting::{About, MARK, Merge, Refusal, Setting};
use crate::cli::clients::Endpoint;

/// The settings for `BuildKit`.
pub(super) fn setting(options: &Options) -> Result<Setting, Refusal> {
    let mirror = options.mirror()?;
    let mut tables: Vec<String> = Vec::new();
    for name in options.named("buildkit")?.into_iter().flat_map(names_of) {
        let authority = &mirror.authority;
        tables.push(format!("[registry.\"{name}\"]\n  mirrors = [\"{authority}\"]\n"));
    }
    let table = mirror_table(options.ca_path(mirror), mirror);
    tables.extend(table.map(|table| format!("[registry.\"{}\"]\n{table}", mirror.authority)));
    let content = format!("# {MARK} buildkit`.\n{}", tables.join("\n"));
    let mut setting = Setting::new("buildkit");
    setting.file("/etc/buildkit/buildkitd.toml", content, Merge::TomlTables);
    options.put_ca(mirror, &mut setting);
    note(options, &mut setting);
    Ok(setting)
}

/// What is to be said of the mirror itself. `BuildKit` speaks https to others, but http to an address
/// of its own host where nothing says otherwise, a CA or not.
fn mirror_table(ca: Option<&str>, mirror: &Endpoint) -> Option<String> {
    let ca = ca.map(|path| format!("  ca = [\"{path}\"]\n")).unwrap_or_default();
    match (mirror.is_tls, mirror.is_loopback()) {
        (false, _) => Some("  http = true\n".to_owned()),
        (true, true) => Some(format!("  http = false\n{ca}")),
        (true, false) => Some(ca).filter(|ca| !ca.is_empty()),
    }
}

fn note(options: &Options, setting: &mut Setting) {
    setting.note(
        About::Open,
        "BuildKit always adds the registry itself: while immutag is down, or when a blob fails, it \
         is asked. hold and block hold while immutag runs; what closes the rest is `immutag setup \
         egress`, or a source policy that names digests (`buildctl build --source-policy-file`)",
    );
    options.note_unnamed(setting);
    setting.note(
        About::Open,
        "Docker's own builder reads daemon.json instead (`immutag setup docker`)",
    );
    setting.note(About::Pushes, "to the registry itself, as before; immutag takes none");
    let is_here = options.mirror().is_ok_and(Endpoint::is_loopback);
    if is_here {
        setting.note(
            About::Then,
            "in a container (`docker buildx create`) 127.0.0.1 is the container: use --mirror with \
             an address that it reaches",
        );
    }
    let ca = if options.ca.is_some() { format!(", {CA_FILE} beside it") } else { String::new() };
    setting.note(
        About::Then,
        format!(
            "restart buildkitd; for a builder of buildx make it anew: `docker buildx create \
             --buildkitd-config /etc/buildkit/buildkitd.toml`{ca}"
        ),
    );
}

#[cfg(test)]
mod tests {
    use super::super::options::fixtures::{options, private_options};
    use super::*;

    #[test]
    fn the_file_on_this_host() {
        let setting = setting(&options(&["ghcr.io"])).unwrap();
        insta::assert_snapshot!(setting.files[0].content, @r#"
        # Written by `immutag setup buildkit`.
        [registry."docker.io"]
          mirrors = ["127.0.0.1:5050"]

        [registry."registry-1.docker.io"]
          mirrors = ["127.0.0.1:5050"]

        [registry."ghcr.io"]
          mirrors = ["127.0.0.1:5050"]

        [registry."127.0.0.1:5050"]
          http = true
        "#);
        assert!(setting.notes.iter().all(|note| note.about != About::Closed), "nothing is");
    }

    #[test]
    fn a_private_ca_is_named_for_the_mirror() {
        let mut options = private_options(&[]);
        let private = setting(&options).unwrap();
        let parsed: toml::Table = private.files[0].content.parse().unwrap();
        let mirror = &parsed["registry"]["proxy.example:5050"];
        assert_eq!(mirror["ca"].as_array().unwrap()[0].as_str(), Some(CA_FILE));
        assert!(mirror.get("http").is_none());
        options.ca = None;
        let public = setting(&options).unwrap();
        let parsed: toml::Table = public.files[0].content.parse().unwrap();
        assert!(parsed["registry"].get("proxy.example:5050").is_none());
    }

    #[test]
    fn tls_on_this_host_is_said_for_buildkit_speaks_http_to_its_own_host() {
        let mut options = options(&[]);
        options.endpoints.mirror.as_mut().unwrap().is_tls = true;
        let parsed: toml::Table = setting(&options).unwrap().files[0].content.parse().unwrap();
        let mirror = &parsed["registry"]["127.0.0.1:5050"];
        assert_eq!(mirror["http"].as_bool(), Some(false));
    }
}
