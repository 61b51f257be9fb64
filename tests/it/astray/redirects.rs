//! S-02, S-04, S-05, S-06, S-07: redirects and certificates.

use rcgen::date_time_ymd;

use super::{Canary, refusal};
use crate::support::fault::Fault;
use crate::support::http::get;
use crate::support::registry::ScriptedRegistry;
use crate::support::setup::Setup;
use crate::support::tls::Authority;

const REGISTRY: &str = "registry.example";
const PASSWORD: &str = "hunter-two-and-a-half";

#[test]
fn a_blob_comes_from_where_the_upstream_sends_us_without_its_credentials() {
    let (registry, store) = (ScriptedRegistry::start(), ScriptedRegistry::start());
    let image = registry.push_image("app", "1.0.0", "a");
    registry.require_basic("reader", PASSWORD);
    // The store takes no credentials: it fails the test when any come.
    for blob in [&image.config, &image.layers[0]] {
        store.put_blob("elsewhere", &blob.digest, blob.bytes.clone());
        let to = format!("{}/v2/elsewhere/blobs/{}", store.url(), blob.digest);
        registry.fault(&format!("* blobs/{}", blob.digest), Fault::Redirect(307, to));
    }
    let setup = Setup::new();
    let password = setup.file("password", PASSWORD);
    let own =
        format!("credentials = \"own\"\nusername = \"reader\"\npassword-file = {password:?}\n");
    let mut immutag = setup.upstream_with(REGISTRY, &registry.url(), &own).secret(PASSWORD).start();
    assert_eq!(immutag.manifest(REGISTRY, "app", "1.0.0").digest(), image.digest());
    for (url, blob) in [
        (immutag.mirror(&format!("{REGISTRY}/app/blobs/")), &image.config),
        (immutag.direct(&format!("{REGISTRY}/app/blobs/")), &image.layers[0]),
    ] {
        let answer = get(&format!("{url}{}", blob.digest));
        assert_eq!((answer.status, &answer.body), (200, &blob.bytes.to_vec()));
        assert_eq!(answer.field("Location"), None);
    }
    assert_eq!(store.count("GET blobs/"), 2);
    store.assert_treated_well();
    immutag.assert_alive_and_clean();
}

#[test]
fn a_redirect_that_leads_astray_is_refused_by_name() {
    let registry = ScriptedRegistry::start();
    let canary = Canary::new();
    let port = canary.port();
    let mut immutag = Setup::new().upstream(REGISTRY, &registry.url()).start();
    let (address, redirect) = ("ADDRESS_NOT_ALLOWED", "REDIRECT_NOT_ALLOWED");
    let cases = [
        (format!("http://0x7f.1:{port}/"), address),
        (format!("http://2130706433:{port}/"), address),
        (format!("http://127.0.0.1.:{port}/"), address),
        ("http://169.254.169.254/latest/meta-data/".to_owned(), address),
        ("http://[::ffff:169.254.169.254]/".to_owned(), address),
        ("http://[64:ff9b::a9fe:a9fe]/".to_owned(), address),
        ("file:///etc/passwd".to_owned(), redirect),
        (format!("gopher://127.0.0.1:{port}/"), redirect),
        (format!("http://user:pass@127.0.0.1:{port}/"), redirect),
        (String::new(), redirect),
        ("/../x".to_owned(), redirect),
        (format!("{}/v2/app/manifests/latest", registry.url()), redirect),
    ];
    for (location, reason) in cases {
        registry.clear_faults();
        registry.fault("GET manifests/latest", Fault::Redirect(307, location.clone()));
        let answer = immutag.direct_manifest(REGISTRY, "app", "latest");
        assert_eq!((answer.status, refusal(&answer).1.as_str()), (502, reason), "{location}");
        assert_eq!(answer.json()["errors"][0]["code"], "DENIED", "{location}");
        assert!(!answer.text().contains(&port.to_string()), "{location}: {answer:?}");
    }
    canary.assert_silent();
    immutag.assert_alive_and_clean();
}

#[test]
fn five_redirects_are_followed_and_no_sixth() {
    let registry = ScriptedRegistry::start();
    let image = registry.push_image("app", "latest", "a");
    let immutag = Setup::new().upstream(REGISTRY, &registry.url()).start();
    for (hops, expected) in [(5, 200), (6, 502)] {
        registry.clear_faults();
        registry.forget_requests();
        for hop in 0..hops {
            let from = if hop == 0 { "latest".to_owned() } else { format!("hop{hop}") };
            let to = if hop + 1 == hops {
                format!("/v2/app/manifests/{}", image.digest())
            } else {
                format!("hop{}", hop + 1)
            };
            registry.fault(&format!("GET manifests/{from}"), Fault::Redirect(302, to));
        }
        let answer = immutag.direct_manifest(REGISTRY, "app", "latest");
        assert_eq!(answer.status, expected, "{hops} hops: {answer:?}");
        assert_eq!(registry.requests().len(), 6);
    }
}

#[test]
fn https_never_becomes_http() {
    let authority = Authority::new();
    let tls = authority.issue(&["127.0.0.1"]).server();
    let (registry, plain) = (ScriptedRegistry::start_with(Some(tls)), ScriptedRegistry::start());
    let canary = Canary::new();
    let to = format!("http://127.0.0.1:{}/", canary.port());
    registry.fault("GET manifests/latest", Fault::Redirect(307, to));
    let setup = Setup::new();
    let ca = setup.ca_file(&authority.ca_pem);
    let only_http = plain.url().replace("http://", "https://");
    let mut immutag = setup
        .upstream_with(REGISTRY, &registry.url(), &ca)
        .upstream_with("plain.example", &only_http, &ca)
        .start();
    let redirected = immutag.direct_manifest(REGISTRY, "app", "latest");
    assert_eq!(refusal(&redirected).1, "REDIRECT_NOT_ALLOWED");
    let refused = immutag.direct_manifest("plain.example", "app", "latest");
    let expected = (502, "UPSTREAM_UNAVAILABLE".to_owned(), "TLS".to_owned());
    assert_eq!(refusal(&refused), expected, "{refused:?}");
    assert_eq!(plain.requests().len(), 0);
    canary.assert_silent();
    immutag.assert_alive_and_clean();
}

#[test]
fn a_certificate_that_proves_nothing_ends_in_words() {
    let authority = Authority::new();
    let long_ago = |params: &mut rcgen::CertificateParams| {
        params.not_before = date_time_ymd(2019, 1, 1);
        params.not_after = date_time_ymd(2020, 1, 1);
    };
    let cases = [
        (authority.issue_with(&["127.0.0.1"], long_ago), "expired"),
        (authority.issue(&["other.example"]), "another name"),
        (Authority::new().issue(&["127.0.0.1"]), "certificate is not valid"),
    ];
    let mut setup = Setup::new();
    let ca = setup.ca_file(&authority.ca_pem);
    let mut registries = Vec::new();
    for (number, (identity, _)) in cases.iter().enumerate() {
        let registry = ScriptedRegistry::start_with(Some(identity.server()));
        registry.push_image("app", "latest", "a");
        setup = setup.upstream_with(&format!("r{number}.example"), &registry.url(), &ca);
        registries.push(registry);
    }
    let mut immutag = setup.start();
    for (number, (_, words)) in cases.iter().enumerate() {
        let answer = immutag.direct_manifest(&format!("r{number}.example"), "app", "latest");
        let expected = (502, "UPSTREAM_UNAVAILABLE".to_owned(), "TLS".to_owned());
        assert_eq!(refusal(&answer), expected, "{words}");
        assert!(answer.text().contains(words), "{words}: {}", answer.text());
        assert_eq!(registries[number].requests().len(), 0, "{words}");
    }
    immutag.assert_alive_and_clean();
}
