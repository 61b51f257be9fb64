//! `CloudEvents` 1.0.2, JSON format, structured content mode.

use serde::Serialize;

use super::notice::Notice;

/// The media type of a message.
pub(super) const MEDIA_TYPE: &str = "application/cloudevents+json; charset=utf-8";

#[derive(Serialize)]
struct CloudEvent<'a> {
    specversion: &'static str,
    id: &'a str,
    source: String,
    #[serde(rename = "type")]
    kind: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    time: Option<String>,
    datacontenttype: &'static str,
    data: &'a Notice,
}

/// The message's body.
pub(super) fn body(notice: &Notice) -> Vec<u8> {
    let source = match &notice.ledger {
        Some(head) => format!("urn:immutag:ledger:{}", head.id),
        None => "urn:immutag:test".to_owned(),
    };
    let event = CloudEvent {
        specversion: "1.0",
        id: &notice.id,
        source,
        kind: format!("io.immutag.{}", notice.kind),
        subject: notice.tag.as_deref(),
        time: time(notice.time_ms),
        datacontenttype: "application/json",
        data: notice,
    };
    serde_json::to_vec(&event).expect("text and numbers can always be written")
}

/// A time as RFC 3339 wants it; `None` for one that it cannot write.
pub fn time(ms: u64) -> Option<String> {
    let stamp = jiff::Timestamp::from_millisecond(i64::try_from(ms).ok()?).ok()?;
    Some(stamp.to_string())
}
