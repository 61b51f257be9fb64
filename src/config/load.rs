//! Finds the configuration, reads it, and says everything that is wrong with it.

use std::path::{Path, PathBuf};

use super::document::{Document, TextKind, Texts};
use super::environment::{overlay, variables};
use super::problem::{ConfigError, Place, Problem};
use super::read::read;
use super::resolve::{Report, resolve};
use super::resolved::{Config, LedgerKind};

/// The file that is read when nothing names one, if it is there.
pub const DEFAULT_FILE: &str = "immutag.toml";

/// Where a configuration comes from. It has no Debug form: the environment holds secrets.
#[derive(Clone, Default)]
pub struct Sources {
    /// `--config`.
    pub path: Option<PathBuf>,
    /// `--data-dir`.
    pub data_dir: Option<PathBuf>,
    /// `--ledger`.
    pub ledger: Option<LedgerKind>,
    /// `--lock`.
    pub lock: Option<PathBuf>,
    /// `--locked`.
    pub is_locked: bool,
    /// The environment: `IMMUTAG_CONFIG`, `IMMUTAG__*`, `XDG_STATE_HOME`, `HOME`.
    pub environment: Vec<(String, String)>,
    /// Where relative paths of the command line and the environment begin. (Those in a file begin
    /// at the file's directory.)
    pub working_dir: PathBuf,
    /// Whether this process is root: the data directory's default depends on it.
    pub is_root: bool,
}

/// Reads the configuration: `--config`, else `IMMUTAG_CONFIG`, else `immutag.toml` in the working
/// directory if it is there; `IMMUTAG__*` over it; defaults for the rest.
///
/// # Errors
/// Everything that is wrong. Nothing is created or changed on the way; files named by the
/// configuration (secrets, certificates) are read, and credential helpers run where one is named.
pub fn load(sources: Sources) -> Result<Config, ConfigError> {
    let mut texts = Texts::default();
    let file = sources.file();
    let file_text = match &file {
        None => None,
        Some(path) => {
            let text =
                read_file(path).map_err(|problem| ConfigError { problems: vec![problem] })?;
            Some(texts.add(&path.display().to_string(), TextKind::File, &text))
        }
    };
    let variables = variables(&sources.environment, &mut texts);
    let mut document = Document::default();
    let mut problems = Vec::new();
    match file_text.map_or_else(|| Ok(document_root()), |index| texts.parse(index)) {
        Ok(root) => document.root = root,
        Err(syntax) => problems.extend(syntax),
    }
    problems.extend(overlay(&mut document, &variables, &texts));
    if !problems.is_empty() {
        // What follows from text that could not be read would only confuse.
        return Err(ConfigError { problems });
    }
    let (raw, problems) = read(&mut document, &texts);
    let file_dir = file.as_deref().and_then(Path::parent).map(Path::to_owned);
    let report = Report { document: &document, texts: &texts, problems, file_dir, sources };
    resolve(raw, report)
}

impl Sources {
    /// This process's environment, working directory and user.
    pub fn of_process() -> Self {
        Self {
            path: None,
            data_dir: None,
            ledger: None,
            lock: None,
            is_locked: false,
            // A variable that is no UTF-8 cannot be one of ours.
            environment: std::env::vars_os()
                .filter_map(|(key, value)| {
                    Some((key.into_string().ok()?, value.into_string().ok()?))
                })
                .collect(),
            working_dir: std::env::current_dir().unwrap_or_default(),
            is_root: rustix::process::geteuid().is_root(),
        }
    }

    fn file(&self) -> Option<PathBuf> {
        let named =
            self.path.clone().or_else(|| self.variable("IMMUTAG_CONFIG").map(PathBuf::from));
        match named {
            Some(path) => Some(self.working_dir.join(path)),
            None => Some(self.working_dir.join(DEFAULT_FILE)).filter(|path| path.exists()),
        }
    }

    /// The value of an environment variable that is set and not empty.
    pub(super) fn variable(&self, name: &str) -> Option<&str> {
        let found = self.environment.iter().find(|(key, _)| key == name)?;
        Some(found.1.as_str()).filter(|value| !value.is_empty())
    }

    /// Where data goes when nobody says so: `/var/lib/immutag` as root, else
    /// `$XDG_STATE_HOME/immutag`, else `~/.local/state/immutag`.
    pub(super) fn default_data_dir(&self) -> Option<PathBuf> {
        if self.is_root {
            return Some(PathBuf::from("/var/lib/immutag"));
        }
        let absolute = |name| {
            self.variable(name).map(PathBuf::from).filter(|directory| directory.is_absolute())
        };
        let state = absolute("XDG_STATE_HOME")
            .or_else(|| absolute("HOME").map(|home| home.join(".local/state")));
        state.map(|state| state.join("immutag"))
    }
}

fn document_root<'t>() -> toml::de::DeTable<'t> {
    toml::de::DeTable::new()
}

fn read_file(path: &Path) -> Result<String, Problem> {
    let problem = |message: String| Problem {
        place: Some(Place { source: path.display().to_string(), position: None }),
        key: String::new(),
        message,
    };
    let bytes = std::fs::read(path)
        .map_err(|error| problem(format!("the configuration file cannot be read: {error}")))?;
    String::from_utf8(bytes).map_err(|_| problem("the configuration file is not UTF-8".to_owned()))
}

#[cfg(test)]
mod tests;
