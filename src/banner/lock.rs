//! What a start says of its lock file.

use std::path::Path;

use crate::config::{Config, LedgerKind};
use crate::printable::escape;
use crate::pull::Lock;

/// What it holds, if there is one.
pub(super) fn lines(config: &Config, lock: Option<&Lock>) -> Vec<String> {
    let (Some(configured), Some(lock)) = (&config.lock, lock) else { return Vec::new() };
    vec![sentence(&configured.file, lock), String::new()]
}

fn sentence(file: &Path, lock: &Lock) -> String {
    let file = file.display().to_string();
    let held = match lock.file.images.len() {
        1 => "1 reference is held".to_owned(),
        count => format!("{count} references are held"),
    };
    let others = if lock.is_locked {
        "what is not in it, or led to by it, is refused"
    } else {
        "the rules decide for what is not in it"
    };
    format!("Lock file {}: {held} to it; {others}.", escape(&file))
}

/// What holds, and what this process cannot do alone.
pub(super) fn enforcement(lock: Option<&Lock>) -> Vec<String> {
    let by_digest = if lock.is_some_and(|lock| lock.is_locked) {
        "them go on to the registry while this process is down."
    } else {
        "them go on to the registry while this process is down; references by digest."
    };
    [
        "Enforced: a held tag is served as it was first seen; a blocked one stops the client.",
        "Not enforced by this process: clients that are not set to it; clients whose settings let",
        by_digest,
    ]
    .map(str::to_owned)
    .to_vec()
}

/// What is wrong with a ledger that begins empty with each process, and with no list.
pub(super) fn warning(config: &Config) -> Option<String> {
    let is_born_empty = config.ledger == LedgerKind::Memory && config.lock.is_none();
    is_born_empty.then(|| {
        "the ledger is in memory and begins empty: each start trusts every tag anew; name a lock \
         file (--lock images.lock), or keep the ledger in a file"
            .to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::LockConfig;
    use crate::lockfile::LockFile;

    fn told(is_locked: bool) -> (String, String) {
        let lock = Lock::new(LockFile::default(), is_locked);
        let file = "/ci/\u{1b}[31mimages.lock".into();
        let mut config = Config::with_data_dir("/nowhere".into());
        config.lock = Some(LockConfig { file, is_locked });
        (lines(&config, Some(&lock)).join(" "), enforcement(Some(&lock)).join(" "))
    }

    #[test]
    fn it_is_said_how_much_is_locked_and_what_becomes_of_the_rest() {
        let (held, enforced) = told(true);
        assert!(held.contains("/ci/\\u{1b}[31mimages.lock: 0 references"), "{held}");
        assert!(held.contains("is refused") && !enforced.contains("by digest"), "{enforced}");
        let (held, enforced) = told(false);
        assert!(held.contains("the rules decide") && enforced.contains("by digest"), "{held}");
        assert!(lines(&Config::with_data_dir("/nowhere".into()), None).is_empty());
    }

    #[test]
    fn a_ledger_in_memory_without_a_lock_file_is_warned_of() {
        let mut config = Config::with_data_dir("/nowhere".into());
        assert_eq!(warning(&config), None);
        config.ledger = LedgerKind::Memory;
        assert!(warning(&config).is_some_and(|words| words.contains("trusts every tag anew")));
        config.lock = Some(LockConfig { file: "images.lock".into(), is_locked: false });
        assert_eq!(warning(&config), None);
    }
}
