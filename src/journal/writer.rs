//! From what was noted to lines in files, and what is told when they cannot be written.

use std::io;

use super::Options;
use super::files::Files;
use super::line::Pulled;
use super::merge::{Key, Requests};
use super::steady::Steady;
use crate::clock::Clock;
use crate::metrics::JournalMetrics;

/// How much is written at once, in bytes, and a line more.
const PIECE: usize = 32 << 10;

pub(super) struct Writer {
    files: Files,
    steady: Steady,
    /// How many were lost when it was last looked, and when the trouble that goes on was told.
    lost: u64,
    lost_before: Option<u64>,
}

impl Writer {
    pub(super) fn new(options: Options, clock: &dyn Clock) -> Self {
        let files = Files::new(options);
        Self { files, steady: Steady::new(clock), lost: 0, lost_before: None }
    }

    pub(super) fn folder(&self) -> &std::path::Path {
        &self.files.options.folder
    }

    /// Writes entries, and removes files that are too old. What cannot be written is lost.
    pub(super) fn write(
        &mut self,
        entries: Vec<(Key, Requests)>,
        clock: &dyn Clock,
        metrics: &JournalMetrics,
    ) {
        let now_ms = clock.wall_ms();
        let mut trouble = None;
        let mut piece = Piece::default();
        for (key, requests) in entries {
            piece.add(&Pulled::new(&key, requests));
            if piece.lines.len() >= PIECE {
                trouble =
                    std::mem::take(&mut piece).write(&mut self.files, now_ms, metrics).or(trouble);
            }
        }
        trouble = piece.write(&mut self.files, now_ms, metrics).or(trouble);
        let aged = self.files.expire(self.steady.now_ms(clock));
        metrics.bytes.set(i64::try_from(self.files.bytes()).unwrap_or(i64::MAX));
        self.tell(trouble.or(aged.err()), metrics);
    }

    /// Tells trouble when it begins and when it ends, and no more.
    fn tell(&mut self, trouble: Option<io::Error>, metrics: &JournalMetrics) {
        let lost = metrics.dropped.get();
        let is_more = lost > std::mem::replace(&mut self.lost, lost);
        let folder = self.files.options.folder.display();
        match (trouble, self.lost_before) {
            (Some(error), None) => {
                self.lost_before = Some(lost);
                tracing::error!(%folder, %error,
                    "the journal of pulls cannot be written; pulls go on, and are not written down");
            }
            (None, None) if is_more => {
                self.lost_before = Some(lost);
                tracing::error!(%folder,
                    "more pulls come than the journal takes; those that are lost are counted");
            }
            (None, Some(before)) if !is_more => {
                self.lost_before = None;
                let lost = lost.saturating_sub(before);
                tracing::info!(%folder, lost, "the journal of pulls is written again");
            }
            _ => {}
        }
    }
}

/// Lines that are written together.
#[derive(Default)]
struct Piece {
    lines: Vec<u8>,
    entries: u64,
    requests: u64,
}

impl Piece {
    fn add(&mut self, pulled: &Pulled) {
        pulled.write_to(&mut self.lines);
        self.entries += 1;
        self.requests = self.requests.saturating_add(pulled.count);
    }

    fn write(self, files: &mut Files, now_ms: u64, metrics: &JournalMetrics) -> Option<io::Error> {
        if self.lines.is_empty() {
            return None;
        }
        match files.append(&self.lines, now_ms) {
            Ok(()) => {
                metrics.entries.inc_by(self.entries);
                None
            }
            Err(error) => {
                metrics.dropped.inc_by(self.requests);
                Some(error)
            }
        }
    }
}
