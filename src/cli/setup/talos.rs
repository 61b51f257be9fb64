//! Talos: a patch of the machine configuration.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use super::options::Options;
use super::setting::{About, MARK, Merge, Refusal, Setting};
use crate::cli::clients::Endpoint;

/// The patch for Talos.
pub(super) fn setting(options: &Options) -> Result<Setting, Refusal> {
    let mirror = options.mirror()?;
    let names = options.targets.iter().flat_map(|target| target.scope.names("*"));
    let mirrors: Vec<String> = names.map(|name| mirrored(name, mirror)).collect();
    let config = options.ca.as_ref().filter(|_| mirror.is_tls).map(|pem| {
        let (authority, ca) = (&mirror.authority, BASE64_STANDARD.encode(pem));
        format!("    config:\n      \"{authority}\":\n        tls:\n          ca: \"{ca}\"\n")
    });
    let config = config.unwrap_or_default();
    let head = format!("# {MARK} talos`.\nmachine:\n  registries:\n    mirrors:\n");
    let content = format!("{head}{}{config}", mirrors.concat());
    let mut setting = Setting::new("talos");
    setting.file("immutag-talos.yaml", content, Merge::Own);
    note(options, &mut setting);
    Ok(setting)
}

fn mirrored(name: &str, mirror: &Endpoint) -> String {
    format!(
        "      \"{name}\":\n        endpoints:\n          - \"{mirror}\"\n        \
         skipFallback: true\n"
    )
}

fn note(options: &Options, setting: &mut Setting) {
    let names = options.names();
    setting.note(
        About::Closed,
        format!("{names}: pulled through immutag or not at all, also while it is down"),
    );
    options.note_unnamed(setting);
    setting.note(
        About::Version,
        "a Talos that knows skipFallback, assumed: `talosctl validate` refuses the key where it \
         does not",
    );
    setting.note(
        About::Open,
        "other mirrors in the machine configuration stay, and so do RegistryMirrorConfig documents \
         (Talos 1.12 and later), and either may come first: see `talosctl get machineconfig`",
    );
    setting.note(About::Pushes, "nodes do not push");
    if options.mirror().is_ok_and(Endpoint::is_loopback) {
        setting.note(
            About::Then,
            "127.0.0.1 is each node itself: use --mirror with an address that the nodes reach",
        );
    }
    setting.note(
        About::Then,
        "apply it to each node: `talosctl --nodes … patch machineconfig --patch \
         @immutag-talos.yaml`",
    );
}

#[cfg(test)]
mod tests {
    use super::super::options::fixtures::{options, private_options};
    use super::*;

    #[test]
    fn the_patch() {
        let setting = setting(&options(&["*"])).unwrap();
        insta::assert_snapshot!(setting.files[0].content, @r#"
        # Written by `immutag setup talos`.
        machine:
          registries:
            mirrors:
              "docker.io":
                endpoints:
                  - "http://127.0.0.1:5050"
                skipFallback: true
              "registry-1.docker.io":
                endpoints:
                  - "http://127.0.0.1:5050"
                skipFallback: true
              "*":
                endpoints:
                  - "http://127.0.0.1:5050"
                skipFallback: true
        "#);
        let says = |words: &str| setting.notes.iter().any(|note| note.text.contains(words));
        assert!(says("127.0.0.1 is each node itself") && !says("only what is named"));
    }

    #[test]
    fn the_patch_holds_a_private_ca() {
        let setting = setting(&private_options(&[])).unwrap();
        let content = &setting.files[0].content;
        let (_, ca) = content.split_once("          ca: \"").unwrap();
        let ca = BASE64_STANDARD.decode(ca.trim_end().trim_end_matches('"')).unwrap();
        assert!(ca.starts_with(b"-----BEGIN CERTIFICATE-----"), "{content}");
        assert!(content.contains("    config:\n      \"proxy.example:5050\":\n"), "{content}");
    }
}
