//! Asking an upstream for a manifest, to hash it.

use std::time::Duration;

use crate::oci::{
    CANONICAL_ACCEPT, ComputedDigest, MANIFEST_LIMIT, Manifest, ManifestReference, Reference,
};
use crate::upstream::{Answer, Ask, Method, Resource, UpstreamError, Upstreams};

/// How long one reference may take.
const DEADLINE: Duration = Duration::from_mins(1);

/// What an upstream said.
pub(in crate::cli) enum Heard {
    /// A manifest; its digest was computed.
    Answer(ComputedDigest),
    /// Something that breaks a rule.
    Invalid(String),
    /// That there is no such thing.
    Nothing,
    /// Nobody knows the registry.
    Unknown,
    /// Nothing that can be used.
    Unreachable(String),
}

/// Gets what a reference names, its tag if it has one, as a covered tag is asked for.
///
/// A GET and no HEAD: what a HEAD says is a claim, and nothing was compared then.
pub(super) async fn ask(reference: &Reference, upstreams: &Upstreams) -> Heard {
    ask_whole(reference, upstreams).await.0
}

/// The same, with the manifest of an [`Heard::Answer`].
pub(in crate::cli) async fn ask_whole(
    reference: &Reference,
    upstreams: &Upstreams,
) -> (Heard, Option<Manifest>) {
    let Some(upstream) = upstreams.locate(&reference.registry) else {
        return (Heard::Unknown, None);
    };
    let wanted = match (&reference.tag, reference.digest) {
        (None, Some(digest)) => ManifestReference::Digest(digest),
        _ => ManifestReference::Tag(reference.tag_or_latest()),
    };
    let ask = Ask {
        method: Method::Get,
        repository: reference.repository.clone(),
        resource: Resource::Manifest(wanted),
        accept: Some(CANONICAL_ACCEPT.to_owned()),
        range_from: None,
        credential: None,
        deadline: Some(DEADLINE),
    };
    match upstream.ask(ask).await {
        Ok(answer) => read(reference, answer).await.unwrap_or_else(|error| (failed(&error), None)),
        Err(error) => (failed(&error), None),
    }
}

async fn read(
    reference: &Reference,
    answer: Answer,
) -> Result<(Heard, Option<Manifest>), UpstreamError> {
    let invalid = |words: String| Ok((Heard::Invalid(words), None));
    match answer.status {
        200 => {}
        404 => return Ok((Heard::Nothing, None)),
        status => return invalid(format!("the upstream answered {status}")),
    }
    if answer.content_encoded {
        return invalid("the manifest came in a Content-Encoding".to_owned());
    }
    let (header, content_type) = (answer.digest, answer.content_type);
    let bytes = answer.body.collect(MANIFEST_LIMIT).await?;
    let computed = ComputedDigest::of(&bytes, reference.digest.or(header).as_ref());
    let is_checkable = |claim: &crate::oci::Digest| {
        reference.digest.is_none_or(|given| given.algorithm() == claim.algorithm())
    };
    if let Some(claim) = header.filter(is_checkable).filter(|claim| !computed.supports(claim)) {
        let sent = computed.digest();
        return invalid(format!("the upstream sent {sent} where it claims {claim}"));
    }
    match Manifest::parse(&bytes, content_type.as_ref()) {
        Ok(manifest) => Ok((Heard::Answer(computed), Some(manifest))),
        Err(error) => invalid(error.to_string()),
    }
}

fn failed(error: &UpstreamError) -> Heard {
    match error {
        UpstreamError::Invalid(_) | UpstreamError::TooLarge { .. } => {
            Heard::Invalid(error.to_string())
        }
        _ => Heard::Unreachable(error.to_string()),
    }
}
