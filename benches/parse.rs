//! How long it takes to parse what every cache miss and every judgement parses.

use std::fmt::Write as _;
use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use immutag::oci::{Digest, Manifest, ManifestKind, Reference};

criterion_group!(benches, manifests, hostile, names);
criterion_main!(benches);

fn manifests(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("parse");
    for (name, json) in [
        ("index of 3 platforms", index(3)),
        ("index of 10 KiB", index(30)),
        ("image of 30 layers", image(30)),
    ] {
        group.throughput(Throughput::Bytes(json.len() as u64));
        group.bench_function(name, |bencher| {
            bencher.iter(|| Manifest::parse(black_box(json.as_bytes()), None).expect("lawful"));
        });
    }
    group.finish();
}

/// What an attacker would send: each must stay below 50 ms.
fn hostile(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("parse");
    group.sample_size(10);
    let keys: Vec<_> = (0..300_000).map(|number| format!(r#""{number}":0"#)).collect();
    for (name, inner) in [
        ("hostile: 300,000 keys", format!("{{{}}}", keys.join(","))),
        ("hostile: 1,000,000 elements", format!("[{}]", vec!["0"; 1_000_000].join(","))),
        ("hostile: a number of 4,000,000 digits", "9".repeat(4_000_000)),
        ("hostile: depth 100,000", "[".repeat(100_000)),
    ] {
        let json = format!(r#"{{"schemaVersion":2,"x":{inner}}}"#);
        group.bench_function(name, |bencher| {
            bencher.iter(|| Manifest::parse(black_box(json.as_bytes()), None).is_err());
        });
    }
    group.finish();
}

fn names(criterion: &mut Criterion) {
    let digest = digest(7);
    let reference = format!("ghcr.io/owner/repository:1.2.3@{digest}");
    let mut group = criterion.benchmark_group("parse");
    group.bench_function("digest", |bencher| {
        bencher.iter(|| black_box(&*digest).parse::<Digest>());
    });
    group.bench_function("reference", |bencher| {
        bencher.iter(|| black_box(&*reference).parse::<Reference>());
    });
    group.finish();
}

/// An index of that many platforms, every third with an attestation as `BuildKit` adds it.
fn index(platforms: u32) -> String {
    let oci = ManifestKind::OciManifest.as_str();
    let mut children = String::new();
    for number in 0..platforms {
        let (image, proof) = (digest(number), digest(number + 1000));
        let comma = if number == 0 { "" } else { "," };
        write!(
            children,
            r#"{comma}{{"mediaType":"{oci}","digest":"{image}","size":1234,"platform":{{"architecture":"a{number}","os":"linux"}}}}"#
        )
        .expect("a string takes all");
        if number % 3 == 0 {
            write!(
                children,
                r#",{{"mediaType":"{oci}","digest":"{proof}","size":566,"annotations":{{"vnd.docker.reference.digest":"{image}","vnd.docker.reference.type":"attestation-manifest"}},"platform":{{"architecture":"unknown","os":"unknown"}}}}"#
            )
            .expect("a string takes all");
        }
    }
    let kind = ManifestKind::OciIndex.as_str();
    format!(r#"{{"schemaVersion":2,"mediaType":"{kind}","manifests":[{children}]}}"#)
}

fn image(layers: u32) -> String {
    let blob = |kind: &str, number| {
        let digest = digest(number);
        format!(
            r#"{{"mediaType":"application/vnd.oci.image.{kind}","digest":"{digest}","size":31234567}}"#
        )
    };
    let kind = ManifestKind::OciManifest.as_str();
    let config = blob("config.v1+json", 1);
    let layers: Vec<_> = (0..layers).map(|number| blob("layer.v1.tar+gzip", number)).collect();
    let layers = layers.join(",");
    format!(r#"{{"schemaVersion":2,"mediaType":"{kind}","config":{config},"layers":[{layers}]}}"#)
}

fn digest(number: u32) -> String {
    format!("sha256:{number:064x}")
}
