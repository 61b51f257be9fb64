//! What a tag stands for, and why something else does not pass for it.

use crate::oci::Digest;
use crate::pin::{PinKey, TagState};
use crate::policy::judge::is_young;
use crate::units::utc;

/// What may run under the tag, and since when; or why nothing may.
pub(super) fn standing(
    key: &PinKey,
    state: &TagState,
    is_recorded: bool,
) -> Result<(Digest, String), String> {
    if let Some(pin) = &state.pin {
        if state.deleted_ms.is_some_and(|gone_ms| is_young(pin, gone_ms)) {
            return Err(format!(
                "the upstream took {key} back within 72 h of its first sight; `immutag ledger \
                 approve` with the pinned digest opens it"
            ));
        }
        return Ok((pin.content.digest, format!("pinned since {}", utc(pin.since_ms))));
    }
    // Under `record` what was imported has no effect.
    if let Some(last) = state.recorded.as_ref().filter(|_| is_recorded) {
        let words = format!("last recorded {}: nothing is promised", utc(last.since_ms));
        return Ok((last.content.digest, words));
    }
    if let Some(claim) = &state.claim {
        return Err(format!(
            "{} was imported for {key}, and no answer of the upstream has confirmed it: pull the \
             tag through immutag",
            claim.digest
        ));
    }
    if let Some(pending) = &state.pending {
        return Err(format!("{key} waits for its min-age since {}", utc(pending.since_ms)));
    }
    match &state.recorded {
        // It becomes the pin when the tag is pulled.
        Some(last) => Ok((last.content.digest, "what was last recorded of it".to_owned())),
        None => Err(format!(
            "the ledger knows nothing of {key}: pull it through immutag, warm it (`immutag cache \
             warm`), or import its digest"
        )),
    }
}

/// Why a digest is not what the tag stands for.
pub(super) fn differs(key: &PinKey, state: &TagState, digest: &Digest) -> String {
    let stands = state.standing().map(|pin| pin.content.digest.to_string()).unwrap_or_default();
    let open = state.conflict.as_ref().filter(|open| open.observed == *digest);
    let more = match (open, state.seen(digest)) {
        (Some(open), _) => format!(
            "the upstream answers it since {}, in conflict with the pin; `immutag ledger diff \
             {key}` tells what changed",
            utc(open.since_ms)
        ),
        (None, Some(seen)) if seen.was_served => {
            format!("the tag stood for it once, first on {}", utc(seen.first_ms))
        }
        (None, Some(seen)) => {
            format!("it was seen there on {} and never served", utc(seen.first_ms))
        }
        (None, None) => "it was never seen there".to_owned(),
    };
    format!("{key} stands for {stands}, not for {digest}: {more}")
}
