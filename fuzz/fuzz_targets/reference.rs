//! Names and headers never panic, and what is printed parses back to the same.
#![no_main]

use immutag::oci::{Accept, ManifestReference, RangeRequest, Reference};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    Accept::parse([bytes]);
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(reference) = text.parse::<Reference>() {
        assert_eq!(reference.to_string().parse(), Ok(reference));
    }
    if let Ok(reference) = text.parse::<ManifestReference>() {
        assert_eq!(reference.to_string().parse(), Ok(reference));
    }
    if let RangeRequest::Single { first, last } = RangeRequest::parse(Some(text), 1000) {
        assert!(first <= last && last < 1000);
    }
});
