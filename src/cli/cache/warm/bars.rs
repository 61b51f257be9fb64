//! How far it is, on standard error: bars on a terminal, elsewhere a line when one is done.

use std::io::{self, IsTerminal as _, Write as _};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::super::super::table::escape;
use super::Outcome;
use crate::pull::WarmProgress;
use crate::units::ByteSize;

/// The bars of all that is pulled at once, with one for the whole.
pub(super) struct Bars {
    all: Option<(MultiProgress, ProgressBar)>,
}

/// The bar of one reference; it goes when it is dropped.
pub(super) struct Bar(Option<ProgressBar>);

impl Bars {
    /// For so many references.
    pub(super) fn new(references: usize) -> Self {
        let all = io::stderr().is_terminal().then(|| {
            let bars = MultiProgress::new();
            let whole = bars.add(ProgressBar::new(references as u64));
            whole.set_style(style("{pos} of {len} {bar:30}"));
            (bars, whole)
        });
        Self { all }
    }

    /// A bar for a reference.
    pub(super) fn begin(&self, reference: &str) -> Bar {
        Bar(self.all.as_ref().map(|(bars, whole)| {
            let bar = bars.insert_before(whole, ProgressBar::new(0));
            bar.set_style(style("{bar:30} {bytes:>10}/{total_bytes:10} {msg}"));
            bar.set_message(escape(reference).into_owned());
            bar
        }))
    }

    /// Tells that one is done.
    pub(super) fn tell(&self, outcome: &Outcome) {
        let Outcome { reference, state, warmed, remark } = outcome;
        let fetched = warmed.as_ref().map(|warmed| ByteSize(warmed.fetched_bytes));
        let fetched = fetched.map(|size| format!(", {size} fetched")).unwrap_or_default();
        let glue = if remark.is_empty() { "" } else { ": " };
        let line = format!("{state}  {reference}{fetched}{glue}{remark}");
        match &self.all {
            Some((_, whole)) => whole.inc(1),
            // Standard error is gone: the exit code is what is left.
            None => drop(writeln!(io::stderr(), "{}", escape(&line))),
        }
    }
}

impl Drop for Bars {
    fn drop(&mut self) {
        if let Some((_, whole)) = &self.all {
            whole.finish_and_clear();
        }
    }
}

impl Bar {
    /// So far.
    pub(super) fn set(&self, progress: WarmProgress) {
        if let Some(bar) = &self.0 {
            bar.set_length(progress.total_bytes);
            bar.set_position(progress.done_bytes);
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).expect("our own templates are valid")
}
