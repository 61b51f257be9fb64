//! `{"text": …}`: incoming webhooks of Slack, and of Mattermost, which takes the same.
//!
//! What is not our own stands in code spans, where neither of them knows mentions, links or
//! pictures; `&`, `<` and `>` are escaped as Slack wants it.

use super::notice::{Notice, Pulled};

/// The media type of a message.
pub(super) const MEDIA_TYPE: &str = "application/json; charset=utf-8";

/// The longest text, in bytes: Slack cuts at 4,000 characters, escapes counted.
const MAX_TEXT: usize = 3_800;

/// The message's body.
pub(super) fn body(notice: &Notice) -> Vec<u8> {
    let text = text(notice);
    serde_json::to_vec(&serde_json::json!({ "text": text })).expect("text can be written")
}

/// The text: what ends the matter comes before what explains it, since the end may be cut.
fn text(notice: &Notice) -> String {
    let mut lines = vec![format!("immutag: {} ({})", notice.kind, notice.severity.name())];
    lines.push(code(&notice.text));
    let mut say = |what: &str, value: Option<&str>| {
        lines.extend(value.map(|value| format!("• {what}: {}", code(value))));
    };
    say("tag", notice.tag.as_deref());
    say("pinned", notice.pinned.as_deref());
    say("pinned since", notice.pinned_since.as_deref());
    say("observed", notice.observed.as_deref());
    say("since", notice.since.as_deref());
    say("reaction", notice.reaction.as_deref());
    say("rule", notice.rule.as_deref());
    say("who", notice.who.as_deref());
    let repeats = notice.repeats.as_ref();
    let repeats = repeats.map(|it| format!("{} times since {}", it.count, it.first));
    say("happened", repeats.as_deref());
    for command in &notice.commands {
        lines.push(format!("• to {}: {}", escape(&command.to), code(&command.run)));
    }
    lines.extend(notice.pulls.iter().map(pulled));
    let mut say = |what: &str, value: Option<&str>| {
        lines.extend(value.map(|value| format!("• {what}: {}", code(value))));
    };
    // An attacker's text may be long, the more so when it is escaped.
    say("why", notice.why.as_deref());
    say("changes", notice.changes.as_deref());
    lines.extend(notice.reasons.iter().map(|reason| format!("• {}", code(reason))));
    let head = notice.ledger.as_ref();
    lines.extend(head.map(|head| code(&format!("ledger {} {}:{}", head.id, head.size, head.hash))));
    bounded(&lines)
}

fn pulled(pulled: &Pulled) -> String {
    let one = |client: &super::Puller| format!("{} ×{}", client.client, client.count);
    let clients: Vec<_> = pulled.clients.iter().map(one).collect();
    let digest = code(&pulled.digest);
    let often = match pulled.total {
        0 => return format!("• {digest} was pulled by nobody"),
        1 => "once".to_owned(),
        total => format!("{total} times"),
    };
    format!("• {digest} was pulled {often}: {}", code(&clients.join(", ")))
}

/// As many whole lines as fit.
fn bounded(lines: &[String]) -> String {
    let mut text = String::new();
    for line in lines {
        if text.len() + line.len() + 1 > MAX_TEXT {
            text.push('…');
            break;
        }
        text.push_str(line);
        text.push('\n');
    }
    text.trim_end().to_owned()
}

/// A code span that its content cannot end.
fn code(text: &str) -> String {
    format!("`{}`", escape(&text.replace('`', "'").replace(['\n', '\r'], " ")))
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
