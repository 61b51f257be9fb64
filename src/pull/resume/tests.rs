use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::*;

mod interleavings;

/// An upstream that gives what it has in the order of its answers; then it refuses.
#[derive(Clone, Default)]
struct Scripted {
    answers: Arc<Mutex<Vec<Answer>>>,
    asked: Arc<Mutex<Vec<(u64, bool)>>>,
}

type Chunk = Result<Bytes, UpstreamError>;
/// Where the body begins, and the body.
type Answer = Result<(u64, Vec<Chunk>), UpstreamError>;

#[async_trait]
impl Rest for Scripted {
    async fn ask(&mut self, at: u64, is_free: bool) -> Result<Part, UpstreamError> {
        self.asked.lock().unwrap().push((at, is_free));
        let mut answers = self.answers.lock().unwrap();
        if answers.is_empty() {
            return Err(UpstreamError::Authentication { status: 403 });
        }
        let (begins, chunks) = answers.remove(0)?;
        Ok(Part { body: stream::iter(chunks).boxed(), begins })
    }
}

const CUT: Chunk = Err(UpstreamError::unavailable(Unavailability::CutShort));

#[expect(clippy::unnecessary_wraps, reason = "it stands beside `CUT`")]
fn some(text: &'static str) -> Chunk {
    Ok(Bytes::from_static(text.as_bytes()))
}

/// What comes of a first body and these answers to the requests for the rest.
async fn read(
    first: Vec<Chunk>,
    size_bytes: Option<u64>,
    answers: Vec<Answer>,
) -> (String, Option<UpstreamError>, Vec<(u64, bool)>) {
    let upstream = Scripted { answers: Arc::new(Mutex::new(answers)), ..Scripted::default() };
    let mut body = resuming(stream::iter(first).boxed(), size_bytes, upstream.clone());
    let (mut text, mut error) = (String::new(), None);
    while let Some(chunk) = body.next().await {
        match chunk {
            Ok(chunk) => text.push_str(std::str::from_utf8(&chunk).unwrap()),
            Err(why) => error = Some(why),
        }
    }
    let asked = upstream.asked.lock().unwrap().clone();
    (text, error, asked)
}

#[tokio::test(start_paused = true)]
async fn a_body_goes_on_where_it_broke_off() {
    let (text, error, asked) = read(
        vec![some("0123"), CUT],
        Some(10),
        vec![
            Ok((4, vec![some("45"), Err(UpstreamError::Timeout)])),
            // The whole instead of the part, in pieces that do not match.
            Ok((0, vec![some("01234"), some("56789")])),
        ],
    )
    .await;
    assert_eq!((&*text, error), ("0123456789", None));
    assert_eq!(asked, [(4, false), (6, false)]);
}

#[tokio::test(start_paused = true)]
async fn an_end_before_the_announced_one_is_a_cut_also_if_the_upstream_calls_it_an_end() {
    let (text, error, asked) =
        read(vec![some("01")], Some(4), vec![Ok((2, vec![])), Ok((2, vec![some("23")]))]).await;
    assert_eq!((&*text, error, asked.len()), ("0123", None, 2));
    let (text, error, asked) = read(vec![some("01")], None, vec![]).await;
    assert_eq!((&*text, error, asked.len()), ("01", None, 0));
}

#[tokio::test(start_paused = true)]
async fn a_rest_that_goes_beyond_the_announced_end_is_an_error_and_never_leaves() {
    for rest in [vec![some("234")], vec![some("23"), some("4")]] {
        let (text, error, asked) =
            read(vec![some("01"), CUT], Some(4), vec![Ok((2, rest)), Ok((4, vec![]))]).await;
        assert!(text.len() <= 4, "{text}");
        assert!(matches!(error, Some(UpstreamError::Invalid(_))), "{error:?}");
        assert_eq!(asked.len(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn an_upstream_that_gives_no_more_is_not_asked_for_ever() {
    let nothing = || Ok((2, vec![CUT]));
    let answers = (0..100).map(|_| nothing()).collect();
    let (text, error, asked) = read(vec![some("01"), CUT], Some(4), answers).await;
    assert_eq!((&*text, asked.len()), ("01", 3));
    assert_eq!(error, Some(UpstreamError::unavailable(Unavailability::CutShort)));
}

#[tokio::test(start_paused = true)]
async fn an_upstream_that_gives_a_little_each_time_is_asked_so_often_and_no_more() {
    let piece: &'static str = "x".repeat(64 << 10).leak();
    let answers = (0..1000).map(|_| Ok((u64::MAX, vec![some(piece), CUT]))).collect();
    let (text, error, asked) = read(vec![some(piece), CUT], Some(1 << 30), answers).await;
    assert_eq!((text.len(), asked.len()), (65 * (64 << 10), 64));
    assert!(error.is_some());
    assert!(asked.iter().all(|(_, is_free)| *is_free));
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_final_and_an_outage_is_not() {
    let broken = || vec![some("01"), CUT];
    for refusal in [
        UpstreamError::Authentication { status: 403 },
        UpstreamError::Invalid("as wanted"),
        UpstreamError::RateLimited { retry_after: Duration::from_secs(1) },
    ] {
        let (text, error, asked) = read(broken(), Some(4), vec![Err(refusal.clone())]).await;
        assert_eq!((&*text, error, asked.len()), ("01", Some(refusal), 1));
    }
    let outage = UpstreamError::unavailable(Unavailability::Unreachable);
    let answers = vec![Err(outage), Ok((2, vec![some("23")]))];
    assert_eq!(read(broken(), Some(4), answers).await.0, "0123");
    let long = Unavailability::BreakerOpen;
    let long = UpstreamError::Unavailable { why: long, retry_after: Some(Duration::from_mins(1)) };
    let (_, error, asked) = read(broken(), Some(4), vec![Err(long.clone())]).await;
    assert_eq!((error, asked.len()), (Some(long), 1));
}
