//! What a running process does at once: the listeners, and what goes on behind them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::Either;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::StartError;
use crate::admin::Admin;
use crate::audit::Audit;
use crate::blob::fs::FsStore;
use crate::config::{Config, ListenerConfig};
use crate::http::listener::{AllowFrom, Listener, ListenerLimits};
use crate::http::tls::ServerTls;
use crate::http::{Noting, Registry};
use crate::journal::Journal;
use crate::pull::Pull;

/// How often it is looked for files that were open for long enough.
const CLOSE_OLD_EVERY: Duration = Duration::from_secs(10);

/// The tasks of a process, and what they need.
pub(super) struct Wiring {
    pull: Arc<Pull>,
    journal: Arc<Journal>,
    pub(super) stopped: watch::Receiver<bool>,
    pub(super) running: JoinSet<()>,
}

impl Wiring {
    pub(super) fn new(
        pull: &Arc<Pull>,
        journal: &Arc<Journal>,
        stopped: watch::Receiver<bool>,
    ) -> Self {
        let (pull, journal) = (Arc::clone(pull), Arc::clone(journal));
        Self { pull, journal, stopped, running: JoinSet::new() }
    }

    pub(super) fn close_old(&mut self, store: Arc<FsStore>) {
        let mut stopped = self.stopped.clone();
        self.running.spawn(async move {
            let stop = stopped.wait_for(|stop| *stop);
            tokio::pin!(stop);
            while tokio::time::timeout(CLOSE_OLD_EVERY, &mut stop).await.is_err() {
                store.close_old();
            }
        });
    }

    pub(super) fn resume(&mut self) {
        let (pull, mut stopped) = (Arc::clone(&self.pull), self.stopped.clone());
        self.running.spawn(async move {
            tokio::select! {
                () = pull.retain() => {}
                _ = stopped.wait_for(|stop| *stop) => {}
            }
        });
    }

    pub(super) fn watch(&mut self) {
        let (audit, mut stopped) = (Audit::new(Arc::clone(&self.pull)), self.stopped.clone());
        self.running.spawn(async move {
            tokio::select! {
                () = audit.run() => {}
                _ = stopped.wait_for(|stop| *stop) => {}
            }
        });
    }

    pub(super) async fn listen(
        &mut self,
        configured: &[ListenerConfig],
    ) -> Result<(Vec<ListenerConfig>, Vec<Arc<ServerTls>>), StartError> {
        let metrics = Arc::clone(&self.pull.edges().metrics);
        let mut bound = Vec::new();
        for config in configured {
            let tls = ServerTls::open(config, &metrics)
                .map_err(|source| StartError::Certificate { address: config.address, source })?;
            let socket = bind(config.address, config.kind.name()).await?;
            let address = socket.local_addr().unwrap_or(config.address);
            let config = ListenerConfig { address, ..config.clone() };
            bound.push((socket, config, tls));
        }
        let configs: Vec<_> = bound.iter().map(|(_, config, _)| config.clone()).collect();
        let certificates: Vec<_> = bound.iter().filter_map(|(_, _, tls)| tls.clone()).collect();
        for tls in &certificates {
            self.running.spawn(Arc::clone(tls).watch(self.stopped.clone()));
        }
        for (socket, config, tls) in bound {
            let listener = listener_name(&config, &configs);
            let noting = Noting { journal: Arc::clone(&self.journal), listener };
            let service = Registry::new(Arc::clone(&self.pull), config.clone(), noting);
            let service = Arc::new(service);
            let answer = move |request, peer| {
                if let Some(response) = service.call_again(&request, peer) {
                    return Either::Left(std::future::ready(response));
                }
                let service = Arc::clone(&service);
                // Boxed: hyper keeps room for it in every connection, and most of them are idle.
                Either::Right(Box::pin(async move { service.call(request, peer).await }))
            };
            let listener = Listener {
                socket,
                name: config.kind.name(),
                allow_from: AllowFrom(config.allow_from.clone()),
                limits: ListenerLimits::of(&config),
                tls,
                metrics: Arc::clone(&metrics),
            };
            self.running.spawn(listener.run(answer, self.stopped.clone()));
        }
        Ok((configs, certificates))
    }

    pub(super) async fn admin(
        &mut self,
        config: &Config,
        store: &Arc<FsStore>,
    ) -> Result<SocketAddr, StartError> {
        let socket = bind(config.admin.address, "admin").await?;
        let address = socket.local_addr().unwrap_or(config.admin.address);
        let store = Arc::clone(store);
        let observe_cache = Box::new(move || store.observe());
        let hosts = config.admin.hosts.clone();
        let service = Arc::new(Admin::new(Arc::clone(&self.pull), hosts, observe_cache));
        let answer = move |request, _peer| std::future::ready(service.answer(&request));
        let listener = Listener {
            socket,
            name: "admin",
            allow_from: AllowFrom::default(),
            limits: ListenerLimits::default(),
            tls: None,
            metrics: Arc::clone(&self.pull.edges().metrics),
        };
        self.running.spawn(listener.run(answer, self.stopped.clone()));
        Ok(address)
    }
}

/// A listener as the journal names it: its kind, with its address where there are several of it.
fn listener_name(config: &ListenerConfig, all: &[ListenerConfig]) -> Arc<str> {
    let kind = config.kind.name();
    match all.iter().filter(|other| other.kind == config.kind).count() {
        0 | 1 => kind.into(),
        _ => format!("{kind}@{}", config.address).into(),
    }
}

async fn bind(address: SocketAddr, what: &'static str) -> Result<TcpListener, StartError> {
    let bound = TcpListener::bind(address).await;
    bound.map_err(|source| StartError::Bind { address, what, source })
}
