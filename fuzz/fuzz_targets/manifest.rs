//! A manifest never panics, and one that is accepted is what `serde_json` reads, too.
#![no_main]

use immutag::oci::Manifest;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(manifest) = Manifest::parse(bytes, None) {
        let value: serde_json::Value = serde_json::from_slice(bytes).expect("it was accepted");
        let list = if manifest.kind.is_index() { "manifests" } else { "layers" };
        let listed = manifest.children.len() + manifest.layers.len();
        assert_eq!(value[list].as_array().map_or(0, Vec::len), listed);
        let _ = manifest.extends(&manifest);
    }
});
