use super::*;

/// The root of a process in a container.
const CONTAINER: &str = "/proc/12/root";

#[test]
fn neither_a_path_nor_a_link_leads_out_of_its_root_or_of_a_container() {
    let folder = tempfile::tempdir().unwrap();
    let at = |path: &str| folder.path().join(path.trim_start_matches('/'));
    let put = |path: &str, text: &str| {
        std::fs::create_dir_all(at(path).parent().unwrap()).unwrap();
        std::fs::write(at(path), text).unwrap();
    };
    let link = |to: &str, path: &str| std::os::unix::fs::symlink(to, at(path)).unwrap();
    put("secret", "of the host");
    put("below/etc/x", "of the root");
    put(&format!("below{CONTAINER}/etc/x"), "of the container");
    link("/etc", "below/absolute");
    link("../../../secret", "below/etc/climbing");
    link("/etc/x", &format!("below{CONTAINER}/link"));
    // No kernel made this one.
    std::fs::create_dir(at("below/proc/13")).unwrap();
    link("../../..", &format!("below{}", CONTAINER.replace("12", "13")));
    let files = Files::below(&at("below"));
    for (path, expected) in [
        ("/etc/x".to_owned(), Some("of the root")),
        ("/absolute/x".to_owned(), Some("of the root")),
        ("/etc/../../etc/x".to_owned(), Some("of the root")),
        ("/etc/climbing".to_owned(), None),
        ("/../secret".to_owned(), None),
        (format!("{CONTAINER}/link"), Some("of the container")),
        (format!("{CONTAINER}/../../../etc/x"), Some("of the container")),
        (format!("{}/secret", CONTAINER.replace("12", "13")), None),
    ] {
        assert_eq!(files.text(&path).unwrap().as_deref(), expected, "{path}");
    }
}

#[test]
fn of_this_host_the_files_are_as_they_are_and_those_of_a_process_from_its_root() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("x"), "here").unwrap();
    std::os::unix::fs::symlink("x", folder.path().join("link")).unwrap();
    let path = format!("{}/link", folder.path().display());
    let files = Files::below(Path::new("/"));
    assert_eq!(files.text(&path).unwrap().as_deref(), Some("here"));
    let own = format!("/proc/{}/root", std::process::id());
    assert_eq!(files.text(&format!("{own}{path}")).unwrap().as_deref(), Some("here"));
    assert!(files.link(&format!("/proc/{}/ns/pid", std::process::id())).is_some());
}

#[test]
fn what_never_ends_is_not_opened() {
    let folder = tempfile::tempdir().unwrap();
    let files = Files::below(folder.path());
    let pipe = folder.path().join("pipe");
    let mode = Mode::from_raw_mode(0o600);
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, FileType::Fifo, mode, 0).unwrap();
    assert!(files.text("/pipe").unwrap_err().contains("regular"));
    let host = Files::below(Path::new("/"));
    std::os::unix::fs::symlink("/dev/zero", folder.path().join("zero")).unwrap();
    let zero = format!("{}/zero", folder.path().display());
    assert!(host.text(&zero).unwrap_err().contains("regular"));
}

#[test]
fn settings_without_end_are_told_and_not_kept() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("large"), vec![b'a'; 1 << 20]).unwrap();
    let files = Files::below(folder.path());
    let read = (0..100).take_while(|_| files.text("/large").is_ok()).count();
    assert_eq!(read, 32);
    assert!(files.text("/large").unwrap_err().contains("32 MiB"));
}

#[test]
fn what_is_no_small_text_is_told_and_not_read() {
    let folder = tempfile::tempdir().unwrap();
    let files = Files::below(folder.path());
    let write = |name: &str, bytes: &[u8]| std::fs::write(folder.path().join(name), bytes);
    write("large", &vec![b'a'; (1 << 20) + 1]).unwrap();
    write("binary", b"\xff\xfe").unwrap();
    write("small", b"text").unwrap();
    assert!(files.text("/large").unwrap_err().contains("1 MiB"));
    assert!(files.text("/binary").unwrap_err().contains("UTF-8"));
    assert!(files.text("/").unwrap_err().contains("regular"));
    assert_eq!(files.text("/small").unwrap().as_deref(), Some("text"));
    assert_eq!(files.text("/none").unwrap(), None);
    assert_eq!(files.text("/small/none").unwrap(), None);
    assert_eq!(files.names("/"), ["binary", "large", "small"]);
}
