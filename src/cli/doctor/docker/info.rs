//! What a running dockerd says of itself: the settings that it really goes by.
//!
//! Source: Docker Engine API, `GET /info`.

use std::os::fd::AsRawFd as _;

use rustix::fs::fstat;
use serde::Deserialize;

use crate::cli::clients::Version;
use crate::cli::doctor::files::Files;
use crate::cli::doctor::question::get_local;
use crate::cli::doctor::scene::{Process, Scene};

/// Where it listens, unless `--host` says otherwise.
const SOCKET: &str = "/var/run/docker.sock";

/// How containerd's store names itself among the driver's properties.
const SNAPSHOTTER: [&str; 2] = ["driver-type", "io.containerd.snapshotter.v1"];

/// What matters here of a running dockerd.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::cli::doctor) struct DockerInfo {
    /// The socket by which it was asked.
    pub(in crate::cli::doctor) socket: String,
    pub(in crate::cli::doctor) version: Option<Version>,
    /// Whether it has containerd's store.
    pub(in crate::cli::doctor) is_containerd: bool,
    /// Its mirrors of Docker Hub, in order.
    pub(in crate::cli::doctor) mirrors: Vec<String>,
}

/// Of the answer.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Info {
    server_version: String,
    #[serde(default)]
    driver_status: Option<Vec<Vec<String>>>,
    registry_config: RegistryConfig,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RegistryConfig {
    mirrors: Option<Vec<String>>,
}

/// Asks the dockerds of this host. One that does not answer is judged by its files.
pub(in crate::cli::doctor) async fn ask(scene: &mut Scene) {
    if !scene.is_own {
        return;
    }
    let asked = scene.anywhere("dockerd");
    let asked: Vec<_> =
        asked.map(|process| (process.id, process.user, socket_of(process))).collect();
    for (id, user, socket) in asked {
        if let Some(info) = ask_one(&scene.files, user, &socket).await {
            scene.dockers.insert(id, info);
        }
    }
}

/// Asks by a socket, if it is of the user whose process it should be: any process can call itself
/// dockerd and name the socket of something else. In a container links count from its own root.
async fn ask_one(files: &Files, user: Option<u32>, socket: &str) -> Option<DockerInfo> {
    let handle = files.handle(socket)?;
    if user != Some(fstat(&handle).ok()?.st_uid) {
        return None;
    }
    let answer = get_local(&format!("/proc/self/fd/{}", handle.as_raw_fd()), "/info").await?;
    read(socket, &answer.body)
}

fn socket_of(process: &Process) -> String {
    let hosts = ["-H", "--host"].map(|name| process.option(name)).concat();
    let socket = hosts.iter().find_map(|host| host.strip_prefix("unix://"));
    process.path(socket.filter(|path| path.starts_with('/')).unwrap_or(SOCKET))
}

fn read(socket: &str, body: &[u8]) -> Option<DockerInfo> {
    let info: Info = serde_json::from_slice(body).ok()?;
    let properties = info.driver_status.unwrap_or_default();
    Some(DockerInfo {
        socket: socket.to_owned(),
        version: Version::find_in(&info.server_version),
        is_containerd: properties.iter().any(|property| property == &SNAPSHOTTER),
        mirrors: info.registry_config.mirrors.unwrap_or_default(),
    })
}

impl DockerInfo {
    /// As a place.
    pub(in crate::cli::doctor) fn place(&self) -> String {
        format!("dockerd at {}", self.socket)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::os::unix::net::UnixListener;

    use super::*;

    const CLASSIC: &str = r#"{"ServerVersion":"20.10.24+dfsg1","Driver":"overlay2",
        "DriverStatus":[["Backing Filesystem","extfs"]],
        "RegistryConfig":{"Mirrors":["http://127.0.0.1:5050/"]}}"#;
    const CONTAINERD: &str = r#"{"ServerVersion":"29.0.1","Driver":"overlayfs",
        "DriverStatus":[["driver-type","io.containerd.snapshotter.v1"]],
        "RegistryConfig":{"Mirrors":null}}"#;

    #[test]
    fn an_answer_tells_store_version_and_mirrors() {
        let classic = read("/s", CLASSIC.as_bytes()).unwrap();
        assert_eq!((classic.version, classic.is_containerd), (Some(Version(20, 10, 24)), false));
        assert_eq!(classic.mirrors, ["http://127.0.0.1:5050/"]);
        let containerd = read("/s", CONTAINERD.as_bytes()).unwrap();
        assert_eq!((containerd.is_containerd, containerd.mirrors.len()), (true, 0));
        assert_eq!(read("/s", b"{}"), None);
    }

    #[test]
    fn a_daemon_is_asked_where_it_was_told_to_listen() {
        let called = |arguments: &[&str]| Process {
            arguments: arguments.iter().map(|it| (*it).to_owned()).collect(),
            ..Process::default()
        };
        for (arguments, expected) in [
            (&["dockerd"][..], SOCKET),
            (&["dockerd", "-H", "fd://"], SOCKET),
            (&["dockerd", "-H", "tcp://0.0.0.0:2375", "-H", "unix:///run/d.sock"], "/run/d.sock"),
            (&["dockerd", "--host=unix:///run/d.sock"], "/run/d.sock"),
        ] {
            assert_eq!(socket_of(&called(arguments)), expected, "{arguments:?}");
        }
        let container = Some("/proc/7/root".to_owned());
        let inside = Process { container, ..called(&["dockerd"]) };
        assert_eq!(socket_of(&inside), format!("/proc/7/root{SOCKET}"));
    }

    #[tokio::test]
    async fn a_daemon_answers_by_its_socket_and_one_that_is_gone_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("docker.sock");
        let socket = path.to_str().unwrap().to_owned();
        let files = Files::below(std::path::Path::new("/"));
        let user = rustix::process::geteuid().as_raw();
        assert_eq!(ask_one(&files, Some(user), &socket).await, None);
        let listener = UnixListener::bind(&path).unwrap();
        for other in [None, Some(user + 1)] {
            assert_eq!(ask_one(&files, other, &socket).await, None, "it is somebody else's");
        }
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut asked = [0; 1024];
            let length = stream.read(&mut asked).unwrap();
            let length_of_answer = CLASSIC.len();
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length_of_answer}\r\n\r\n");
            stream.write_all(format!("{head}{CLASSIC}").as_bytes()).unwrap();
            String::from_utf8_lossy(&asked[..length]).into_owned()
        });
        let info = ask_one(&files, Some(user), &socket).await.unwrap();
        assert_eq!((info.mirrors.len(), info.socket), (1, socket));
        assert!(server.join().unwrap().starts_with("GET /info HTTP/1.1\r\n"));
    }
}
