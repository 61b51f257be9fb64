//! Asking an upstream for a manifest, to hash it.

use std::time::Duration;

use serde::Deserialize;

use crate::oci::{
    CANONICAL_ACCEPT, ComputedDigest, Digest, MANIFEST_LIMIT, Manifest, ManifestReference,
    Reference, Tag,
};
use crate::upstream::{Answer, Ask, Method, Resource, UpstreamError, Upstreams};

/// How long one reference may take.
const DEADLINE: Duration = Duration::from_mins(1);

/// How long each of many small requests may take.
const BRIEFLY: Duration = Duration::from_secs(10);

/// The largest page of a list of tags, in bytes.
const PAGE_LIMIT: usize = 4 << 20;

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

/// Gets what a reference names, its tag if it has one, as a covered tag is asked for; what is
/// computed over comes with it.
///
/// A GET and no HEAD: what a HEAD says is a claim, and nothing was compared then.
pub(in crate::cli) async fn ask(
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
    let resource = Resource::Manifest(wanted);
    match upstream.ask(question(reference, Method::Get, resource, DEADLINE)).await {
        Ok(answer) => read(reference, answer).await.unwrap_or_else(|error| failed(&error)),
        Err(error) => failed(&error),
    }
}

/// What a HEAD of a tag claims.
pub(super) async fn head(reference: &Reference, upstreams: &Upstreams) -> Option<Digest> {
    let upstream = upstreams.locate(&reference.registry)?;
    let wanted = Resource::Manifest(ManifestReference::Tag(reference.tag_or_latest()));
    let answer = upstream.ask(question(reference, Method::Head, wanted, BRIEFLY)).await.ok()?;
    answer.digest.filter(|_| answer.status == 200)
}

/// The first page of the repository's tags, and whether there are more.
pub(super) async fn tags(reference: &Reference, upstreams: &Upstreams) -> Option<(Vec<Tag>, bool)> {
    #[derive(Deserialize)]
    struct Page {
        tags: Option<Vec<String>>,
    }
    let upstream = upstreams.locate(&reference.registry)?;
    let resource = Resource::Tags { query: "n=1000".to_owned() };
    let asked = Ask {
        accept: Some("application/json".to_owned()),
        ..question(reference, Method::Get, resource, BRIEFLY)
    };
    let answer = upstream.ask(asked).await.ok().filter(|answer| answer.status == 200)?;
    let has_more = answer.link.is_some();
    let bytes = answer.body.collect(PAGE_LIMIT).await.ok()?;
    let page: Page = serde_json::from_slice(&bytes).ok()?;
    // Some registries list digests among the tags.
    let tags = page.tags.unwrap_or_default().iter().filter_map(|tag| tag.parse().ok()).collect();
    Some((tags, has_more))
}

fn question(reference: &Reference, method: Method, resource: Resource, deadline: Duration) -> Ask {
    Ask {
        method,
        repository: reference.repository.clone(),
        resource,
        accept: Some(CANONICAL_ACCEPT.to_owned()),
        range_from: None,
        credential: None,
        deadline: Some(deadline),
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
    let is_checkable = |claim: &Digest| {
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

fn failed(error: &UpstreamError) -> (Heard, Option<Manifest>) {
    let heard = match error {
        UpstreamError::Invalid(_) | UpstreamError::TooLarge { .. } => {
            Heard::Invalid(error.to_string())
        }
        _ => Heard::Unreachable(error.to_string()),
    };
    (heard, None)
}
