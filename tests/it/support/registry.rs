//! A registry that does what the test says, lawful or not, and remembers who asked for what.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rustls::ServerConfig;

use super::content::{Image, Index, Manifest};
use super::fault::{Fault, Plan, matches};
use super::server::{Request, Server};
use super::token::TokenServer;
use super::vast::Vast;
use super::wait::eventually;

mod answer;

/// A scripted registry on 127.0.0.1.
///
/// It checks that it is treated well: credentials that nobody told it to expect fail the test,
/// at the latest when it is dropped.
pub(crate) struct ScriptedRegistry {
    server: Server,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
pub(super) struct State {
    repositories: HashMap<String, Repository>,
    plan: Plan,
    log: Vec<Request>,
    access: Access,
    violations: Vec<String>,
}

#[derive(Default)]
pub(super) struct Repository {
    tags: BTreeMap<String, Tag>,
    manifests: HashMap<String, Manifest>,
    blobs: HashMap<String, Bytes>,
    vast: HashMap<String, Vast>,
    referrers: HashMap<String, Bytes>,
    /// By tag: what clients get whose `Accept` names no index.
    down_converted: HashMap<String, String>,
}

/// Where a tag points.
pub(super) enum Tag {
    /// To one digest.
    At(String),
    /// To one after the other, by the clock.
    Every(Vec<String>, Instant, Duration),
    /// To one after the other, by the request.
    Turns(Vec<String>, usize),
}

/// Whom the registry lets in.
#[derive(Default)]
pub(super) enum Access {
    /// Everybody; a client that sends credentials does wrong.
    #[default]
    Anybody,
    /// Everybody, and credentials are taken and ignored.
    AnybodyWithCredentials,
    /// This user with this password, as `Authorization: Basic …`.
    Basic(String),
    /// Tokens of this server, which name the repository.
    Token(Arc<TokenServer>),
}

impl ScriptedRegistry {
    /// A plain one.
    pub(crate) fn start() -> Self {
        Self::start_with(None)
    }

    /// One that speaks TLS, where given.
    pub(crate) fn start_with(tls: Option<Arc<ServerConfig>>) -> Self {
        let state = Arc::new(Mutex::new(State::default()));
        let shared = state.clone();
        let server = Server::start(tls, move |request| answer::answer(&shared, request));
        Self { server, state }
    }

    /// `http://127.0.0.1:port` or `https://…`.
    pub(crate) fn url(&self) -> String {
        self.server.url()
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.server.address
    }

    /// `127.0.0.1:port`, as references name it.
    pub(crate) fn host(&self) -> String {
        self.server.address.to_string()
    }

    /// Stops it: connections break, new ones are refused.
    pub(crate) fn stop(&mut self) {
        self.server.stop();
    }

    // Content

    /// Puts a small OCI image there under the tag.
    pub(crate) fn push_image(&self, repository: &str, tag: &str, seed: &str) -> Image {
        let image = Image::new(seed);
        self.put_image(repository, &image);
        self.retag(repository, tag, image.digest());
        image
    }

    /// Puts an OCI index with an image for each architecture there under the tag.
    pub(crate) fn push_index(
        &self,
        repository: &str,
        tag: &str,
        seed: &str,
        architectures: &[&str],
    ) -> Index {
        let index = Index::new(seed, architectures);
        self.put_index(repository, &index);
        self.retag(repository, tag, index.digest());
        index
    }

    /// Puts an image there, without a tag.
    pub(crate) fn put_image(&self, repository: &str, image: &Image) {
        self.put_manifest(repository, &image.manifest);
        for blob in image.layers.iter().chain([&image.config]) {
            self.put_blob(repository, &blob.digest, blob.bytes.clone());
        }
    }

    /// Puts an index and its images there, without a tag.
    pub(crate) fn put_index(&self, repository: &str, index: &Index) {
        self.put_manifest(repository, &index.manifest);
        for image in &index.images {
            self.put_image(repository, image);
        }
    }

    /// Puts a manifest there, whatever its bytes are, without a tag.
    pub(crate) fn put_manifest(&self, repository: &str, manifest: &Manifest) {
        let digest = manifest.digest().to_owned();
        self.repository(repository, |it| it.manifests.insert(digest, manifest.clone()));
    }

    /// Serves `bytes` as the blob `digest`, be they or not.
    pub(crate) fn put_blob(&self, repository: &str, digest: &str, bytes: impl Into<Bytes>) {
        let bytes = bytes.into();
        self.repository(repository, |it| it.blobs.insert(digest.to_owned(), bytes));
    }

    /// Serves this blob, which is made as it is sent; a fault can replace it, not change it.
    pub(crate) fn put_vast(&self, repository: &str, vast: &Vast) {
        self.repository(repository, |it| it.vast.insert(vast.digest.clone(), vast.clone()));
    }

    /// Serves `index` as the referrers of `digest`.
    pub(crate) fn put_referrers(&self, repository: &str, digest: &str, index: &Index) {
        let bytes = index.manifest.blob.bytes.clone();
        self.repository(repository, |it| it.referrers.insert(digest.to_owned(), bytes));
    }

    /// Points the tag to a digest.
    pub(crate) fn retag(&self, repository: &str, tag: &str, digest: &str) {
        self.point(repository, tag, Tag::At(digest.to_owned()));
    }

    /// Takes the tag away; its manifest stays.
    pub(crate) fn delete_tag(&self, repository: &str, tag: &str) {
        self.repository(repository, |it| it.tags.remove(tag));
    }

    /// Takes a manifest or blob away.
    pub(crate) fn delete(&self, repository: &str, digest: &str) {
        self.repository(repository, |it| {
            it.manifests.remove(digest);
            it.blobs.remove(digest);
        });
    }

    /// Points the tag to one digest after the other, another at each request.
    pub(crate) fn flip_each_request(&self, repository: &str, tag: &str, digests: &[&str]) {
        self.point(repository, tag, Tag::Turns(owned(digests), 0));
    }

    /// Points the tag to one digest after the other, another after each `period`.
    pub(crate) fn flip_every(
        &self,
        repository: &str,
        tag: &str,
        digests: &[&str],
        period: Duration,
    ) {
        self.point(repository, tag, Tag::Every(owned(digests), Instant::now(), period));
    }

    /// Serves the tag as `digest` to clients whose `Accept` names no index, as some registries do.
    pub(crate) fn down_convert(&self, repository: &str, tag: &str, digest: &str) {
        let (tag, digest) = (tag.to_owned(), digest.to_owned());
        self.repository(repository, |it| it.down_converted.insert(tag, digest));
    }

    // Access

    /// Asks for Basic credentials.
    pub(crate) fn require_basic(&self, username: &str, password: &str) {
        let expected = super::token::basic(username, password);
        self.state().access = Access::Basic(expected);
    }

    /// Asks for tokens of this server.
    pub(crate) fn require_token(&self, tokens: &Arc<TokenServer>) {
        self.state().access = Access::Token(tokens.clone());
    }

    /// Takes and ignores credentials.
    pub(crate) fn tolerate_credentials(&self) {
        self.state().access = Access::AnybodyWithCredentials;
    }

    // Faults: `request` is a pattern of [`matches`]

    /// From now on this goes wrong with these requests.
    pub(crate) fn fault(&self, request: &str, fault: Fault) {
        self.fault_times(request, fault, usize::MAX);
    }

    /// This goes wrong with the next `times` of these requests.
    pub(crate) fn fault_times(&self, request: &str, fault: Fault, times: usize) {
        self.state().plan.add(request, fault, times);
    }

    /// From now on all goes well.
    pub(crate) fn clear_faults(&self) {
        self.state().plan.clear();
    }

    // What it saw

    /// How many requests of this pattern came.
    pub(crate) fn count(&self, request: &str) -> usize {
        self.state().log.iter().filter(|logged| matches(request, logged)).count()
    }

    /// Every request, in the order of coming.
    pub(crate) fn requests(&self) -> Vec<Request> {
        self.state().log.clone()
    }

    /// Forgets which requests came.
    pub(crate) fn forget_requests(&self) {
        self.state().log.clear();
    }

    /// Waits until `count` requests of this pattern have come.
    #[track_caller]
    pub(crate) fn wait_for(&self, request: &str, count: usize) {
        eventually(&format!("{count} × {request} at the registry"), || {
            self.count(request) >= count
        });
    }

    /// How many connections came, requests or not.
    pub(crate) fn connections(&self) -> usize {
        self.server.connections()
    }

    /// Panics when a client did what it must not.
    #[track_caller]
    pub(crate) fn assert_treated_well(&self) {
        let violations = self.state().violations.clone();
        assert!(violations.is_empty(), "the registry was treated badly: {violations:#?}");
    }

    fn point(&self, repository: &str, tag: &str, to: Tag) {
        self.repository(repository, |it| it.tags.insert(tag.to_owned(), to));
    }

    fn repository<T>(&self, name: &str, change: impl FnOnce(&mut Repository) -> T) {
        change(self.state().repositories.entry(name.to_owned()).or_default());
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder panics")
    }
}

impl Drop for ScriptedRegistry {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.assert_treated_well();
        }
    }
}

fn owned(digests: &[&str]) -> Vec<String> {
    assert!(!digests.is_empty(), "a tag points somewhere");
    digests.iter().map(ToString::to_string).collect()
}
