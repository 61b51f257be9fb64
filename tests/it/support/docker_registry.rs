//! Debian's `docker-registry` (distribution 2.8), the real thing, in a temporary directory.

use std::fmt::Write as _;
use std::process::Command;
use std::sync::Arc;

use rustls::ClientConfig;
use tempfile::TempDir;

use super::content::{Image, Index, Manifest};
use super::http::{Answer, Call};
use super::process::{Daemon, find};
use super::tls::Authority;
use super::token::{ISSUER, SERVICE, TokenServer};

/// A running registry; it ends when it is dropped.
pub(crate) struct DockerRegistry {
    process: Daemon,
    _folder: TempDir,
    url: String,
    trust: Option<Arc<ClientConfig>>,
    tokens: Option<Arc<TokenServer>>,
}

/// Where a registry is to listen.
#[derive(Clone, Copy)]
struct Place<'a> {
    address: &'a str,
    /// The name under which it is asked; without one, its address.
    name: Option<&'a str>,
}

/// A free port of this machine.
const LOOPBACK: Place<'static> = Place { address: "127.0.0.1:0", name: None };

impl DockerRegistry {
    /// A plain one, open to everybody. See [`super::process::have`] first.
    pub(crate) fn start() -> Self {
        Self::launch(None, None, LOOPBACK)
    }

    /// One behind TLS on port 443 of `address`, under `name`, open to everybody; for a world of the
    /// test's own (see [`super::apart`]).
    pub(crate) fn start_at(authority: &Authority, address: &str, name: &str) -> Self {
        let place = Place { address: &format!("{address}:443"), name: Some(name) };
        Self::launch(Some(authority), None, place)
    }

    /// One behind TLS that takes only tokens of `tokens`.
    pub(crate) fn start_with_tokens(authority: &Authority, tokens: &Arc<TokenServer>) -> Self {
        Self::launch(Some(authority), Some(tokens), LOOPBACK)
    }

    /// `http://127.0.0.1:port` or `https://…`.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// `127.0.0.1:port`, as references name it.
    pub(crate) fn host(&self) -> &str {
        self.url.split_once("://").expect("a URL has a scheme").1
    }

    /// Pushes a small OCI image.
    pub(crate) fn push_image(&self, repository: &str, tag: &str, seed: &str) -> Image {
        let image = Image::new(seed);
        self.push(repository, tag, &image);
        image
    }

    /// Pushes an OCI index with an image for each architecture.
    pub(crate) fn push_index(
        &self,
        repository: &str,
        tag: &str,
        seed: &str,
        architectures: &[&str],
    ) -> Index {
        let index = Index::new(seed, architectures);
        self.put_index(repository, tag, &index);
        index
    }

    /// Pushes an index with its images under a tag.
    pub(crate) fn put_index(&self, repository: &str, tag: &str, index: &Index) {
        for image in &index.images {
            self.push(repository, image.digest(), image);
        }
        self.put_manifest(repository, tag, &index.manifest);
    }

    /// Pushes an image under a tag, or under its digest.
    pub(crate) fn push(&self, repository: &str, reference: &str, image: &Image) {
        for blob in image.layers.iter().chain([&image.config]) {
            let begun = self.call("POST", repository, "blobs/uploads/").send();
            assert_eq!(begun.status, 202, "{}", begun.text());
            let to = begun.field("Location").expect("an upload has a place").to_owned();
            let glue = if to.contains('?') { '&' } else { '?' };
            let url = format!("{to}{glue}digest={}", blob.digest);
            let put = self.authorize(Call::new("PUT", &url), repository).body(&blob.bytes).send();
            assert_eq!(put.status, 201, "{}", put.text());
        }
        self.put_manifest(repository, reference, &image.manifest);
    }

    /// Points `tag` to what `other` points to.
    pub(crate) fn retag(&self, repository: &str, tag: &str, other: &str) {
        let accept = super::content::OCI_MANIFEST;
        let call = self.call("GET", repository, &format!("manifests/{other}"));
        let found = call.field("Accept", accept).field("Accept", super::content::OCI_INDEX).send();
        assert_eq!(found.status, 200, "{}", found.text());
        let media_type = found.field("Content-Type").expect("a manifest has a type").to_owned();
        self.put_manifest(repository, tag, &Manifest::new(&media_type, found.body));
    }

    /// Asks the registry itself, as the test.
    pub(crate) fn get(&self, repository: &str, what: &str) -> Answer {
        self.call("GET", repository, what).send()
    }

    /// Forgets a blob of a repository: 404 from now on.
    pub(crate) fn delete_blob(&self, repository: &str, digest: &str) {
        let deleted = self.call("DELETE", repository, &format!("blobs/{digest}")).send();
        assert_eq!(deleted.status, 202, "{}", deleted.text());
    }

    /// Deletes a manifest, and with it every tag that points to it.
    pub(crate) fn delete_manifest(&self, repository: &str, digest: &str) {
        let deleted = self.call("DELETE", repository, &format!("manifests/{digest}")).send();
        assert_eq!(deleted.status, 202, "{}", deleted.text());
    }

    /// All that it has logged: each request with the program that sent it.
    pub(crate) fn log(&self) -> String {
        self.process.log()
    }

    /// Stops it: nobody listens any more.
    pub(crate) fn stop(&mut self) {
        self.process.signal(rustix::process::Signal::KILL);
        self.process.wait();
    }

    fn put_manifest(&self, repository: &str, reference: &str, manifest: &Manifest) {
        let call = self.call("PUT", repository, &format!("manifests/{reference}"));
        let call = call.field("Content-Type", &manifest.media_type);
        let put = call.body(&manifest.blob.bytes).send();
        assert_eq!(put.status, 201, "{}", put.text());
    }

    fn call(&self, method: &str, repository: &str, what: &str) -> Call {
        let call = Call::new(method, &format!("{}/v2/{repository}/{what}", self.url));
        let call = self.authorize(call, repository);
        if method == "POST" { call.body(&[]) } else { call }
    }

    fn authorize(&self, call: Call, repository: &str) -> Call {
        let call = call.trust(self.trust.clone());
        match &self.tokens {
            None => call,
            Some(tokens) => {
                let token = tokens.issue(repository, "pull,push");
                call.field("Authorization", &format!("Bearer {token}"))
            }
        }
    }

    fn launch(
        authority: Option<&Authority>,
        tokens: Option<&Arc<TokenServer>>,
        place: Place<'_>,
    ) -> Self {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let config = configuration(&folder, authority, tokens, place);
        let file = folder.path().join("config.yml");
        std::fs::write(&file, config).expect("a file in our own directory");

        let program = find("docker-registry").expect("`have` was asked first");
        let mut command = Command::new(program);
        command.arg("serve").arg(&file).env_clear().env("OTEL_TRACES_EXPORTER", "none");
        let mut process = Daemon::start(&mut command, &folder.path().join("log"));
        let mut address = None;
        process.wait_until("docker-registry listens", |process| {
            address = listening(&process.log());
            address.is_some()
        });
        let scheme = if authority.is_some() { "https" } else { "http" };
        let address = address.expect("it listens");
        let named = place.name.map(|name| format!("{name}:443"));
        let url = format!("{scheme}://{}", named.unwrap_or(address));
        let trust = authority.map(Authority::client);
        Self { process, _folder: folder, url, trust, tokens: tokens.cloned() }
    }
}

fn configuration(
    folder: &TempDir,
    authority: Option<&Authority>,
    tokens: Option<&Arc<TokenServer>>,
    at: Place<'_>,
) -> String {
    let place = folder.path().display();
    let address = at.address;
    let write = |name: &str, text: &str| {
        std::fs::write(folder.path().join(name), text).expect("a file in our own directory");
    };
    let mut config = format!(
        "version: 0.1\nlog: {{level: info, accesslog: {{disabled: true}}}}\n\
         storage: {{filesystem: {{rootdirectory: {place}/data}}, delete: {{enabled: true}}}}\n\
         http:\n  addr: {address}\n"
    );
    if let Some(authority) = authority {
        let names = ["127.0.0.1", "localhost"].into_iter().chain(at.name);
        let identity = authority.issue(&names.collect::<Vec<_>>());
        write("server.pem", &identity.certificate_pem);
        write("server.key", &identity.key_pem);
        let tls = format!("  tls: {{certificate: {place}/server.pem, key: {place}/server.key}}\n");
        config += &tls;
    }
    if let Some(tokens) = tokens {
        write("tokens.pem", &tokens.certificate_pem);
        let realm = tokens.realm();
        write!(
            config,
            "auth:\n  token:\n    realm: {realm}\n    service: {SERVICE}\n    issuer: {ISSUER}\n    \
             rootcertbundle: {place}/tokens.pem\n"
        )
        .expect("a String takes everything");
    }
    config
}

/// The address in the log's line `listening on 127.0.0.1:port[, tls]`.
fn listening(log: &str) -> Option<String> {
    let rest = log.split_once("listening on ")?.1;
    let end = rest.find(|end: char| !(end.is_ascii_digit() || end == '.' || end == ':'))?;
    Some(rest[..end].to_owned())
}
