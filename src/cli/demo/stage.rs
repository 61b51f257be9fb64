//! The demo's stage: immutag as `serve` runs it, in this process, with a ledger in a directory
//! that goes when the demo ends, and a clock that can be moved on.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};

use crate::app::App;
use crate::cli::registry::TestRegistry;

use crate::clock::{Clock, SystemClock};
use crate::config::{Config, ListenerKind, UpstreamConfig};
use crate::oci::Registry;
use crate::pin::{PinKey, TagState};
use crate::policy::builtin::DEFAULT_RECHECK;
use crate::policy::matcher::{Matcher, TagMatcher};
use crate::policy::{Reaction, Rule};
use crate::units::DiskSize;

/// How long to wait for what happens after a reply.
const PATIENCE: Duration = Duration::from_secs(5);

/// The machine's clock, moved on by what the story says.
struct StoryClock {
    machine: Arc<dyn Clock>,
    ahead_ms: AtomicU64,
}

impl Clock for StoryClock {
    fn wall_ms(&self) -> u64 {
        self.machine.wall_ms() + self.ahead_ms.load(Ordering::SeqCst)
    }

    fn monotonic(&self) -> Duration {
        self.machine.monotonic() + Duration::from_millis(self.ahead_ms.load(Ordering::SeqCst))
    }
}

/// immutag before its registry.
pub(super) struct Stage {
    /// There is one but for the moment of a restart.
    app: Option<App>,
    pub(super) registry: TestRegistry,
    config: Config,
    clock: Arc<StoryClock>,
    directory: Directory,
}

impl Stage {
    /// Starts a registry, and immutag before it, which knows it as `name`.
    pub(super) async fn open(name: &Registry, rules: Vec<Rule>) -> anyhow::Result<Self> {
        let registry = TestRegistry::start().await.context("starting the demo's registry")?;
        let directory = Directory::make()?;
        let mut config = Config::with_data_dir(directory.0.join("data"));
        for listener in &mut config.listeners {
            listener.address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        }
        config.admin.address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        // What is noticed without a pull is not the story.
        config.audit_interval = Duration::ZERO;
        // Real files, but the machine's free space is not the story.
        config.cache.min_free = DiskSize::Bytes(0);
        let upstream = UpstreamConfig {
            plain_http: true,
            allow_private: true,
            proxy: Some(String::new()),
            ..UpstreamConfig::for_origin(format!("http://{}", registry.address))
        };
        config.upstreams.insert(name.clone(), upstream);
        config.policy.rules.splice(0..0, rules.into_iter().map(Arc::new));
        let clock =
            Arc::new(StoryClock { machine: SystemClock::shared(), ahead_ms: AtomicU64::new(0) });
        let app = App::start(&config, false, Arc::clone(&clock) as _).await?;
        Ok(Self { app: Some(app), registry, config, clock, directory })
    }

    /// immutag.
    pub(super) fn app(&self) -> &App {
        self.app.as_ref().expect("it runs but for the moment of a restart")
    }

    /// Stops immutag and starts it again on the same data directory.
    pub(super) async fn restart(&mut self) -> anyhow::Result<()> {
        self.stop().await?;
        self.app = Some(App::start(&self.config, false, Arc::clone(&self.clock) as _).await?);
        Ok(())
    }

    /// Stops immutag and removes all that it wrote.
    pub(super) async fn close(mut self) -> anyhow::Result<()> {
        let stopped = self.stop().await;
        let path = self.directory.0.clone();
        drop(self);
        stopped?;
        ensure!(!path.exists(), "{} could not be removed", path.display());
        Ok(())
    }

    async fn stop(&mut self) -> anyhow::Result<()> {
        let Some(app) = self.app.take() else { return Ok(()) };
        ensure!(app.drain(PATIENCE).await, "immutag did not stop by itself");
        Ok(())
    }

    /// The sequence number that the ledger's next event gets.
    pub(super) fn next_event(&self) -> u64 {
        self.app().ledger.status().sequence + 1
    }

    /// Lets time pass for immutag.
    pub(super) fn pass(&self, time: Duration) {
        let time_ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        self.clock.ahead_ms.fetch_add(time_ms, Ordering::SeqCst);
    }

    /// Where a kind of client comes in.
    pub(super) fn listener(&self, kind: ListenerKind) -> anyhow::Result<SocketAddr> {
        let mut listeners = self.app().addresses.listeners.iter();
        let listener = listeners.find(|listener| listener.kind == kind);
        Ok(listener.context("both kinds of listener are on by default")?.address)
    }

    /// Waits until the ledger says of a tag what happens only after a reply.
    pub(super) async fn until(
        &self,
        key: &PinKey,
        is_so: impl Fn(&TagState) -> bool,
    ) -> anyhow::Result<()> {
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            if self.app().ledger.state(key).await?.is_some_and(|state| is_so(&state)) {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        bail!("the ledger did not write down what happened to {key}")
    }
}

/// A rule for all tags of the repositories that `repository` matches.
pub(super) fn rule(name: &str, repository: &str, reaction: Reaction) -> anyhow::Result<Rule> {
    Ok(Rule {
        name: name.to_owned(),
        matcher: Matcher::new("*", repository, TagMatcher::Any)?,
        reaction,
        accept_after: None,
        min_age: Duration::ZERO,
        settle: Duration::ZERO,
        recheck: DEFAULT_RECHECK,
        include_referrers: false,
        is_exact: false,
    })
}

/// A directory of this process alone, removed at the end.
struct Directory(PathBuf);

impl Directory {
    fn make() -> anyhow::Result<Self> {
        use std::os::unix::fs::DirBuilderExt;
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let (now, next) = (SystemClock::shared().wall_ms(), NEXT.fetch_add(1, Ordering::Relaxed));
        let name = format!("immutag-demo-{}-{now}-{next}", std::process::id());
        let path = std::env::temp_dir().join(name);
        // One that is there already is somebody else's: that fails.
        let made = std::fs::DirBuilder::new().mode(0o700).create(&path);
        made.with_context(|| format!("making the directory {}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        // What cannot be removed is the temporary directory's matter.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
