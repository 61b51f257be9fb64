//! The socket, asked as the command line asks it and as it must not be.

use tempfile::TempDir;

use std::collections::BTreeMap;

use super::cache::CacheRequest;
use super::canary::CanaryRequest;
use super::*;
use crate::alert::{Nothing, Sources};
use crate::blob::BlobStore as _;
use crate::blob::fs::{Filter, Freed, FsStore, Limits, Prune};
use crate::blob::links::Links;
use crate::clock::ManualClock;
use crate::decide::Filter as TagFilter;
use crate::event::{Draft, EventKind};
use crate::journal::Journal;
use crate::ledger::{LedgerStore as _, MemoryLedger};
use crate::metrics::NotifyMetrics;
use crate::oci::{ComputedDigest, Digest};
use crate::pin::{Content, PinKey};
use crate::policy::Policy;
use crate::pull::{Edges, Settings};
use crate::units::{DiskSize, Percent};
use crate::upstream::Upstreams;

/// A server with 40 pinned tags.
struct Server {
    folder: TempDir,
    ledger: Arc<MemoryLedger>,
    pull: Arc<Pull>,
    store: Arc<FsStore>,
    stop: watch::Sender<bool>,
    running: tokio::task::JoinHandle<()>,
}

fn digest() -> Digest {
    Digest::sha256([7; 32])
}

fn store(folder: &std::path::Path) -> Arc<FsStore> {
    let limits = Limits { max_size: DiskSize::Bytes(1 << 20), min_free: DiskSize::Bytes(0) };
    Arc::new(FsStore::open(folder, limits).unwrap())
}

fn pull(folder: &std::path::Path, ledger: &Arc<MemoryLedger>, store: &Arc<FsStore>) -> Arc<Pull> {
    let edges = Edges {
        ledger: Arc::clone(ledger) as _,
        store: Arc::clone(store) as _,
        links: Arc::new(Links::open(folder).unwrap()),
        metrics: Arc::default(),
        clock: ManualClock::at(1),
    };
    let settings = Settings {
        lock: None,
        policy: Policy::default(),
        upstreams: Upstreams::new(&BTreeMap::new()).unwrap(),
        stale_if_error: Duration::ZERO,
        audit_interval: Duration::ZERO,
        offline: false,
        retain: crate::config::Retention::Pulled,
        retain_idle: Duration::ZERO,
        max_fills: 128,
        finish_from: Percent(25),
    };
    Pull::new(edges, settings)
}

impl Server {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let ledger = Arc::new(MemoryLedger::new(ManualClock::at(1)));
        for number in 0..40 {
            let key = PinKey {
                registry: "docker.io".parse().unwrap(),
                repository: "library/alpine".parse().unwrap(),
                tag: format!("3.{number}").parse().unwrap(),
            };
            let media_type = "application/vnd.oci.image.index.v1+json".parse().unwrap();
            let content = Content { digest: digest(), media_type, size_bytes: 1 };
            let draft =
                Draft { observed: Some(content), ..Draft::new(EventKind::Pinned, Some(key)) };
            ledger.append(draft, 0, None).await.unwrap();
        }
        let (stop, stopped) = watch::channel(false);
        let socket = bind(folder.path()).unwrap();
        let store = store(folder.path());
        let pull = pull(folder.path(), &ledger, &store);
        let doers = Doers {
            ledger: Arc::clone(&ledger) as _,
            pull: Arc::clone(&pull),
            store: Arc::clone(&store),
            alerts: alerts(folder.path(), &ledger),
            record: Arc::new(Record {
                journal: Arc::new(Journal::off()),
                started_ms: 0,
                started_at: 0,
                lock: None,
            }),
        };
        let running = tokio::spawn(run(socket, doers, stopped));
        Self { folder, ledger, pull, store, stop, running }
    }

    /// Sends bytes and reads all lines of the answer.
    async fn ask(&self, bytes: &[u8]) -> Vec<Line> {
        let mut stream = connect(self.folder.path()).await.unwrap();
        // A request that is too long is answered before it is read to its end.
        let _ = stream.write_all(bytes).await;
        let mut text = Vec::new();
        let _ = stream.read_to_end(&mut text).await;
        let lines = text.split_inclusive(|byte| *byte == b'\n');
        lines.map(|line| serde_json::from_slice(line).unwrap()).collect()
    }

    async fn request(&self, request: &Request) -> Vec<Line> {
        self.ask(&[serde_json::to_vec(request).unwrap(), b"\n".to_vec()].concat()).await
    }
}

/// Alerts to nobody.
fn alerts(folder: &std::path::Path, ledger: &Arc<MemoryLedger>) -> Arc<Alerts> {
    let sources = Sources {
        ledger: Arc::clone(ledger) as _,
        clock: ManualClock::at(0),
        metrics: NotifyMetrics::default(),
        explain: Arc::new(Nothing),
        who: Arc::new(Nothing),
        reaction: Arc::new(|_| None),
    };
    Arc::new(Alerts::new(sources, folder, &[]).expect("there is none to be wrong"))
}

#[tokio::test]
async fn a_decision_carries_the_name_of_the_peers_user() {
    let server = Server::start().await;
    let reason = "found in the wild".parse().unwrap();
    let request = Request::Revoke { digest: digest(), undo: false, reason };
    let lines = server.request(&request).await;
    assert!(matches!(lines.as_slice(), [Line::Reply(Reply::Decided(_)), Line::Done]), "{lines:?}");
    assert!(server.ledger.is_revoked(&digest()));
    let event = server.ledger.events(1, 100).await.unwrap().pop().unwrap();
    let own = rustix::process::geteuid().as_raw();
    assert_eq!((event.who, event.why.as_str()), (user::name_of(own), "found in the wild"));
}

#[tokio::test]
async fn the_cache_is_asked_and_pruned_by_the_same_socket() {
    let server = Server::start().await;
    let contents = [b"one".as_slice(), b"other", b"third"];
    for bytes in contents {
        server.store.put(&ComputedDigest::of(bytes, None).digest(), bytes).unwrap();
    }
    let ask = async |request: CacheRequest| {
        let line = serde_json::json!({ "cache": request }).to_string() + "\n";
        server.ask(line.as_bytes()).await
    };
    let filter = Filter { only_held: false, by_size: true, limit: 2 };
    let lines = ask(CacheRequest::List(filter)).await;
    let [Line::Cache(CacheReply::Listed(first)), _, Line::Cache(fitting), Line::Done] = &lines[..]
    else {
        panic!("{lines:?}")
    };
    assert_eq!((first.size_bytes, fitting), (5, &CacheReply::Fitting(3)));
    let prune = |is_dry_run| CacheRequest::Prune { what: vec![Prune::All], is_dry_run };
    for (is_dry_run, left) in [(true, 3), (false, 0)] {
        let lines = ask(prune(is_dry_run)).await;
        let freed = Freed { blobs: 3, bytes: 13 };
        assert_eq!(lines, [Line::Cache(CacheReply::Pruned(freed)), Line::Done]);
        let lines = ask(CacheRequest::Stats).await;
        let [Line::Cache(CacheReply::Stats(stats)), Line::Done] = &lines[..] else {
            panic!("{lines:?}")
        };
        assert_eq!((stats.store.blobs, stats.blob_hit_ratio), (left, None));
    }
}

#[tokio::test]
async fn a_list_comes_line_by_line_and_ends_with_done() {
    let server = Server::start().await;
    let lines = server.request(&Request::List(TagFilter::default())).await;
    let (last, tags) = lines.split_last().unwrap();
    assert_eq!((last, tags.len()), (&Line::Done, 40));
}

#[tokio::test]
async fn what_is_no_request_is_refused_and_changes_nothing() {
    let server = Server::start().await;
    let before = server.ledger.status().sequence;
    let long = format!("\"{}\"\n", "a".repeat(100_000)).into_bytes();
    for bytes in [
        b"\n".as_slice(),
        b"{}\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"{\"stop\":{}}\n",
        b"[[[[[[[[[[[[[[[[[[[[\n",
        b"\xff\xfe\n",
        &long,
    ] {
        let lines = server.ask(bytes).await;
        assert!(matches!(lines.as_slice(), [Line::Failed(_)] | []), "{lines:?}");
    }
    assert_eq!(server.ledger.status().sequence, before);
    assert_eq!(server.request(&Request::Status).await.pop(), Some(Line::Done));
}

#[tokio::test]
async fn clients_that_say_nothing_end_with_the_server() {
    let server = Server::start().await;
    let mut silent = Vec::new();
    for _ in 0..CONNECTIONS {
        silent.push(connect(server.folder.path()).await.unwrap());
    }
    server.stop.send_replace(true);
    server.running.await.unwrap();
    assert!(connect(server.folder.path()).await.is_err());
}

#[test]
fn only_the_own_user_and_root_are_heard() {
    assert!(is_heard(1000, 1000) && is_heard(0, 1000) && is_heard(0, 0));
    assert!(!is_heard(1001, 1000) && !is_heard(1000, 0));
    let own = rustix::process::geteuid().as_raw();
    assert!(admit(Ok(own)).is_ok());
    assert!(admit(Ok(own + 1)).is_err());
    assert!(admit(Err(io::ErrorKind::Other.into())).is_err());
}

/// Asks for a canary, and gives the connection with the first line of the answer.
async fn place(server: &Server, nonce: &str) -> (BufReader<UnixStream>, Line) {
    let mut stream = connect(server.folder.path()).await.unwrap();
    let canary = CanaryRequest { port: 9, nonce: nonce.to_owned() };
    let text = serde_json::json!({ "canary": canary }).to_string() + "\n";
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut stream = BufReader::new(stream);
    let line = next(&mut stream).await;
    (stream, line)
}

async fn next(stream: &mut BufReader<UnixStream>) -> Line {
    let mut line = String::new();
    stream.read_line(&mut line).await.unwrap();
    serde_json::from_str(&line).unwrap()
}

#[tokio::test]
async fn a_canary_stays_while_its_connection_is_open_and_leaves_nothing() {
    const NONCE: &str = "0123456789abcdef";
    let server = Server::start().await;
    let name = format!("immutag-canary/{NONCE}");
    let is_there = || server.pull.canary_upstream(&name).is_some();
    let (mut first, line) = place(&server, NONCE).await;
    assert_eq!((line, is_there()), (Line::Placed, true));
    assert!(server.pull.canary_upstream("library/alpine").is_none());
    let (_, second) = place(&server, "fedcba9876543210").await;
    assert!(matches!(second, Line::Failed(Fault::Failed(words)) if words.contains("another")));
    let key = PinKey {
        registry: "canary.invalid".parse().unwrap(),
        repository: name.parse().unwrap(),
        tag: "hold".parse().unwrap(),
    };
    let media_type = "application/vnd.oci.image.index.v1+json".parse().unwrap();
    let content = Content { digest: digest(), media_type, size_bytes: 1 };
    let draft =
        Draft { observed: Some(content), ..Draft::new(EventKind::Pinned, Some(key.clone())) };
    server.ledger.append(draft, 0, None).await.unwrap();
    first.get_mut().shutdown().await.unwrap();
    assert_eq!((next(&mut first).await, is_there()), (Line::Done, false));
    let state = server.ledger.state(&key).await.unwrap().unwrap();
    assert_eq!(state.standing(), None, "it is forgotten");
}

#[tokio::test]
async fn a_canary_is_called_by_hex_digits_only() {
    let server = Server::start().await;
    for nonce in ["", "../../library", "0123456789abcde", "0123456789abcdeg", "0123456789abcdef0"] {
        let (_, line) = place(&server, nonce).await;
        assert!(matches!(line, Line::Failed(_)), "{nonce}: {line:?}");
    }
}

/// Announces `count` lines of a list, sends `lines`, and gives the last line of the answer.
async fn import(server: &Server, count: usize, lines: &[u8]) -> Line {
    let mut stream = connect(server.folder.path()).await.unwrap();
    let reason = "a list".parse().unwrap();
    let order = crate::decide::ImportOrder { reason, is_dry_run: false, skips_conflicts: false };
    let request = serde_json::json!({ "import": ImportRequest { order, count } });
    stream.write_all((request.to_string() + "\n").as_bytes()).await.unwrap();
    let mut stream = BufReader::new(stream);
    let first = next(&mut stream).await;
    if first != Line::Ready {
        return first;
    }
    let _ = stream.get_mut().write_all(lines).await;
    let _ = stream.get_mut().shutdown().await;
    next(&mut stream).await
}

#[tokio::test]
async fn a_list_that_breaks_off_or_is_none_changes_nothing() {
    let server = Server::start().await;
    let before = server.ledger.status().sequence;
    let line = |tag: &str| {
        let key = PinKey {
            registry: "docker.io".parse().unwrap(),
            repository: "library/busybox".parse().unwrap(),
            tag: tag.parse().unwrap(),
        };
        let claimed = crate::decide::Claimed { key, digest: digest(), is_config: false, place: 1 };
        serde_json::to_string(&claimed).unwrap() + "\n"
    };
    let good = line("1") + &line("2");
    for (count, lines) in [
        (3, good.clone()),
        (2, good[..good.len() - 1].to_owned()),
        (2, line("1") + "{}\n"),
        (2, line("1") + &"a".repeat(100_000)),
        (2, line("1") + &line("1")),
        (2, good.replace("library/busybox", "../x")),
        (crate::ledger::BULK_LIMIT + 1, good.clone()),
        (usize::MAX, good.clone()),
    ] {
        let answer = import(&server, count, lines.as_bytes()).await;
        assert!(matches!(answer, Line::Failed(_)), "{count}: {answer:?}");
        assert_eq!(server.ledger.status().sequence, before);
    }
    let answer = import(&server, 2, good.as_bytes()).await;
    let Line::Reply(Reply::Imported(imported)) = answer else { panic!("{answer:?}") };
    assert_eq!((imported.is_written, imported.new), (true, 2));
    assert_eq!(server.ledger.status().sequence, before + 2);
}
