//! immutag in this process, under a clock that the test moves, and with limits that no
//! configuration sets.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use immutag::app::App;
use immutag::clock::ManualClock;
use immutag::config::{Config, Sources, load};
use immutag::metrics::Metrics;
use tokio::runtime::Runtime;

use super::http::{Answer, Call};
use super::immutag::accepting;
use super::setup::{Addresses, Setup};
use super::wait::eventually;

/// A running immutag whose time stands still until it is moved.
pub(crate) struct InProcess {
    /// Its time.
    pub(crate) clock: Arc<ManualClock>,
    setup: Setup,
    app: Option<App>,
    runtime: Runtime,
}

impl InProcess {
    /// Starts it; when this returns, clients are served.
    #[track_caller]
    pub(crate) fn start(setup: Setup) -> Self {
        Self::start_with(setup, |_| ())
    }

    /// The same with a change that no configuration can say.
    #[track_caller]
    pub(crate) fn start_with(setup: Setup, change: impl FnOnce(&mut Config)) -> Self {
        let path = setup.file("immutag.toml", &setup.toml());
        let sources = Sources {
            path: Some(path),
            data_dir: Some(setup.data_dir.clone()),
            environment: Vec::new(),
            working_dir: setup.folder.path().to_owned(),
            is_root: false,
            ..Sources::default()
        };
        let mut config = load(sources).unwrap_or_else(|error| panic!("{error}"));
        change(&mut config);
        let clock = ManualClock::at(1_800_000_000_000);
        let runtime = Runtime::new().expect("threads can be started");
        let app = runtime.block_on(App::start(&config, false, clock.clone()));
        Self { clock, setup, app: Some(app.expect("it starts")), runtime }
    }

    /// Where its listeners are.
    pub(crate) fn addresses(&self) -> Addresses {
        self.setup.addresses()
    }

    /// Its data directory.
    pub(crate) fn data_dir(&self) -> &Path {
        &self.setup.data_dir
    }

    /// Walks over all pins once, as it does each day.
    pub(crate) fn walk(&self) {
        let app = self.app.as_ref().expect("it runs");
        self.runtime.block_on(app.pull.walk());
    }

    /// `GET`s a manifest at the direct listener with a client's usual `Accept`.
    #[track_caller]
    pub(crate) fn direct_manifest(&self, registry: &str, repository: &str, tag: &str) -> Answer {
        let direct = self.addresses().direct;
        let url = format!("http://{direct}/v2/{registry}/{repository}/manifests/{tag}");
        accepting(Call::new("GET", &url)).send()
    }

    /// `HEAD`s the same.
    #[track_caller]
    pub(crate) fn direct_head(&self, registry: &str, repository: &str, tag: &str) -> Answer {
        let direct = self.addresses().direct;
        let url = format!("http://{direct}/v2/{registry}/{repository}/manifests/{tag}");
        accepting(Call::new("HEAD", &url)).send()
    }

    /// How many events of this kind it wrote.
    pub(crate) fn events(&self, kind: &str) -> u64 {
        self.metrics().events.with_label_values(&[kind]).get()
    }

    /// What it counts.
    pub(crate) fn metrics(&self) -> &Metrics {
        &self.app.as_ref().expect("it runs").pull.edges().metrics
    }

    /// Moves its time on, and waits until so many tags more were asked for with this outcome, with
    /// nobody pulling them.
    #[track_caller]
    pub(crate) fn audit_after(&self, time: Duration, outcome: &str, least: u64) {
        let asks = self.metrics().audit.asks.with_label_values(&[outcome]);
        let before = asks.get();
        self.clock.advance(time);
        eventually(&format!("{least} asked: {outcome}"), || asks.get() >= before + least);
    }

    /// Waits until an event of this kind was written.
    #[track_caller]
    pub(crate) fn wait_for_event(&self, kind: &str) {
        let app = self.app.as_ref().expect("it runs");
        let events = &app.pull.edges().metrics.events;
        eventually(kind, || events.with_label_values(&[kind]).get() > 0);
    }
}

impl Drop for InProcess {
    fn drop(&mut self) {
        if let Some(app) = self.app.take() {
            self.runtime.block_on(app.drain(Duration::from_secs(5)));
        }
    }
}
