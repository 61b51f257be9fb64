//! The flags as containerd gives them: with one dash, as Go's `flag` reads them.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::Path;

/// A link of this name to the program is the gate: containerd runs what is in its directory with
/// nothing but its flags.
const LINK: &str = "immutag-verify-image";

/// The command's name.
const COMMAND: &str = "verify-image";

/// The flags that containerd knows. All of them have a value.
const FLAGS: [&str; 4] = ["name", "digest", "stdin-media-type", "operation"];

/// Whether these arguments are meant for the gate.
pub(in crate::cli) fn is_gate(arguments: &[OsString]) -> bool {
    arguments.iter().skip(1).any(|argument| argument == COMMAND)
}

/// The process's arguments in the command line's own form. A flag and its value become one word,
/// so that no value, whatever it begins with, is read as a flag.
pub(in crate::cli) fn translated(arguments: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut arguments: Vec<_> = arguments.collect();
    let program = arguments.first().and_then(|it| Path::new(it).file_name().map(OsString::from));
    if program.is_some_and(|name| name == LINK) {
        arguments.insert(1, COMMAND.into());
    }
    let Some(at) = arguments.iter().skip(1).position(|it| it == COMMAND) else { return arguments };
    let flags = arguments.split_off(at + 2);
    let mut flags = flags.into_iter();
    while let Some(argument) = flags.next() {
        let word = match name_of(&argument) {
            Some((name, Some(value))) => joined(name, &value),
            Some((name, None)) => match flags.next() {
                Some(value) => joined(name, &value),
                None => argument,
            },
            None => argument,
        };
        arguments.push(word);
    }
    arguments
}

/// Which flag an argument is, and the value that it brings along.
fn name_of(argument: &OsString) -> Option<(&'static str, Option<OsString>)> {
    let bytes = argument.as_bytes();
    let bare = bytes.strip_prefix(b"--").or_else(|| bytes.strip_prefix(b"-"))?;
    FLAGS.iter().find_map(|name| match bare.strip_prefix(name.as_bytes())? {
        [] => Some((*name, None)),
        [b'=', value @ ..] => Some((*name, Some(OsString::from_vec(value.to_vec())))),
        _ => None,
    })
}

fn joined(name: &str, value: &OsString) -> OsString {
    let mut word = OsString::from(format!("--{name}="));
    word.push(value);
    word
}

#[cfg(test)]
mod tests {
    use super::*;

    fn translate(line: &[&str]) -> Vec<String> {
        let words = translated(line.iter().map(OsString::from));
        words.into_iter().map(|word| word.into_string().unwrap()).collect()
    }

    #[test]
    fn flags_of_one_dash_are_read_and_their_values_never_are_flags() {
        for (line, expected) in [
            (
                vec!["/bin/immutag-verify-image", "-name", "a:1", "-digest", "d"],
                vec!["/bin/immutag-verify-image", "verify-image", "--name=a:1", "--digest=d"],
            ),
            (
                vec!["immutag", "verify-image", "-name=a:1", "--digest", "d", "--timeout", "1s"],
                vec!["immutag", "verify-image", "--name=a:1", "--digest=d", "--timeout", "1s"],
            ),
            (
                vec!["immutag", "verify-image", "-name", "-digest", "-digest", "--help"],
                vec!["immutag", "verify-image", "--name=-digest", "--digest=--help"],
            ),
            (
                vec!["immutag", "--config", "x", "verify-image", "-name"],
                vec!["immutag", "--config", "x", "verify-image", "-name"],
            ),
            (
                vec!["immutag", "ledger", "list", "-name", "x"],
                vec!["immutag", "ledger", "list", "-name", "x"],
            ),
            (
                vec!["immutag-verify-image", "-names", "x", "-name", "verify-image"],
                vec!["immutag-verify-image", "verify-image", "-names", "x", "--name=verify-image"],
            ),
            (vec![], vec![]),
        ] {
            assert_eq!(translate(&line), expected, "{line:?}");
        }
    }

    #[test]
    fn a_value_that_is_no_text_stays_what_it_is() {
        let hostile = OsString::from_vec(vec![0xff, b'-']);
        let line = [LINK.into(), "-name".into(), hostile.clone()];
        let mut expected = OsString::from("--name=");
        expected.push(&hostile);
        assert_eq!(translated(line.into_iter())[2], expected);
    }
}
