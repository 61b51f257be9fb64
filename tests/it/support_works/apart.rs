//! A world of a test's own has its own names, and nothing of it stays.

use std::net::{SocketAddr, TcpListener, ToSocketAddrs as _};
use std::path::Path;
use std::process::Command;

use crate::support::apart::{apart, is_inside};
use crate::support::wait::eventually;

const ADDRESS: &str = "10.77.0.20";
const NAME: &str = "registry.example";
/// A program that nobody else starts.
const SLEEP: [&str; 2] = ["sleep", "97531"];
const LEFT: [&str; 2] = ["/etc/left-by-a-test", "/var/lib/left-by-a-test"];

#[test]
fn a_world_of_a_tests_own_ends_with_all_that_is_in_it() {
    apart(&a_world_of_a_tests_own_ends_with_all_that_is_in_it, &[(ADDRESS, &[NAME])], || {
        let listener = TcpListener::bind((ADDRESS, 443)).expect("the address is ours");
        let found: Vec<SocketAddr> = (NAME, 443).to_socket_addrs().expect("a known name").collect();
        assert!(found.contains(&listener.local_addr().expect("it is bound")), "{found:?}");
        let beyond = std::net::TcpStream::connect("198.51.100.1:443");
        assert!(beyond.is_err(), "there is no way out");
        for file in LEFT {
            std::fs::write(file, "").expect("everything may be written");
        }
        let sleep = Command::new(SLEEP[0]).arg(SLEEP[1]).spawn().expect("a program");
        eventually("it runs", is_running);
        std::mem::forget(sleep);
    });
    if !is_inside() {
        assert!(!is_running());
        assert!(LEFT.iter().all(|file| !Path::new(file).exists()));
    }
}

fn is_running() -> bool {
    let processes = std::fs::read_dir("/proc").expect("this is Linux").flatten();
    let mut commands = processes.filter_map(|it| std::fs::read(it.path().join("cmdline")).ok());
    commands.any(|command| command == SLEEP.map(|part| format!("{part}\0")).concat().as_bytes())
}
