//! What a start says: in words, what is enforced and what is not, and what to paste.

use std::io::{IsTerminal, Write};
use std::path::Path;
use std::time::Duration;

use crate::app::App;
use crate::config::{Config, Credentials, LedgerKind, ListenerConfig, ListenerKind, reachable};
use crate::policy::explain::describe;
use crate::units::Span;

/// Shows the banner: as text on a terminal, as log lines elsewhere.
pub fn show(config: &Config, app: &App) {
    let lines = lines(config, app);
    for warning in warnings(config, &app.addresses.listeners) {
        tracing::warn!("{warning}");
    }
    let mut stderr = std::io::stderr();
    if stderr.is_terminal() {
        // A terminal that is gone is no reason not to serve.
        let _ = writeln!(stderr, "\n{}\n", lines.join("\n"));
        return;
    }
    for line in lines.iter().map(|line| line.trim()).filter(|line| !line.is_empty()) {
        tracing::info!("{line}");
    }
}

fn lines(config: &Config, app: &App) -> Vec<String> {
    let status = app.ledger.status();
    let mut lines = vec![
        format!("immutag {} is serving", env!("CARGO_PKG_VERSION")),
        format!(
            "ledger {} in {}: {} pins, {} open conflicts",
            status.id,
            match config.ledger {
                LedgerKind::File => config.data_dir.display().to_string(),
                LedgerKind::Memory => "memory, gone when this process ends".to_owned(),
            },
            status.pins,
            status.conflicts
        ),
    ];
    if config.ledger == LedgerKind::File {
        lines.push(format!("its head is {}", status.point()));
    }
    lines.push(String::new());
    for listener in &app.addresses.listeners {
        let url = format!("{}://{}", listener.scheme(), listener.address);
        lines.push(format!("{:<8} {url}  {}", listener.kind.name(), purpose(listener)));
    }
    lines.push(format!("{:<8} http://{}/metrics", "admin", app.addresses.admin));
    lines.push(String::new());
    lines.push("What decides, first match:".to_owned());
    lines.extend(describe(&config.policy).into_iter().map(|rule| format!("  {rule}")));
    lines.push(String::new());
    lines.extend(enforcement());
    lines.extend(watching(config));
    lines.push(String::new());
    lines.extend(snippets(&app.addresses.listeners));
    lines
}

fn purpose(listener: &ListenerConfig) -> String {
    match listener.kind {
        ListenerKind::Direct => {
            "for explicit references, HOST:PORT/docker.io/library/x:1".to_owned()
        }
        ListenerKind::Mirror => {
            format!("for registry mirrors, {} where none is named", listener.default_upstream)
        }
    }
}

/// What holds, and what this process cannot do alone.
fn enforcement() -> Vec<String> {
    [
        "Enforced: a held tag is served as it was first seen; a blocked one stops the client.",
        "Not enforced by this process: clients that are not set to it; clients whose settings let",
        "them go on to the registry while this process is down; references by digest.",
    ]
    .map(str::to_owned)
    .to_vec()
}

/// What notices a tag that moves, who is told, and what is noted of pulls.
fn watching(config: &Config) -> Vec<String> {
    let audit = match config.audit_interval {
        Duration::ZERO => "only when they are pulled (audit.interval is 0)".to_owned(),
        interval => format!("every {}, young pins and open conflicts more often", Span(interval)),
    };
    let names: Vec<_> = config.webhooks.iter().map(|webhook| webhook.name.as_str()).collect();
    let told = match names.as_slice() {
        [] => "nobody; a [[webhook]] is told of tags that move".to_owned(),
        names => format!("the webhooks {}", names.join(", ")),
    };
    let journal = match config.journal.keep {
        Duration::ZERO => "not noted (journal.keep is 0)".to_owned(),
        keep => format!("noted for {}: `immutag pulls`", Span(keep)),
    };
    vec![
        format!("Watched: pinned tags are asked for {audit}."),
        format!("Told: {told}. Who pulls what: {journal}."),
    ]
}

/// The two most used clients, ready to paste.
fn snippets(listeners: &[ListenerConfig]) -> Vec<String> {
    let of_kind = |kind| listeners.iter().find(move |listener| listener.kind == kind);
    let mut lines = Vec::new();
    if let Some(mirror) = of_kind(ListenerKind::Mirror) {
        let mirror = format!("{}://{}", mirror.scheme(), reachable(mirror.address));
        lines.extend([
            "Docker, /etc/docker/daemon.json (docker.io only; then restart docker):".to_owned(),
            format!("  {{ \"registry-mirrors\": [\"{mirror}\"] }}"),
            "containerd, /etc/containerd/certs.d/docker.io/hosts.toml (no way round):".to_owned(),
            "  server = \"https://registry-1.docker.io\"".to_owned(),
            "  capabilities = [\"push\"]".to_owned(),
            format!("  [host.\"{mirror}\"]"),
            "    capabilities = [\"pull\", \"resolve\"]".to_owned(),
            "`immutag setup CLIENT` has all clients' settings, with what they leave open;"
                .to_owned(),
            "`immutag doctor` says whether a client of this host can go round.".to_owned(),
        ]);
    }
    lines
}

fn warnings(config: &Config, listeners: &[ListenerConfig]) -> Vec<String> {
    let mut warnings = Vec::new();
    if config.ledger == LedgerKind::File
        && let Some(kind) = fleeting(&config.data_dir)
    {
        warnings.push(format!(
            "the data directory {} is on {kind}: the ledger will be gone with it, and every tag \
             gets a second first sight; put data-dir on a volume that lasts",
            config.data_dir.display()
        ));
    }
    for (name, upstream) in &config.upstreams {
        if matches!(upstream.credentials, Credentials::Own { .. }) {
            let reach = listeners.iter().map(|listener| listener.address.to_string());
            warnings.push(format!(
                "{name} is asked with the operator's credentials: whoever reaches {} may read \
                 what they can",
                reach.collect::<Vec<_>>().join(" or ")
            ));
        }
    }
    if config.offline {
        warnings.push("offline: no upstream is asked; pinned and cached content goes on".into());
    }
    warnings
}

/// The file system's name, if it does not outlive a container or a boot.
fn fleeting(path: &Path) -> Option<&'static str> {
    const OVERLAYFS: i64 = 0x794c_7630;
    const TMPFS: i64 = 0x0102_1994;
    match rustix::fs::statfs(path).ok()?.f_type {
        OVERLAYFS => Some("an overlay file system (a container without a volume)"),
        TMPFS => Some("tmpfs (memory)"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_said_what_watches_who_is_told_and_what_is_noted() {
        let mut config = Config::with_data_dir("/nowhere".into());
        let lines = watching(&config).join(" ");
        assert!(lines.contains("every 1d") && lines.contains("Told: nobody"), "{lines}");
        config.audit_interval = Duration::ZERO;
        config.journal.keep = Duration::ZERO;
        let lines = watching(&config).join(" ");
        assert!(lines.contains("only when they are pulled"), "{lines}");
        assert!(lines.contains("not noted"), "{lines}");
    }

    #[test]
    fn a_mirror_says_which_registry_is_asked_where_none_is_named() {
        let mirror = ListenerConfig::new(([127, 0, 0, 1], 0).into(), ListenerKind::Mirror);
        assert!(purpose(&mirror).contains("docker.io where none"), "{}", purpose(&mirror));
        let own = ListenerConfig { default_upstream: "reg.example".parse().unwrap(), ..mirror };
        assert!(purpose(&own).contains("reg.example where none"), "{}", purpose(&own));
    }
}
