//! What is wrong with a configuration, and where.

use std::fmt;

/// Everything that is wrong with a configuration; never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// In the order of their places.
    pub problems: Vec<Problem>,
}

/// One thing that is wrong. It never quotes a secret.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// Where; `None` for what no text says (a missing home directory, for one).
    pub place: Option<Place>,
    /// The key, as a person would write it: `cache.max-size`, `rule 2: on-conflict`; may be empty.
    pub key: String,
    /// What is wrong and what to do.
    pub message: String,
}

/// A place in a configuration.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Whether it is a file, and its name; else the name of an environment variable.
    pub source: String,
    /// Line and column, both from 1; `None` for a variable that is one value.
    pub position: Option<(usize, usize)>,
}

/// Where in a configuration something stands: tables, keys and places in lists.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct KeyPath(Vec<Step>);

/// One step of a [`KeyPath`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Into a list, from 0.
    At(usize),
    /// Into a table.
    Key(String),
}

impl KeyPath {
    /// A top-level key.
    pub fn new(key: &str) -> Self {
        Self::default().key(key)
    }

    /// A key of the table at this path.
    pub fn key(&self, key: &str) -> Self {
        self.with(Step::Key(key.to_owned()))
    }

    /// An element, from 0, of the list at this path.
    pub fn at(&self, index: usize) -> Self {
        self.with(Step::At(index))
    }

    /// The steps, from the top.
    pub fn steps(&self) -> &[Step] {
        &self.0
    }

    /// The last key.
    pub fn last_key(&self) -> Option<&str> {
        self.0.iter().rev().find_map(|step| match step {
            Step::At(_) => None,
            Step::Key(key) => Some(key.as_str()),
        })
    }

    fn with(&self, step: Step) -> Self {
        let mut steps = self.0.clone();
        steps.push(step);
        Self(steps)
    }
}

impl fmt::Display for KeyPath {
    /// `cache.max-size`, `upstream."ghcr.io".url`, `rule 2: on-conflict`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for step in &self.0 {
            match step {
                Step::At(index) => {
                    write!(f, " {}", index + 1)?;
                    separator = ": ";
                }
                Step::Key(key) => {
                    let is_bare = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
                    if !key.is_empty() && key.bytes().all(is_bare) {
                        write!(f, "{separator}{key}")?;
                    } else {
                        write!(f, "{separator}{key:?}")?;
                    }
                    separator = ".";
                }
            }
        }
        Ok(())
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.position {
            None => f.write_str(&self.source),
            Some((line, column)) => write!(f, "{}:{line}:{column}", self.source),
        }
    }
}

impl fmt::Display for Problem {
    /// `immutag.toml:12:5: cache.max-size: …`, as compilers write it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(place) = &self.place {
            write!(f, "{place}: ")?;
        }
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.message)
    }
}

impl fmt::Display for ConfigError {
    /// One line per problem.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.problems.len() {
            1 => f.write_str("the configuration has a problem:")?,
            count => write!(f, "the configuration has {count} problems:")?,
        }
        for problem in &self.problems {
            write!(f, "\n  {problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_read_as_a_person_writes_them() {
        let path = KeyPath::new("upstream").key("ghcr.io").key("auth-hosts").at(0);
        assert_eq!(path.to_string(), "upstream.\"ghcr.io\".auth-hosts 1");
        assert_eq!(path.last_key(), Some("auth-hosts"));
        let path = KeyPath::new("rule").at(1).key("on-conflict");
        assert_eq!(path.to_string(), "rule 2: on-conflict");
    }
}
