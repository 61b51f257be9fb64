//! The ledger's word against an upstream's.

use super::super::check::ask::Heard;
use super::super::exit::Code;
use super::merge::Answer;
use super::resolve::Failure;
use crate::decide::TagEntry;
use crate::oci::Digest;

/// What a tag stands for.
///
/// A pin is what this instance saw first and serves: it goes before what the upstream says now,
/// and where the two differ, that is told. Without a pin the upstream's word is taken, unless
/// somebody decided against that digest.
pub(super) fn judge(entry: Option<&TagEntry>, heard: Heard) -> Result<Answer, Failure> {
    let pin = entry.and_then(|entry| entry.state.pin.as_ref()).map(|pin| pin.content.digest);
    match (pin, entry) {
        (Some(pin), Some(entry)) if entry.revoked.contains(&pin) => {
            Err(finding(format!("the ledger's pin is revoked: {pin}")))
        }
        (Some(pin), _) => Ok(pinned(pin, heard)),
        (None, entry) => fresh(entry, heard),
    }
}

fn pinned(pin: Digest, heard: Heard) -> Answer {
    let compared = "as the ledger has it pinned";
    let (remark, conflict) = match heard {
        Heard::Answer(computed) if computed.supports(&pin) => (compared.to_owned(), None),
        Heard::Answer(computed) => {
            let words = format!(
                "the ledger has it pinned, the upstream says {}; to take that: `immutag ledger \
                 approve`, then this again",
                computed.digest()
            );
            (compared.to_owned(), Some(words))
        }
        Heard::Invalid(why) => {
            let words =
                format!("the ledger has it pinned, the upstream's answer is unusable: {why}");
            (compared.to_owned(), Some(words))
        }
        Heard::Nothing => {
            let words = "the ledger has it pinned, the upstream has no such tag any more";
            (compared.to_owned(), Some(words.to_owned()))
        }
        Heard::Unknown => (format!("{compared}; no upstream to compare with"), None),
        Heard::Unreachable(why) => (format!("{compared}; not compared: {why}"), None),
    };
    Answer { digest: pin, remark: Some(remark), conflict }
}

fn fresh(entry: Option<&TagEntry>, heard: Heard) -> Result<Answer, Failure> {
    match heard {
        Heard::Answer(computed) => {
            let digest = computed.digest();
            let is_revoked = entry.is_some_and(|entry| entry.revoked.contains(&digest));
            let is_rejected = entry.is_some_and(|entry| entry.state.rejected.contains(&digest));
            if is_revoked || is_rejected {
                let what = if is_revoked { "revoked" } else { "rejected for this tag" };
                return Err(finding(format!("the upstream's digest is {what}: {digest}")));
            }
            let claim = entry.and_then(|entry| entry.state.claim.as_ref());
            let claim = claim.filter(|claim| !computed.supports(&claim.digest));
            let remark =
                claim.map(|claim| format!("the ledger has {} imported for it", claim.digest));
            Ok(Answer { digest, remark, conflict: None })
        }
        Heard::Invalid(why) => Err(finding(format!("the upstream's answer is unusable: {why}"))),
        Heard::Nothing => Err(failure(Code::Failure, "the upstream has no such tag")),
        Heard::Unknown => {
            let words = "no such upstream: add [upstream.\"…\"] for it to the configuration";
            Err(failure(Code::Failure, words))
        }
        Heard::Unreachable(why) => Err(failure(Code::Unreachable, &why)),
    }
}

fn finding(why: String) -> Failure {
    Failure { code: Code::Finding, why }
}

fn failure(code: Code, why: &str) -> Failure {
    Failure { code, why: why.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::ComputedDigest;
    use crate::pin::{Claim, Content, Pin, Provenance, TagState};

    fn computed(text: &str) -> ComputedDigest {
        ComputedDigest::of(text.as_bytes(), None)
    }

    fn entry(pin: Option<&str>, revoked: &[&str], rejected: &[&str]) -> TagEntry {
        let digest = |text: &str| computed(text).digest();
        let content = |text: &str| Content {
            digest: digest(text),
            media_type: "application/vnd.oci.image.index.v1+json".parse().unwrap(),
            size_bytes: 1,
        };
        let pin = pin.map(content).map(|content| Pin {
            content,
            provenance: Provenance::FirstSeen,
            sequence: 1,
            since_ms: 1,
        });
        let rejected = rejected.iter().copied().map(digest).collect();
        let claim = pin.is_none().then(|| Claim { digest: digest("claimed"), since_ms: 1 });
        TagEntry {
            key: super::super::super::parse_key("alpine:3").unwrap(),
            state: TagState { pin, rejected, claim, ..TagState::default() },
            revoked: revoked.iter().copied().map(digest).collect(),
        }
    }

    /// The digest that is locked, the remark, the conflict; or the code and why.
    fn judged(entry: Option<&TagEntry>, heard: Heard) -> (String, String) {
        let name = |digest: &Digest| {
            let known = ["a", "b", "claimed"].into_iter();
            known.into_iter().find(|it| computed(it).digest() == *digest).unwrap_or("?").to_owned()
        };
        match judge(entry, heard) {
            Ok(Answer { digest, remark, conflict }) => {
                let mark = if conflict.is_some() { "!" } else { "" };
                let words = conflict.or(remark).unwrap_or_default();
                (format!("{}{mark}", name(&digest)), words)
            }
            Err(Failure { code, why }) => (format!("{code:?}"), why),
        }
    }

    #[test]
    fn a_pin_goes_before_the_upstream_and_a_difference_is_told() {
        let answer = |text: &str| Heard::Answer(computed(text));
        let down = || Heard::Unreachable("no route".to_owned());
        let pinned = entry(Some("a"), &[], &[]);
        let revoked = entry(Some("a"), &["a"], &[]);
        let decided = entry(None, &["a"], &["b"]);
        for (entry, heard, expected, words) in [
            (None, answer("a"), "a", ""),
            (None, Heard::Nothing, "Failure", "no such tag"),
            (None, Heard::Unknown, "Failure", "[upstream."),
            (None, Heard::Invalid("bad".to_owned()), "Finding", "bad"),
            (None, down(), "Unreachable", "no route"),
            (Some(&pinned), answer("a"), "a", "as the ledger has it pinned"),
            (Some(&pinned), answer("b"), "a!", "the upstream says sha256:"),
            (Some(&pinned), Heard::Nothing, "a!", "no such tag any more"),
            (Some(&pinned), Heard::Invalid("bad".to_owned()), "a!", "bad"),
            (Some(&pinned), down(), "a", "not compared: no route"),
            (Some(&pinned), Heard::Unknown, "a", "no upstream to compare with"),
            (Some(&revoked), answer("a"), "Finding", "pin is revoked"),
            (Some(&revoked), answer("b"), "Finding", "pin is revoked"),
            (Some(&decided), answer("a"), "Finding", "is revoked"),
            (Some(&decided), answer("b"), "Finding", "rejected for this tag"),
            (Some(&decided), answer("claimed"), "claimed", ""),
        ] {
            let (found, told) = judged(entry, heard);
            assert!(
                found == expected && told.contains(words),
                "{expected} {words}: {found} {told}"
            );
        }
        let claimed = entry(None, &[], &[]);
        let (found, told) = judged(Some(&claimed), answer("a"));
        assert!(found == "a" && told.contains("imported for it"), "{told}");
    }
}
