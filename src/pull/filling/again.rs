//! Asking an upstream for the rest of a blob whose body broke off.

use async_trait::async_trait;
use futures_util::StreamExt as _;

use super::super::resume::{Part, Rest};
use super::Filling;
use crate::upstream::{Answer, Ask, Method, Unavailability, UpstreamError};

/// Asks the upstream for the rest of a blob that broke off.
pub(super) struct Again {
    pub(super) of: Filling,
    /// The length that it announced first, in bytes.
    pub(super) size_bytes: Option<u64>,
}

#[async_trait]
impl Rest for Again {
    async fn ask(&mut self, at: u64, is_free: bool) -> Result<Part, UpstreamError> {
        let Filling { pull, origin, digest } = &self.of;
        let upstream = &origin.upstream;
        if pull.is_offline(upstream) || (!is_free && !upstream.may_retry()) {
            return Err(UpstreamError::unavailable(Unavailability::CutShort));
        }
        let range_from = (at > 0).then_some(at);
        let answer = upstream.ask(Ask { range_from, ..origin.blob(*digest, Method::Get) }).await;
        pull.edges.metrics.fills.resumes.inc();
        let answer = answer?;
        let begins = begins(&answer, at, self.size_bytes)?;
        Ok(Part { body: answer.body.boxed(), begins })
    }
}

/// Where the body of an answer to a request for the bytes from `at` on begins: it must go to the
/// end of a blob of the same length.
fn begins(answer: &Answer, at: u64, size_bytes: Option<u64>) -> Result<u64, UpstreamError> {
    let (begins, end) = match answer.status {
        200 => (0, answer.content_length),
        206 => (at, answer.content_range.as_deref().and_then(end_of)),
        _ => return Err(UpstreamError::Invalid("it does not give the rest of a blob")),
    };
    let length = answer.content_length.map(|length| begins + length);
    let fits = |end: Option<u64>| size_bytes.is_none() || end.is_none() || end == size_bytes;
    let is_part_known = answer.status == 200 || end.is_some();
    if answer.content_encoded || !fits(end) || !fits(length) || !is_part_known {
        return Err(UpstreamError::Invalid("it sends another part than was asked for"));
    }
    Ok(begins)
}

/// The end of a Content-Range that goes to the end of the whole, in bytes.
fn end_of(content_range: &str) -> Option<u64> {
    let (part, whole) = content_range.strip_prefix("bytes ")?.split_once('/')?;
    let last: u64 = part.split_once('-')?.1.trim().parse().ok()?;
    let whole: u64 = whole.trim().parse().ok()?;
    (last.checked_add(1)? == whole).then_some(whole)
}
