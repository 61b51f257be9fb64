//! Making a client pull, as a person would by hand.

use std::ffi::OsStr;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::Trial;
use crate::cli::clients::ClientKind;

/// How long one command may take.
const PATIENCE: Duration = Duration::from_mins(2);

/// containerd's namespace for what this pulls.
const NAMESPACE: &str = "immutag-doctor";

/// What a pull came to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Pulled {
    /// This manifest digest, by the client's own word.
    Got(String),
    /// Nothing; the client's last words.
    Stopped(String),
}

/// A client that can be made to pull.
pub(super) enum Driver {
    /// `ctr`, with the `hosts.toml` files that containerd's CRI plugin uses.
    Ctr {
        /// Their directory.
        hosts_dir: String,
    },
    Docker,
    Podman,
}

impl Driver {
    /// The way to make a client pull, if there is one and its program is here.
    pub(super) fn find(trial: &Trial<'_>) -> Option<Self> {
        let hosts_dir = trial.hosts_folder.to_owned();
        let driver = match trial.client {
            ClientKind::Containerd => Self::Ctr { hosts_dir },
            ClientKind::Docker => Self::Docker,
            ClientKind::Podman => Self::Podman,
            ClientKind::Buildkit
            | ClientKind::Crio
            | ClientKind::K3s
            | ClientKind::Rke2
            | ClientKind::Talos => return None,
        };
        is_installed(driver.program()).then_some(driver)
    }

    /// What was run, for a finding.
    pub(super) fn place(&self) -> String {
        match self {
            Self::Ctr { hosts_dir } => format!("ctr images pull --hosts-dir {hosts_dir}"),
            Self::Docker => "docker pull".to_owned(),
            Self::Podman => "podman pull".to_owned(),
        }
    }

    /// Pulls, and asks the client what it has then.
    pub(super) async fn pull(&self, reference: &str) -> Pulled {
        let pull = match self {
            Self::Ctr { hosts_dir } => {
                let options = ["images", "pull", "--hosts-dir", hosts_dir, reference];
                [&["--namespace", NAMESPACE][..], &options].concat()
            }
            Self::Docker | Self::Podman => vec!["pull", "--quiet", reference],
        };
        match self.run(pull).await {
            Ok(_) => self.digest(reference).await.map_or_else(Pulled::Stopped, Pulled::Got),
            Err(words) => Pulled::Stopped(words),
        }
    }

    /// Removes what was pulled; what stays is small and in nobody's way.
    pub(super) async fn clean(&self, references: &[String]) {
        for reference in references {
            let remove = match self {
                Self::Ctr { .. } => vec!["--namespace", NAMESPACE, "images", "rm", reference],
                Self::Docker | Self::Podman => vec!["image", "rm", "--force", reference],
            };
            let _ = self.run(remove).await;
        }
        if let Self::Ctr { .. } = self {
            let _ = self.run(vec!["namespaces", "rm", NAMESPACE]).await;
        }
    }

    async fn digest(&self, reference: &str) -> Result<String, String> {
        let ask = match self {
            Self::Ctr { .. } => {
                let filter = format!("name=={reference}");
                let ask = ["--namespace", NAMESPACE, "images", "ls", &filter];
                return self.run(ask.to_vec()).await.and_then(|words| digest_in(&words));
            }
            Self::Docker => {
                ["image", "inspect", "--format", "{{range .RepoDigests}}{{.}} {{end}}", reference]
            }
            Self::Podman => ["image", "inspect", "--format", "{{.Digest}}", reference],
        };
        self.run(ask.to_vec()).await.and_then(|words| digest_in(&words))
    }

    const fn program(&self) -> &'static str {
        match self {
            Self::Ctr { .. } => "ctr",
            Self::Docker => "docker",
            Self::Podman => "podman",
        }
    }

    /// Standard output of a command that succeeded, else the last of what it said.
    async fn run(&self, arguments: Vec<&str>) -> Result<String, String> {
        let program = self.program();
        let mut command = Command::new(program);
        command.args(arguments.iter().map(OsStr::new)).stdin(Stdio::null());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = command.spawn().map_err(|error| format!("{program}: {error}"))?;
        let id = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw);
        let waiting = tokio::task::spawn_blocking(move || child.wait_with_output());
        let Ok(waited) = tokio::time::timeout(PATIENCE, waiting).await else {
            if let Some(id) = id {
                // It may just have ended.
                let _ = rustix::process::kill_process(id, rustix::process::Signal::KILL);
            }
            return Err(format!("{program} did not end within {} s", PATIENCE.as_secs()));
        };
        let output =
            waited.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        if output.status.success() {
            return Ok(text(&output.stdout));
        }
        let (said, printed) = (text(&output.stderr), text(&output.stdout));
        Err(last_words(if said.is_empty() { &printed } else { &said }))
    }
}

/// The first SHA-256 digest in what a client printed.
fn digest_in(words: &str) -> Result<String, String> {
    let digests = words.split(|end: char| end.is_whitespace() || end == '@' || end == '"');
    let mut digests = digests.filter(|word| word.starts_with("sha256:") && word.len() == 71);
    digests.next().map(str::to_owned).ok_or_else(|| format!("it named no digest: {words}"))
}

/// The last line, at most 600 characters of it.
fn last_words(text: &str) -> String {
    text.lines().last().unwrap_or_default().chars().take(600).collect()
}

fn is_installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_found_in_what_each_client_prints() {
        let digest = format!("sha256:{}", "0a".repeat(32));
        for words in [
            digest.clone(),
            format!("docker.io/immutag-canary/x@{digest} "),
            format!("REF TYPE DIGEST\nx application/json {digest} 1.0 KiB linux/amd64 -"),
        ] {
            assert_eq!(digest_in(&words), Ok(digest.clone()));
        }
        assert!(digest_in("sha256:short").is_err());
    }

    #[test]
    fn last_words_are_one_line_and_bounded() {
        assert_eq!(last_words("a\nb\n"), "b");
        assert_eq!(last_words(&"x".repeat(5000)).len(), 600);
        assert_eq!(last_words(""), "");
    }
}
