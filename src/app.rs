//! The wired graph: what `serve` runs, and what the demo and the tests run in their own process.

mod lock;
mod telling;
mod wiring;

use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio::sync::watch;
use tokio::task::JoinSet;

pub use self::lock::LockConflicts;
pub(crate) use self::lock::read as read_lock;
use self::wiring::Wiring;
use crate::admin::socket::{self, Doers};
use crate::alert::Alerts;
use crate::blob::fs::{FsStore, Options};
use crate::blob::links::Links;
use crate::clock::Clock;
use crate::config::certificate::CertificateFault;
use crate::config::{Config, LedgerKind, ListenerConfig, LockFault};
use crate::decide::{Fault, Ledger};
use crate::http::tls::ServerTls;
use crate::journal::{self, Journal};
use crate::ledger::{FileLedger, LedgerStore, MemoryLedger, OpenError, OpenOptions};
use crate::metrics::Metrics;
use crate::notify::WebhookSetupError;
use crate::oci::Registry as Name;
use crate::pull::{Edges, Pull, Settings};
use crate::report::Record;
use crate::upstream::{BuiltIn, UpstreamSetupError, Upstreams};

/// Why the process cannot run. Nothing was served.
#[derive(Debug, Error)]
pub enum StartError {
    /// An address cannot be listened on.
    #[error("cannot listen on {address} ({what})")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// Which listener.
        what: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A listener's certificate cannot be shown.
    #[error("the certificate of the listener {address} cannot be used")]
    Certificate {
        /// The listener's address.
        address: SocketAddr,
        /// Why.
        #[source]
        source: CertificateFault,
    },
    /// A directory or file below the data directory cannot be used.
    #[error("the data directory {path} cannot be used")]
    DataDir {
        /// The path.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The ledger cannot be opened.
    #[error(transparent)]
    Ledger(#[from] OpenError),
    /// The lock file cannot be used.
    #[error("the lock file {} cannot be used", path.display())]
    Lock {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: LockFault,
    },
    /// Lock file and ledger say different things.
    #[error("the lock file {} and the ledger disagree:{conflicts}", path.display())]
    LockConflicts {
        /// The file.
        path: PathBuf,
        /// In what.
        conflicts: LockConflicts,
    },
    /// The ledger did not take the lock file in.
    #[error("the ledger did not take the lock file in")]
    LockLedger(#[source] Fault),
    /// An upstream's settings cannot be used.
    #[error(transparent)]
    Upstream(#[from] UpstreamSetupError),
    /// A webhook's settings cannot be used.
    #[error(transparent)]
    Webhook(#[from] WebhookSetupError),
}

/// Where a running process listens.
#[derive(Clone, Debug)]
pub struct Addresses {
    /// The registry listeners, as they were configured, with the port that was bound.
    pub listeners: Vec<ListenerConfig>,
    /// The admin listener.
    pub admin: SocketAddr,
}

/// A running process.
pub struct App {
    /// The pull path.
    pub pull: Arc<Pull>,
    /// The ledger.
    pub ledger: Arc<dyn Ledger>,
    /// Who pulled what.
    pub journal: Arc<Journal>,
    /// Where it listens.
    pub addresses: Addresses,
    store: Arc<FsStore>,
    certificates: Vec<Arc<ServerTls>>,
    stop: watch::Sender<bool>,
    running: JoinSet<()>,
    alerts: Arc<Alerts>,
    telling: JoinSet<()>,
}

impl App {
    /// Opens everything and listens. When this returns, clients are served.
    pub async fn start(
        config: &Config,
        accept_rollback: bool,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, StartError> {
        make_data_dir(&config.data_dir)?;
        let metrics = Arc::new(Metrics::new());
        let lock = config.lock.as_ref().map(lock::read).transpose()?.map(Arc::new);
        let settings = Settings { lock: lock.clone(), ..settings(config, &metrics)? };
        let ledger = open_ledger(config, accept_rollback, &metrics, Arc::clone(&clock)).await?;
        lock::take(&*ledger, lock.as_deref(), config, &metrics).await?;
        let in_data_dir = |source| StartError::DataDir { path: config.data_dir.clone(), source };
        let options = Options::new(&config.cache, Arc::clone(&clock), metrics.cache.clone());
        let store = Arc::new(FsStore::open_as(&config.data_dir, options).map_err(in_data_dir)?);
        let links = Arc::new(Links::open(&config.data_dir).map_err(in_data_dir)?);
        let journal = Arc::new(start_journal(config, &metrics, &clock));
        let record = Record::begin(&journal, &*ledger, &*clock, config);
        let edges = Edges {
            ledger: Arc::clone(&ledger) as Arc<dyn LedgerStore>,
            store: Arc::clone(&store) as _,
            links: Arc::clone(&links),
            metrics,
            clock,
        };
        let (stop, stopped) = watch::channel(false);
        let pull = Pull::new(edges, settings);
        // Before the first client comes: what it sees is told.
        let alerts = telling::alerts(config, &pull, &journal)?;
        let mut wiring = Wiring::new(&pull, &journal, stopped);
        let (listeners, certificates) = wiring.listen(&config.listeners).await?;
        let admin = wiring.admin(config, &store).await?;
        let socket = socket::bind(&config.data_dir).map_err(in_data_dir)?;
        let doers = Doers {
            record,
            ledger: Arc::clone(&ledger),
            pull: Arc::clone(&pull),
            store: Arc::clone(&store),
            alerts: Arc::clone(&alerts),
        };
        wiring.running.spawn(socket::run(socket, doers, wiring.stopped.clone()));
        wiring.resume();
        wiring.watch();
        wiring.close_old(Arc::clone(&store));
        wiring.running.spawn(Arc::clone(&store).keep(links, wiring.stopped.clone()));
        let telling = JoinSet::from_iter([Arc::clone(&alerts).run(wiring.stopped.clone())]);
        Ok(Self {
            pull,
            ledger,
            journal,
            addresses: Addresses { listeners, admin },
            store,
            certificates,
            stop,
            running: wiring.running,
            alerts,
            telling,
        })
    }

    /// Takes the settings that can change while it runs: rules, upstreams, webhooks,
    /// `stale-if-error`, `offline`, `audit.interval`, `retain`, `retain-idle`, and where the
    /// certificate of a listener with TLS is.
    ///
    /// An error changes none of them, and the files of certificates are then read again where
    /// they were.
    pub fn reload(&self, config: &Config) -> Result<(), StartError> {
        let settings = settings(config, &self.pull.edges().metrics);
        let settings = settings.and_then(|settings| {
            self.alerts.reload(&config.webhooks)?;
            Ok(settings)
        });
        match &settings {
            Ok(_) => self.reload_certificates(&config.listeners),
            Err(_) => self.reload_certificates(&[]),
        }
        let settings = settings?;
        // What the ledger began with stays until a restart.
        let lock = self.pull.settings().lock.clone();
        self.pull.reload(Settings { lock, ..settings });
        Ok(())
    }

    /// Reads the certificates again: of listeners that stand here with TLS where it is said here,
    /// of others where they were.
    pub fn reload_certificates(&self, listeners: &[ListenerConfig]) {
        for tls in &self.certificates {
            let same = |listener: &&ListenerConfig| tls.is_of(listener);
            tls.reload(listeners.iter().find(same).and_then(|listener| listener.tls.as_ref()));
        }
    }

    /// Stops listening, lets running requests end for at most `grace`, tells webhooks what is due
    /// in the same time, and closes the ledger.
    ///
    /// Returns whether every request ended by itself; what is not told is told after a start.
    pub async fn drain(mut self, grace: Duration) -> bool {
        self.stop.send_replace(true);
        let ended = tokio::time::timeout(grace, async {
            while self.running.join_next().await.is_some() {}
        });
        // A receiver that does not answer makes no stop unclean: its messages wait.
        let told = tokio::time::timeout(grace, self.telling.join_next());
        let (ended, _) = tokio::join!(ended, told);
        let is_clean = ended.is_ok();
        self.telling.shutdown().await;
        self.running.shutdown().await;
        self.close_journal().await;
        self.close_store().await;
        self.ledger.close().await;
        is_clean
    }
}

impl App {
    async fn close_journal(&self) {
        let journal = Arc::clone(&self.journal);
        // What it panics of is told by its own hook.
        let _ = tokio::task::spawn_blocking(move || journal.close()).await;
    }

    async fn close_store(&self) {
        let store = Arc::clone(&self.store);
        let closed = tokio::task::spawn_blocking(move || store.close()).await;
        if let Ok(Err(error)) = closed {
            tracing::warn!(%error, "stored content could not be synced");
        }
    }
}

/// Makes the data directory, for its owner alone, unless it is there.
pub(crate) fn make_data_dir(path: &Path) -> Result<(), StartError> {
    use std::os::unix::fs::DirBuilderExt;
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|source| StartError::DataDir { path: path.to_owned(), source })
}

fn settings(config: &Config, metrics: &Arc<Metrics>) -> Result<Settings, StartError> {
    let configured: Arc<BTreeSet<_>> = Arc::new(config.upstreams.keys().cloned().collect());
    let (seen, names) = (Arc::clone(metrics), Arc::clone(&configured));
    let observe = move |name: &Name, status: u16, took: Duration| {
        let status = if status == 0 { "error".to_owned() } else { status.to_string() };
        let label = label(name, &names);
        seen.upstream_requests.with_label_values(&[label, &status]).inc();
        seen.upstream_seconds.with_label_values(&[label]).observe(took.as_secs_f64());
    };
    let (limit, remaining) = (metrics.limits.limit.clone(), metrics.limits.remaining.clone());
    let names = Arc::clone(&configured);
    let limits = move |name: &Name, most: u64, left: u64| {
        let set = |gauge: &prometheus::IntGaugeVec, value: u64| {
            let value = i64::try_from(value).unwrap_or(i64::MAX);
            gauge.with_label_values(&[label(name, &names)]).set(value);
        };
        set(&limit, most);
        set(&remaining, left);
    };
    let received = metrics.fills.received_bytes.clone();
    let meter = move |name: &Name| received.with_label_values(&[label(name, &configured)]);
    let upstreams = Upstreams::new(&config.upstreams)?.with_limits(Arc::new(limits));
    Ok(Settings {
        lock: None,
        policy: config.policy.clone(),
        upstreams: upstreams.with_observer(Arc::new(observe)).with_meter(Arc::new(meter)),
        audit_interval: config.audit_interval,
        stale_if_error: config.stale_if_error,
        offline: config.offline,
        retain: config.cache.retain,
        // What a ledger beside this one holds is not ours to let go.
        retain_idle: match config.ledger {
            LedgerKind::File => config.cache.retain_idle,
            LedgerKind::Memory => Duration::ZERO,
        },
        max_fills: config.cache.max_fills,
        finish_from: config.cache.finish_from,
    })
}

/// A name that only a pattern knows is the client's choice: the pattern is the label.
fn label<'a>(name: &'a Name, configured: &BTreeSet<Name>) -> &'a str {
    let known = BuiltIn::find(name).filter(|_| !configured.contains(name));
    known.map_or(name.as_str(), |known| known.pattern)
}

fn start_journal(config: &Config, metrics: &Metrics, clock: &Arc<dyn Clock>) -> Journal {
    let metrics = metrics.journal.clone();
    journal::Options::of(config)
        .map_or_else(Journal::off, |options| Journal::start(options, Arc::clone(clock), metrics))
}

async fn open_ledger(
    config: &Config,
    accept_rollback: bool,
    metrics: &Arc<Metrics>,
    clock: Arc<dyn Clock>,
) -> Result<Arc<dyn Ledger>, StartError> {
    if config.ledger == LedgerKind::Memory {
        return Ok(Arc::new(MemoryLedger::open(&config.data_dir, clock)?));
    }
    let histogram = metrics.ledger.fdatasync.clone();
    let options = OpenOptions {
        expected_id: config.expected_ledger.clone(),
        accept_rollback,
        on_sync: Some(Arc::new(move |took| histogram.observe(took.as_secs_f64()))),
        ..OpenOptions::new(&config.data_dir)
    };
    let opened = tokio::task::spawn_blocking(move || FileLedger::open(&options, clock)).await;
    Ok(Arc::new(opened.expect("opening the ledger does not panic")?))
}
