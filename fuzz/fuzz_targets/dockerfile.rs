//! A Dockerfile never panics, each place is what was written, and a second rewrite changes nothing.
#![no_main]

use std::collections::BTreeMap;

use immutag::oci::{ComputedDigest, Digest, Reference};
use immutag::sources::{self, dockerfile};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let _ = sources::read(text);
    let none = BTreeMap::new();
    for mention in dockerfile::read(text, &none).mentions {
        if let Some(span) = mention.span.or(mention.default_span) {
            let (named, _) = sources::reference(&text[span]).expect("it was read as one");
            assert_eq!(named, mention.reference);
        }
    }
    let first = dockerfile::rewrite(text, &none, locked);
    assert_eq!(dockerfile::rewrite(&first.text, &none, locked).text, first.text);
});

fn locked(reference: &Reference) -> Option<Digest> {
    let of_name = || ComputedDigest::of(reference.to_string().as_bytes(), None).digest();
    Some(reference.digest.unwrap_or_else(of_name))
}
