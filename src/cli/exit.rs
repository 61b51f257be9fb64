//! Exit codes: design, section 9.

use std::io::{self, Write as _};
use std::process::ExitCode;

use super::table::escape;
use crate::app::StartError;
use crate::config::{ConfigError, LockFault};
use crate::decide::Fault;
use crate::ledger::{BackupError, OpenError, RestoreError};
use crate::lockfile::LockError;
use crate::notify::WebhookSetupError;
use crate::upstream::UpstreamSetupError;

/// What a command that ran to its end came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Code {
    /// All is well.
    Ok = 0,
    /// It failed.
    Failure = 1,
    /// What was typed or configured cannot be used.
    Usage = 2,
    /// There is a conflict.
    Finding = 3,
    /// The ledger is damaged or rolled back.
    Damage = 4,
    /// An upstream could not be asked.
    Unreachable = 5,
    /// Something was used that is not in the lock file.
    Unlocked = 6,
}

impl From<Code> for ExitCode {
    fn from(code: Code) -> Self {
        Self::from(code as u8)
    }
}

/// The exit code of a command, after its error, if there is one, is told on standard error.
pub(crate) fn code(result: anyhow::Result<ExitCode>) -> ExitCode {
    let error = match result {
        Ok(code) => return code,
        Err(error) => error,
    };
    if is_closed_pipe(&error) {
        return Code::Ok.into();
    }
    let text = format!("{error:#}");
    let lines: Vec<_> = text.lines().map(escape).collect();
    // Standard error is gone: the exit code is what is left.
    let _ = writeln!(io::stderr(), "error: {}", lines.join("\n"));
    code_of(&error).into()
}

/// Whoever read our output has seen enough (`| head`): no failure.
fn is_closed_pipe(error: &anyhow::Error) -> bool {
    let kind = error.downcast_ref::<io::Error>().map(io::Error::kind);
    kind == Some(io::ErrorKind::BrokenPipe)
}

fn code_of(error: &anyhow::Error) -> Code {
    let is_usage = error.is::<ConfigError>()
        || error.is::<UpstreamSetupError>()
        || error.is::<LockError>()
        || error.is::<LockFault>()
        || error.is::<WebhookSetupError>();
    let is_start = |matching: fn(&StartError) -> bool| {
        error.downcast_ref::<StartError>().is_some_and(matching)
    };
    let is_damage = error.downcast_ref::<OpenError>().is_some_and(OpenError::is_damage)
        || matches!(
            error.downcast_ref(),
            Some(RestoreError::RollsBack(_) | RestoreError::Backup(BackupError::Damaged { .. }))
        )
        || matches!(error.downcast_ref(), Some(RestoreError::Open(error)) if error.is_damage())
        || error.downcast_ref::<Fault>().is_some_and(Fault::is_damage)
        || is_start(|error| matches!(error, StartError::Ledger(error) if error.is_damage()));
    if is_damage || is_start(|error| matches!(error, StartError::LockLedger(it) if it.is_damage()))
    {
        Code::Damage
    } else if is_start(|error| matches!(error, StartError::LockConflicts { .. })) {
        Code::Finding
    } else if is_usage
        || is_start(|error| {
            matches!(
                error,
                StartError::Lock { .. } | StartError::Upstream(_) | StartError::Webhook(_)
            )
        })
    {
        Code::Usage
    } else {
        Code::Failure
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_have_the_codes_that_scripts_rely_on() {
        let rolled_back = || OpenError::RolledBack { what: "it is shorter".into() };
        let config = ConfigError { problems: Vec::new() };
        let locked = OpenError::Locked { data_dir: "d".into(), holder: "process 1".into() };
        for (error, expected) in [
            (anyhow::Error::from(rolled_back()), Code::Damage),
            (anyhow::Error::from(StartError::Ledger(rolled_back())), Code::Damage),
            (Fault::Damaged("a byte".into()).into(), Code::Damage),
            (anyhow::Error::from(rolled_back()).context("at the start"), Code::Damage),
            (RestoreError::RollsBack("by 1".into()).into(), Code::Damage),
            (Fault::SpoilsReason.into(), Code::Failure),
            (locked.into(), Code::Failure),
            (config.into(), Code::Usage),
            (io::Error::from(io::ErrorKind::NotFound).into(), Code::Failure),
        ] {
            assert_eq!(code_of(&error), expected, "{error:?}");
        }
        let closed = io::Error::from(io::ErrorKind::BrokenPipe);
        assert_eq!(code(Err(closed.into())), ExitCode::SUCCESS);
    }
}
