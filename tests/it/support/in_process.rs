//! immutag in this process, under a clock that the test moves.

use std::sync::Arc;
use std::time::Duration;

use immutag::app::App;
use immutag::clock::ManualClock;
use immutag::config::{Sources, load};
use tokio::runtime::Runtime;

use super::setup::{Addresses, Setup};

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
    pub(crate) fn start(setup: Setup) -> Self {
        let path = setup.file("immutag.toml", &setup.toml());
        let sources = Sources {
            path: Some(path),
            data_dir: Some(setup.data_dir.clone()),
            environment: Vec::new(),
            working_dir: setup.folder.path().to_owned(),
            is_root: false,
        };
        let config = load(sources).unwrap_or_else(|error| panic!("{error}"));
        let clock = ManualClock::at(1_800_000_000_000);
        let runtime = Runtime::new().expect("threads can be started");
        let app = runtime.block_on(App::start(&config, false, clock.clone()));
        Self { clock, setup, app: Some(app.expect("it starts")), runtime }
    }

    /// Where its listeners are.
    pub(crate) fn addresses(&self) -> Addresses {
        self.setup.addresses
    }
}

impl Drop for InProcess {
    fn drop(&mut self) {
        if let Some(app) = self.app.take() {
            self.runtime.block_on(app.drain(Duration::from_secs(5)));
        }
    }
}
