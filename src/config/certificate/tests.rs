use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use rcgen::{CertificateParams, KeyPair};
use tempfile::TempDir;

use super::*;

/// A directory with `cert.pem` and `key.pem`.
struct Files(TempDir);

impl Files {
    /// A self-signed certificate that is valid in these years, and its key.
    fn valid(from: i32, until: i32) -> Self {
        let (certificate, key) = pair(from, until);
        Self(TempDir::new().unwrap()).cert(&certificate).key(&key, 0o600)
    }

    fn cert(self, text: &str) -> Self {
        fs::write(self.0.path().join("cert.pem"), text).unwrap();
        self
    }

    fn key(self, text: &str, mode: u32) -> Self {
        let path = self.0.path().join("key.pem");
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        self
    }

    fn load_at(&self, seconds: u64) -> Result<Certificate, CertificateFault> {
        let path = |name| self.0.path().join(name);
        let files = ListenerTls { cert_file: path("cert.pem"), key_file: path("key.pem") };
        Certificate::load(&files, UnixTime::since_unix_epoch(Duration::from_secs(seconds)))
    }

    #[track_caller]
    fn refused(&self) -> (bool, String) {
        let fault = self.load_at(IN_2025).unwrap_err();
        let directory = format!("{}/", self.0.path().display());
        let is_key = matches!(fault, CertificateFault::Key(_));
        (is_key, fault.to_string().replace(&directory, ""))
    }
}

/// 2025-01-01, in seconds since 1970.
const IN_2025: u64 = 1_735_689_600;

/// A self-signed certificate that is valid in these years, and its key, as PEM.
pub(in crate::config) fn pair(from: i32, until: i32) -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(["proxy.example".to_owned()]).unwrap();
    params.not_before = rcgen::date_time_ymd(from, 1, 1);
    params.not_after = rcgen::date_time_ymd(until, 1, 1);
    (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
}

#[test]
fn a_certificate_is_loaded_with_the_time_at_which_it_expires() {
    let files = Files::valid(2020, 2026);
    assert_eq!(files.load_at(IN_2025).unwrap().expires_s, 1_767_225_600);
    // Dates from 2050 on are written in another form.
    assert_eq!(Files::valid(2020, 2060).load_at(IN_2025).unwrap().expires_s, 2_840_140_800);
}

#[test]
fn a_certificate_of_another_time_is_refused() {
    let files = Files::valid(2020, 2024);
    let (is_key, words) = files.refused();
    assert!(!is_key);
    assert_eq!(words, "cert.pem: the certificate expired at 2024-01-01T00:00:00Z");
    let (_, words) = Files::valid(2030, 2031).refused();
    assert_eq!(words, "cert.pem: the certificate is valid from 2030-01-01T00:00:00Z on only");
    // The last second counts.
    assert!(files.load_at(1_704_067_200).is_ok());
    assert!(files.load_at(1_704_067_201).is_err());
}

#[test]
fn what_is_wrong_with_a_file_is_said_of_that_file() {
    let (certificate, key) = pair(2020, 2030);
    let files = || Files::valid(2020, 2030);
    let junk = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let locked =
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
    let spoilt = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
    for (files, is_key, words) in [
        (files().cert(""), false, "cert.pem holds no certificate (PEM)"),
        (files().cert(&key), false, "cert.pem holds no certificate (PEM)"),
        (files().cert(junk), false, "cert.pem: its first certificate is no valid X.509"),
        (files().cert("-----BEGIN CERTIFICATE-----\n"), false, "cert.pem is no valid PEM"),
        (files().cert(&certificate), true, "key.pem: the key does not belong to the certificate"),
        (files().key(&key, 0o600), true, "key.pem: the key does not belong to the certificate"),
        (files().key("", 0o600), true, "key.pem holds no private key (PEM)"),
        (files().key(&certificate, 0o600), true, "key.pem holds no private key (PEM)"),
        (files().key(locked, 0o600), true, "key.pem is encrypted"),
        (files().key(spoilt, 0o600), true, "key.pem: the key cannot be used"),
        (files().key(&key, 0o640), true, "key.pem holds a secret and has mode 0640"),
    ] {
        let (is_of_key, told) = files.refused();
        assert_eq!(is_of_key, is_key, "{told}");
        assert!(told.starts_with(words), "{told}");
        assert!(!told.contains("AAAA"), "{told}");
    }
}

#[test]
fn a_file_that_is_not_there_or_no_file_is_refused() {
    let files = Files::valid(2020, 2030);
    fs::remove_file(files.0.path().join("key.pem")).unwrap();
    assert!(files.refused().1.starts_with("key.pem cannot be read: No such file"));
    fs::create_dir(files.0.path().join("key.pem")).unwrap();
    assert_eq!(files.refused(), (true, "key.pem is not a file".to_owned()));
    fs::remove_file(files.0.path().join("cert.pem")).unwrap();
    assert!(files.refused().1.starts_with("cert.pem cannot be read: No such file"));
}

#[test]
fn one_file_may_hold_both_and_the_certificates_between() {
    let (certificate, key) = pair(2020, 2030);
    let (between, _) = pair(2020, 2021);
    let both = format!("{certificate}{between}{key}");
    let files = Files(TempDir::new().unwrap()).cert(&both).key(&both, 0o600);
    assert_eq!(files.load_at(IN_2025).unwrap().pair.cert.len(), 2);
}
