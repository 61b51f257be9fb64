//! Logs: text on a terminal, JSON otherwise, on standard error.
//!
//! What strangers chose (a path, a name, an upstream's words) stands in both as what it is, and
//! can neither begin a line of its own nor do anything to a terminal.

use std::fmt;
use std::io::{self, IsTerminal as _, Write};

use tracing::Subscriber;
use tracing::field::Field;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::field::MakeExt as _;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::{Writer, debug_fn};
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::printable::{escape, escape_json};

/// Starts logging. The level is `IMMUTAG_LOG`'s, in `tracing`'s filter syntax; `info` without it.
///
/// Only the first call in a process has an effect.
pub fn start() {
    let filter = EnvFilter::try_from_env("IMMUTAG_LOG")
        .unwrap_or_else(|_| EnvFilter::new("info,sled=warn,rustls=warn,hyper=warn"));
    // Already set: a second App in one process, as in tests.
    let _ = if io::stderr().is_terminal() {
        text(filter, io::stderr, true).try_init()
    } else {
        json(filter, io::stderr).try_init()
    };
}

/// Lines for people.
fn text<W>(filter: EnvFilter, writer: W, is_coloured: bool) -> impl Subscriber + Send + Sync
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_target(false);
    let builder = builder.fmt_fields(debug_fn(write_field).delimited(" "));
    builder.with_writer(writer).with_ansi(is_coloured).finish()
}

/// Lines for programs.
fn json<W>(filter: EnvFilter, writer: W) -> impl Subscriber + Send + Sync
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_target(false);
    let builder = builder.with_writer(Spelled(writer)).json();
    builder.flatten_event(true).with_current_span(false).finish()
}

/// One field of a line for people.
fn write_field(writer: &mut Writer<'_>, field: &Field, value: &dyn fmt::Debug) -> fmt::Result {
    let value = format!("{value:?}");
    let value = escape(&value);
    match field.name() {
        "message" => write!(writer, "{value}"),
        name if writer.has_ansi_escapes() => {
            write!(writer, "\u{1b}[3m{name}\u{1b}[0m\u{1b}[2m=\u{1b}[0m{value}")
        }
        name => write!(writer, "{name}={value}"),
    }
}

/// Gives lines of JSON on with everything spelled out that would show as something else.
struct Spelled<W>(W);

impl<'a, W: MakeWriter<'a>> MakeWriter<'a> for Spelled<W> {
    type Writer = Spelled<W::Writer>;

    fn make_writer(&'a self) -> Self::Writer {
        Spelled(self.0.make_writer())
    }
}

impl<W: Write> Write for Spelled<W> {
    /// Takes whole lines, as they are given here.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(line);
        self.0.write_all(escape_json(&text).as_bytes())?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    /// What attackers put into names, paths and words.
    const HOSTILE: &str = "x\ny\r\u{1b}[31mred\u{9b}2J\u{202e}kcab\u{200b}\"quoted\"\u{7f}\u{0}end";

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Kept {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    /// Tells it in every way that a line can carry it.
    fn tell() {
        let error = io::Error::other(HOSTILE);
        tracing::warn!(text = HOSTILE, shown = %HOSTILE, debug = ?HOSTILE, %error, "a {HOSTILE} b");
        tracing::warn!(message = HOSTILE, "second");
    }

    fn assert_harmless(log: &str) {
        let hidden =
            |character: char| character != '\n' && crate::printable::is_unprintable(character);
        assert!(!log.contains(hidden), "{log:?}");
        assert_eq!(log.lines().count(), 2, "{log}");
        assert!(log.contains("end"), "{log}");
    }

    #[test]
    fn text_of_strangers_begins_no_line_in_a_log_for_people() {
        let kept = Kept::default();
        let writer = kept.clone();
        let subscriber = text(EnvFilter::new("info"), move || writer.clone(), false);
        tracing::subscriber::with_default(subscriber, tell);
        assert_harmless(&kept.text());
        assert!(kept.text().contains("shown=x\\ny\\r\\u{1b}[31mred"), "{}", kept.text());
    }

    #[test]
    fn colours_are_ours_alone() {
        let kept = Kept::default();
        let writer = kept.clone();
        let subscriber = text(EnvFilter::new("info"), move || writer.clone(), true);
        tracing::subscriber::with_default(subscriber, tell);
        let log = kept.text();
        let plain = ["0", "2", "3", "32", "33"]
            .iter()
            .fold(log, |log, code| log.replace(&format!("\u{1b}[{code}m"), ""));
        assert_harmless(&plain);
    }

    #[test]
    fn text_of_strangers_is_spelled_out_in_a_log_for_programs() {
        let kept = Kept::default();
        let writer = kept.clone();
        let subscriber = json(EnvFilter::new("info"), move || writer.clone());
        tracing::subscriber::with_default(subscriber, tell);
        assert_harmless(&kept.text());
        for line in kept.text().lines().take(1) {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            assert_eq!((&line["text"], &line["shown"]), (&HOSTILE.into(), &HOSTILE.into()));
            assert_eq!(line["message"], format!("a {HOSTILE} b"));
        }
    }
}
