//! Files between bytes: over a socket, and in what hyper writes.

use std::convert::Infallible;
use std::fs::File;
use std::io::Write as _;
use std::sync::Arc;

use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::http::body::Body;
use crate::pull::BlobBody;

const SIZE: usize = 3_000_001;

fn content() -> Vec<u8> {
    // No byte is zero, as those of the marks are, and no two pages are alike.
    (0..SIZE).map(|at| u8::try_from((at / 7 + at / 4096) % 255 + 1).unwrap()).collect()
}

fn file(content: &[u8]) -> Arc<File> {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(content).unwrap();
    Arc::new(file)
}

fn extent(file: &Arc<File>, at: u64, end: u64) -> Extent {
    Extent { file: Arc::clone(file), at, end }
}

/// Two ends of one connection.
async fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    (listener.accept().await.unwrap().0, client)
}

async fn sends() -> (SendsFiles, FileQueue, TcpStream) {
    let (ours, client) = pair().await;
    let queue = FileQueue::default();
    (SendsFiles::new(ours, queue.clone()), queue, client)
}

/// What arrived once the other side has closed.
async fn all(mut client: TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    // A reset ends it as well.
    let _ = client.read_to_end(&mut bytes).await;
    bytes
}

async fn write(stream: &mut SendsFiles, slices: &[&[u8]]) -> io::Result<usize> {
    let slices: Vec<_> = slices.iter().map(|slice| IoSlice::new(slice)).collect();
    std::future::poll_fn(|context| Pin::new(&mut *stream).poll_write_vectored(context, &slices))
        .await
}

#[tokio::test]
async fn marks_among_bytes_are_sent_as_the_files_that_they_stand_for() {
    let (content, (mut stream, queue, client)) = (content(), sends().await);
    let file = file(&content);
    let arrives = tokio::spawn(all(client));
    let mut expected = Vec::new();
    // More than the region has room for, so that marks begin anew.
    for (at, length) in [(1, 1), (4095, 2), (77, 900_001), (0, 1_000_000), (2_000_000, 1_000_001)] {
        let piece = extent(&file, at, at + length);
        let mark = queue.push(piece.clone());
        let mut bytes = hyper::body::Bytes::from_static(b"before ").chain_all(&mark, b" after");
        while !bytes.is_empty() {
            let slices: Vec<&[u8]> = bytes.iter().map(|it| &it[..]).collect();
            let written = write(&mut stream, &slices).await.unwrap();
            advance(&mut bytes, written);
            // As hyper: what follows a file is there before the next begins.
        }
        let (at, end) = (usize::try_from(at).unwrap(), usize::try_from(at + length).unwrap());
        expected.extend([b"before ", &content[at..end], b" after"].concat());
    }
    drop(stream);
    assert!(arrives.await.unwrap() == expected);
}

trait ChainAll {
    fn chain_all(self, mark: &Bytes, after: &'static [u8]) -> Vec<Bytes>;
}

impl ChainAll for Bytes {
    fn chain_all(self, mark: &Bytes, after: &'static [u8]) -> Vec<Bytes> {
        vec![self, mark.clone(), Self::from_static(after)]
    }
}

fn advance(bytes: &mut Vec<Bytes>, mut written: usize) {
    for slice in bytes.iter_mut() {
        let part = written.min(slice.len());
        drop(slice.split_to(part));
        written -= part;
    }
    assert_eq!(written, 0, "no more than there is");
    bytes.retain(|slice| !slice.is_empty());
}

#[tokio::test]
async fn a_mark_that_is_not_the_next_files_is_never_sent() {
    let content = content();
    let file = file(&content);
    let piece = |at| extent(&file, at, at + 1000);
    // Nothing waits; another one waits first; a part of one; one that was sent already.
    for case in 0..4 {
        let (mut stream, queue, client) = sends().await;
        let first = queue.push(piece(0));
        let wrong = match case {
            0 => {
                queue.waiting().pieces.clear();
                first
            }
            1 => queue.push(piece(1000)),
            2 => first.slice(..999),
            _ => {
                assert_eq!(write(&mut stream, &[&first]).await.unwrap(), 1000);
                queue.push(piece(5));
                first
            }
        };
        let sent = if case == 3 { &content[..1000] } else { &[] };
        assert!(write(&mut stream, &[&wrong]).await.is_err(), "case {case}");
        assert!(stream.write_all(&wrong).await.is_err(), "case {case}");
        drop(stream);
        assert!(all(client).await == sent, "case {case}");
    }
}

#[tokio::test]
async fn bytes_that_come_where_a_file_waits_are_not_sent() {
    // As if somebody had copied the mark.
    let (mut stream, queue, client) = sends().await;
    let mark = queue.push(extent(&file(b"content"), 0, 7)).to_vec();
    assert!(write(&mut stream, &[b"head", &mark]).await.is_err());
    assert!(stream.is_write_vectored(), "or hyper copies");
    drop(stream);
    assert!(all(client).await.is_empty());
}

#[tokio::test]
async fn a_file_that_was_cut_short_breaks_the_connection_and_nothing_stands_in() {
    let (mut stream, queue, client) = sends().await;
    let file = file(b"0123456789");
    let mark = queue.push(extent(&file, 0, 10));
    file.set_len(4).unwrap();
    assert_eq!(write(&mut stream, &[&mark]).await.unwrap(), 4);
    let error = write(&mut stream, &[&mark[4..]]).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    drop(stream);
    assert_eq!(all(client).await, b"0123");
}

#[tokio::test]
async fn a_connection_that_sends_without_end_lets_others_have_their_turn() {
    let (mut stream, queue, _client) = sends().await;
    let mark = queue.push(extent(&file(b"0123456789"), 0, 10));
    stream.sent = TURN;
    let mut context = Context::from_waker(std::task::Waker::noop());
    let slices = [IoSlice::new(&mark)];
    assert!(Pin::new(&mut stream).poll_write_vectored(&mut context, &slices).is_pending());
    assert_eq!(write(&mut stream, &[&mark]).await.unwrap(), 10, "it goes on");
}

/// What hyper writes for requests that come in one segment, whose paths are `/first/length`
/// or `/first/length/unknown` of the content; others get a few bytes from memory.
async fn served(content: &[u8], paths: &[String]) -> Vec<u8> {
    let (ours, mut client) = pair().await;
    let (file, files) = (file(content), FileQueue::default());
    let stream = TokioIo::new(SendsFiles::new(ours, files.clone()));
    let answer = service_fn(move |request: Request<Incoming>| {
        let body = body(request.uri().path(), &file).through(&files);
        async { Ok::<_, Infallible>(Response::new(body)) }
    });
    let serving = async move {
        let mut builder = http1::Builder::new();
        let _ = builder.writev(true).max_buf_size(8192).serve_connection(stream, answer).await;
    };
    let head = |path: &String| format!("GET {path} HTTP/1.1\r\nhost: x\r\n");
    let requests: Vec<_> = paths.iter().map(head).collect();
    let requests = format!("{}connection: close\r\n\r\n", requests.join("\r\n"));
    client.write_all(requests.as_bytes()).await.unwrap();
    tokio::join!(serving, all(client)).1
}

fn body(path: &str, file: &Arc<File>) -> Body {
    let numbers: Vec<u64> = path.split('/').filter_map(|part| part.parse().ok()).collect();
    let [first, length] = numbers[..] else { return Body::full("a manifest") };
    let blob = BlobBody::File(extent(file, first, first + length));
    let counter = prometheus::IntCounter::new("sent", "sent").unwrap();
    Body::blob(blob, Some(length).filter(|_| !path.ends_with("unknown")), counter)
}

/// Splits off one answer; gives its body.
fn answer(bytes: &mut &[u8]) -> Vec<u8> {
    let end = bytes.windows(4).position(|it| it == b"\r\n\r\n").expect("a head") + 4;
    let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    *bytes = &bytes[end..];
    if let Some(length) = head.lines().find_map(|line| line.strip_prefix("content-length: ")) {
        return take(bytes, length.parse().unwrap()).to_vec();
    }
    let mut body = Vec::new();
    loop {
        let end = bytes.windows(2).position(|it| it == b"\r\n").expect("a chunk") + 2;
        let size = String::from_utf8(take(bytes, end).to_vec()).unwrap();
        let size = usize::from_str_radix(size.trim_end(), 16).unwrap();
        body.extend_from_slice(take(bytes, size));
        assert_eq!(take(bytes, 2), b"\r\n");
        if size == 0 {
            return body;
        }
    }
}

fn take<'a>(bytes: &mut &'a [u8], length: usize) -> &'a [u8] {
    let (taken, rest) = bytes.split_at(length);
    *bytes = rest;
    taken
}

#[tokio::test]
async fn what_hyper_writes_around_files_arrives_exactly() {
    let content = content();
    let unknown = format!("/0/{SIZE}/unknown");
    let paths = ["/0/1", "/manifest", "/1/2500000", "/4097/65536", &unknown, "/manifest"];
    let paths: Vec<String> = paths.into_iter().map(str::to_owned).collect();
    let arrived = served(&content, &paths).await;
    let mut rest = &arrived[..];
    let part = |first: usize, length: usize| content[first..first + length].to_vec();
    let manifest = || b"a manifest".to_vec();
    let large = part(1, 2_500_000);
    let expected = [part(0, 1), manifest(), large, part(4097, 65536), content.clone(), manifest()];
    for (path, expected) in paths.iter().zip(expected) {
        assert!(answer(&mut rest) == expected, "{path}");
    }
    assert!(rest.is_empty());
}

#[tokio::test]
async fn a_blob_whose_file_is_cut_short_ends_as_a_broken_connection_and_nothing_follows_it() {
    let content = content();
    let beyond = format!("/{}/100000", SIZE - 70_000);
    let arrived = served(&content, &[beyond, "/manifest".to_owned()]).await;
    let end = arrived.windows(4).position(|it| it == b"\r\n\r\n").expect("a head") + 4;
    assert!(arrived[end..] == content[SIZE - 70_000..]);
}
