//! Certificates that are replaced while immutag runs. `faults.md`, O-03.

use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use rustix::process::Signal;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use super::{REGISTRY, Stage, connect, with_tls};
use crate::support::gate::Gate;
use crate::support::setup::Setup;
use crate::support::tls::{Authority, Identity};
use crate::support::wait::eventually;
use crate::support::wire::Wire;

const FAILURES: &str = "immutag_certificate_reload_failures_total";
const EXPIRY: &str = "immutag_listener_certificate_expiry_timestamp_seconds";

impl Stage {
    /// The certificate that a listener shows now.
    fn shown(&self, listener: SocketAddr) -> Option<CertificateDer<'static>> {
        let mut wire = connect(listener, &self.authority.client(), &["http/1.1"]);
        wire.write_all(b"GET /v2/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            .expect("it reads");
        wire.read_exact(&mut [0; 15]).expect("it answers");
        let Wire::Client(stream) = &wire else { panic!("a client's side") };
        stream.conn.peer_certificates()?.first().map(|shown| shown.clone().into_owned())
    }

    fn shows(&self, identity: &Identity) -> bool {
        let expected = certificate(identity);
        [self.mirror(), self.direct()].map(|at| self.shown(at)) == [expected.clone(), expected]
    }

    fn issue(&self) -> Identity {
        self.authority.issue(&["127.0.0.1"])
    }
}

fn certificate(identity: &Identity) -> Option<CertificateDer<'static>> {
    CertificateDer::from_pem_slice(identity.certificate_pem.as_bytes()).ok()
}

/// Puts a file in another's place as people who know how do it.
fn replace(file: &Path, text: &str) {
    use std::os::unix::fs::OpenOptionsExt as _;
    let beside = file.with_extension("new");
    let mut options = std::fs::OpenOptions::new();
    let new = options.create(true).truncate(true).write(true).mode(0o600).open(&beside);
    let mut new = new.expect("our own directory");
    new.write_all(text.as_bytes()).expect("our own file");
    std::fs::rename(beside, file).expect("our own file");
}

/// Puts a whole pair there, the key first.
fn install(stage: &Stage, identity: &Identity) {
    replace(&stage.files.key, &identity.key_pem);
    replace(&stage.files.certificate, &identity.certificate_pem);
}

#[test]
fn a_new_certificate_is_taken_under_load_without_a_broken_connection() {
    let stage = Stage::new();
    let large = stage.blob(1_000_000);
    let gate = Gate::closed();
    let hold = crate::support::fault::Fault::HoldBody(500_000, gate.clone());
    stage.registry.fault_times("GET blobs/", hold, 1);
    let path = format!("app/blobs/{}?ns={REGISTRY}", large.digest);
    let (ends, pulls) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        // One answer lasts from before the first change until after the last.
        let long = scope.spawn(|| stage.get(stage.mirror(), &path));
        gate.wait_for(1);
        let pullers: Vec<_> = (0..3)
            .map(|_| {
                scope.spawn(|| {
                    while !ends.load(Ordering::Relaxed) {
                        stage.pull();
                        pulls.fetch_add(1, Ordering::Relaxed);
                    }
                })
            })
            .collect();
        for _ in 0..2 {
            let identity = stage.issue();
            install(&stage, &identity);
            eventually("the new certificate", || stage.shows(&identity));
            let before = pulls.load(Ordering::Relaxed);
            eventually("more pulls", || pulls.load(Ordering::Relaxed) > before + 3);
        }
        ends.store(true, Ordering::Relaxed);
        for puller in pullers {
            puller.join().unwrap();
        }
        gate.open();
        let answer = long.join().unwrap();
        assert!(answer.whole && answer.body == large.bytes);
    });
    stage.finish();
}

#[test]
fn sighup_reads_the_certificate_at_once_and_from_where_the_configuration_says_now() {
    let stage = Stage::new();
    let identity = stage.issue();
    let folder = stage.files.key.parent().unwrap();
    for (name, text) in [("next.pem", &identity.certificate_pem), ("next.key", &identity.key_pem)] {
        replace(&folder.join(name), text);
    }
    let good = stage.immutag.configuration();
    stage.immutag.write_configuration(&good.replace("\"server.", "\"next."));
    stage.immutag.signal(Signal::HUP);
    eventually("the other certificate", || stage.shows(&identity));
    stage.immutag.wait_for_log("read again; the rest needs a restart");
    // The old files are nobody's now, the new ones are looked at.
    install(&stage, &stage.issue());
    let newest = stage.issue();
    replace(&folder.join("next.key"), &newest.key_pem);
    replace(&folder.join("next.pem"), &newest.certificate_pem);
    eventually("the newest certificate", || stage.shows(&newest));
    stage.finish();
}

#[test]
fn a_certificate_that_cannot_be_used_leaves_the_old_one_in_its_place() {
    let stage = Stage::new();
    let old = stage.issue();
    install(&stage, &old);
    eventually("a certificate to keep", || stage.shows(&old));
    let new = stage.issue();
    let expired = stage.authority.issue_with(&["127.0.0.1"], |params| {
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2021, 1, 1);
    });
    let mut told = 0.0;
    let cases: [(&str, &dyn Fn()); 6] = [
        ("the key does not belong to the certificate", &|| {
            replace(&stage.files.certificate, &new.certificate_pem);
        }),
        ("the certificate expired at 2021-01-01T00:00:00Z", &|| install(&stage, &expired)),
        ("server.pem cannot be read", &|| std::fs::remove_file(&stage.files.certificate).unwrap()),
        ("server.pem holds no certificate", &|| replace(&stage.files.certificate, "")),
        ("has mode 0644", &|| {
            use std::os::unix::fs::PermissionsExt as _;
            let open = std::fs::Permissions::from_mode(0o644);
            replace(&stage.files.certificate, &new.certificate_pem);
            std::fs::set_permissions(&stage.files.key, open).unwrap();
        }),
        ("server.key holds no private key", &|| replace(&stage.files.key, &new.certificate_pem)),
    ];
    for (words, change) in cases {
        change();
        stage.immutag.wait_for_log(words);
        assert!(stage.shows(&old), "{words}");
        told += 1.0;
        stage.immutag.wait_for_metric(FAILURES, "", told);
    }
    // SIGHUP tells a person what is wrong, and keeps the old certificate too.
    stage.immutag.signal(Signal::HUP);
    stage.immutag.wait_for_log("the configuration stays as it was");
    assert!(stage.shows(&old));
    install(&stage, &new);
    eventually("the certificate of a whole pair", || stage.shows(&new));
    stage.finish();
}

#[test]
fn a_fault_of_a_certificate_is_told_once_for_each_listener_however_often_it_is_looked_at() {
    let stage = Stage::new();
    let words = "the certificate stays as it was";
    let told = || stage.immutag.log().matches(words).count();
    replace(&stage.files.certificate, "");
    eventually("both told", || told() == 2);
    // Each touch is a change that is looked at, and the fault is the same.
    for _ in 0..3 {
        replace(&stage.files.certificate, "");
    }
    let other = stage.issue();
    replace(&stage.files.certificate, &other.certificate_pem);
    eventually("both told of another fault", || told() == 4);
    assert_eq!(stage.immutag.metric(FAILURES, "").to_bits(), 4f64.to_bits());
    install(&stage, &other);
    eventually("the end", || stage.shows(&other));
    stage.finish();
}

#[test]
fn the_metric_says_when_the_certificate_that_is_shown_expires() {
    let stage = Stage::new();
    // 2090-01-01, in seconds since 1970.
    let expected = 3_786_912_000f64;
    let identity = stage.authority.issue_with(&["127.0.0.1"], |params| {
        params.not_after = rcgen::date_time_ymd(2090, 1, 1);
    });
    install(&stage, &identity);
    eventually("the new certificate", || stage.shows(&identity));
    for (listener, address) in [("mirror", stage.mirror()), ("direct", stage.direct())] {
        let series = format!("{EXPIRY}{{address=\"{address}\",listener=\"{listener}\"}}");
        eventually("the new time", || stage.immutag.metrics().get(&series) == Some(&expected));
    }
    stage.finish();
}

#[test]
fn a_start_with_a_certificate_that_cannot_be_used_is_refused_with_its_line() {
    let authority = Authority::new();
    let expired = authority.issue_with(&["127.0.0.1"], |params| {
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2021, 1, 1);
    });
    let refusal = with_tls(Setup::new(), &expired).0.refuse_to_start();
    assert_eq!(refusal.status.code(), Some(2), "{refusal:?}");
    let words = "listener 1: tls.cert-file: ";
    let refusal = refusal.failed_with(words).failed_with("the certificate expired at 2021-01-01");
    assert!(refusal.stderr.contains("listener 2: tls.cert-file: "), "{}", refusal.stderr);
    let mut mixed = authority.issue(&["127.0.0.1"]);
    mixed.key_pem = authority.issue(&["127.0.0.1"]).key_pem;
    let refusal = with_tls(Setup::new(), &mixed).0.refuse_to_start();
    refusal.failed_with("tls.key-file: ").failed_with("the key does not belong to the certificate");
}
