//! What the demo prints: in colour on a terminal that wants it, plain text otherwise.

use std::io::{self, IsTerminal, Write};

/// How wide a line may be.
const WIDTH: usize = 100;

/// What a text stands for; the terminal's own palette gives the colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ink {
    Bad,
    Faint,
    Good,
    Heading,
    Plain,
    Warning,
}

impl Ink {
    const fn code(self) -> &'static str {
        match self {
            Self::Bad => "31",
            Self::Faint => "2",
            Self::Good => "32",
            Self::Heading => "1",
            Self::Plain => "0",
            Self::Warning => "33",
        }
    }
}

/// Where the demo prints to.
pub(super) struct Screen<'a> {
    to: &'a mut (dyn Write + Send),
    in_colour: bool,
}

impl<'a> Screen<'a> {
    pub(super) fn new(to: &'a mut (dyn Write + Send), in_colour: bool) -> Self {
        Self { to, in_colour }
    }

    /// A line of pieces, each in its ink.
    pub(super) fn line(&mut self, pieces: &[(Ink, &str)]) -> io::Result<()> {
        for (ink, text) in pieces {
            if self.in_colour && *ink != Ink::Plain {
                write!(self.to, "\x1b[{}m{text}\x1b[0m", ink.code())?;
            } else {
                write!(self.to, "{text}")?;
            }
        }
        writeln!(self.to)
    }

    /// A line in one ink.
    pub(super) fn say(&mut self, ink: Ink, text: &str) -> io::Result<()> {
        self.line(&[(ink, text)])
    }

    /// A heading, with air above it.
    pub(super) fn heading(&mut self, text: &str) -> io::Result<()> {
        writeln!(self.to)?;
        self.say(Ink::Heading, text)
    }

    /// A text of any length, below and right of what it belongs to.
    pub(super) fn note(&mut self, ink: Ink, indent: usize, text: &str) -> io::Result<()> {
        for line in wrap(text, WIDTH.saturating_sub(indent)) {
            self.line(&[(Ink::Plain, &" ".repeat(indent)), (ink, &line)])?;
        }
        Ok(())
    }
}

/// Whether standard output wants colour: a terminal, and `NO_COLOR` (no-color.org) is not set.
pub(super) fn wants_colour() -> bool {
    let is_refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let is_dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    !is_refused && !is_dumb && io::stdout().is_terminal()
}

/// A text with its digests cut to twelve digits: the demo's only liberty with what was answered.
pub(super) fn short(text: &str) -> String {
    const KEPT: usize = "sha256:".len() + 12;
    const WHOLE: usize = "sha256:".len() + 64;
    let mut rest = text;
    let mut shortened = String::new();
    while let Some(at) = rest.find("sha256:") {
        let (before, digest) = rest.split_at(at);
        shortened += before;
        let is_whole = digest
            .get(KEPT..WHOLE)
            .is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_hexdigit()));
        let (kept, taken) = if is_whole { (KEPT, WHOLE) } else { (7, 7) };
        shortened += &digest[..kept];
        rest = &digest[taken..];
    }
    shortened + rest
}

/// Breaks a text at spaces, so that no line is longer than `width`, unless one word is.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let last = lines.last_mut().expect("there is always a line");
        if last.is_empty() {
            last.push_str(word);
        } else if last.chars().count() + 1 + word.chars().count() <= width {
            last.push(' ');
            last.push_str(word);
        } else {
            lines.push(word.to_owned());
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_cut_and_nothing_else_is() {
        let digest = format!("sha256:{}", "0123456789abcdef".repeat(4));
        let text = format!("from {digest} to {digest}; sha256:abc stays, sha256: too");
        let cut = "sha256:0123456789ab";
        assert_eq!(short(&text), format!("from {cut} to {cut}; sha256:abc stays, sha256: too"));
    }

    #[test]
    fn a_long_text_is_broken_at_spaces() {
        assert_eq!(wrap("one two three", 7), ["one two", "three"]);
        assert_eq!(wrap("immeasurable x", 3), ["immeasurable", "x"]);
    }

    #[test]
    fn plain_text_has_no_colour() {
        for (in_colour, expected) in [(false, "a b\n"), (true, "a \x1b[31mb\x1b[0m\n")] {
            let mut text = Vec::new();
            Screen::new(&mut text, in_colour).line(&[(Ink::Plain, "a "), (Ink::Bad, "b")]).unwrap();
            assert_eq!(String::from_utf8(text).unwrap(), expected);
        }
    }
}
