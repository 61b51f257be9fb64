//! immutag inside the test's own process: with a clock that the test drives, and limits that no
//! configuration sets.

use std::sync::Arc;
use std::time::Duration;

use immutag::app::App;
use immutag::clock::ManualClock;
use immutag::config::{Config, Sources, load};

use super::http::{Answer, Call};
use super::immutag::accepting;
use super::setup::{Addresses, Setup};
use super::wait::eventually;

/// A running immutag in this process; the clock stands until it is moved.
pub(crate) struct InProcess {
    runtime: tokio::runtime::Runtime,
    app: App,
    setup: Setup,
    pub(crate) clock: Arc<ManualClock>,
}

impl InProcess {
    /// Starts it as the configuration of `setup` says.
    #[track_caller]
    pub(crate) fn start(setup: Setup) -> Self {
        Self::start_with(setup, |_| ())
    }

    /// The same with a change that no configuration file can say.
    #[track_caller]
    pub(crate) fn start_with(setup: Setup, change: impl FnOnce(&mut Config)) -> Self {
        let path = Some(setup.file("immutag.toml", &setup.toml()));
        let data_dir = Some(setup.data_dir.clone());
        let mut config = load(Sources { path, data_dir, ..Sources::default() })
            .unwrap_or_else(|error| panic!("{error}"));
        change(&mut config);
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let clock = ManualClock::at(1_700_000_000_000);
        let app = runtime.block_on(App::start(&config, false, clock.clone()));
        Self { runtime, app: app.expect("it starts"), setup, clock }
    }

    /// Where its listeners are.
    pub(crate) fn addresses(&self) -> Addresses {
        self.setup.addresses()
    }

    /// `GET`s a manifest at the direct listener with a client's usual `Accept`.
    #[track_caller]
    pub(crate) fn direct_manifest(&self, registry: &str, repository: &str, tag: &str) -> Answer {
        let direct = self.addresses().direct;
        let url = format!("http://{direct}/v2/{registry}/{repository}/manifests/{tag}");
        accepting(Call::new("GET", &url)).send()
    }

    /// Waits until an event of this kind was written.
    #[track_caller]
    pub(crate) fn wait_for_event(&self, kind: &str) {
        let events = &self.app.pull.edges().metrics.events;
        eventually(kind, || events.with_label_values(&[kind]).get() > 0);
    }

    /// Stops it; every request must have ended by itself.
    #[track_caller]
    pub(crate) fn stop(self) {
        assert!(self.runtime.block_on(self.app.drain(Duration::from_secs(10))));
    }
}
