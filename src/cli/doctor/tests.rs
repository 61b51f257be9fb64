use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use serde::Deserialize;

use super::files::Files;
use super::scene::gather::gather_from;
use super::*;
use crate::cli::clients::Version;

/// What the doctor must say of a fixture: `expected.json`.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Expected {
    client: String,
    /// `None`: it is not here.
    standing: Option<String>,
    #[serde(default)]
    registries: Vec<String>,
    #[serde(default)]
    mirror: Option<String>,
    findings: Vec<ExpectedFinding>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct ExpectedFinding {
    standing: String,
    place: Option<String>,
    /// A part of the words.
    what: String,
}

fn fixtures() -> Vec<(PathBuf, Expected)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/doctor");
    let mut paths: Vec<_> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let read = |path: PathBuf| {
        let text = std::fs::read_to_string(path.join("expected.json")).unwrap();
        let expected = serde_json::from_str(&text).unwrap();
        (path, expected)
    };
    paths.into_iter().map(read).collect()
}

fn endpoints(mirror: Option<&str>) -> Endpoints {
    let at = |text: &str| Some(text.parse().unwrap());
    let mirror = at(mirror.unwrap_or("http://127.0.0.1:5050"));
    Endpoints { mirror, direct: at("http://127.0.0.1:5051") }
}

fn scene(root: &Path, registries: &[String], mirror: Option<&str>) -> Scene {
    let is_narrowed = !registries.is_empty();
    let registries = if is_narrowed { registries.to_vec() } else { vec!["docker.io".to_owned()] };
    gather(root, Order { endpoints: endpoints(mirror), registries, is_narrowed })
}

fn name(standing: Standing) -> String {
    serde_json::to_value(standing).unwrap().as_str().unwrap().to_owned()
}

#[test]
fn every_trap_is_found_at_its_line_and_every_good_setting_is_well() {
    let fixtures = fixtures();
    assert!(fixtures.len() > 100, "{} fixtures are not all", fixtures.len());
    let mut wrong = Vec::new();
    for (path, expected) in fixtures {
        let client = ClientKind::from_str(&expected.client, false).unwrap();
        let scene = scene(&path, &expected.registries, expected.mirror.as_deref());
        let diagnosis = examine(&scene, client);
        let lacks = |wanted: &&ExpectedFinding| {
            !diagnosis.findings.iter().any(|finding| {
                name(finding.standing) == wanted.standing
                    && finding.place == wanted.place
                    && finding.what.contains(&wanted.what)
            })
        };
        let lacking: Vec<_> = expected.findings.iter().filter(lacks).map(|it| &it.what).collect();
        if diagnosis.standing().map(name) != expected.standing || !lacking.is_empty() {
            let name = path.file_name().unwrap();
            wrong.push(format!("{name:?} lacks {lacking:?}: {:#?}", diagnosis.findings));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn whatever_is_not_well_comes_with_a_fix() {
    for (path, expected) in fixtures() {
        let client = ClientKind::from_str(&expected.client, false).unwrap();
        let scene = scene(&path, &expected.registries, expected.mirror.as_deref());
        for finding in examine(&scene, client).findings {
            let is_told = finding.standing == Standing::Protected || !finding.fix.is_empty();
            assert!(is_told, "{}: {finding:#?}", path.display());
        }
    }
}

#[test]
fn what_a_running_dockerd_says_goes_over_its_file() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/doctor");
    let mut scene = scene(&folder.join("docker-mirror-by-flag"), &[], None);
    let id = scene.processes[0].id;
    let socket = "/run/docker.sock".to_owned();
    let mirrors = vec!["http://127.0.0.1:5050/".to_owned()];
    let version = Some(Version(28, 0, 1));
    let info = docker::DockerInfo { socket, version, is_containerd: false, mirrors };
    let standings = |scene: &Scene| {
        let findings = examine(scene, ClientKind::Docker).findings;
        findings.into_iter().map(|it| (it.standing, it.place)).collect::<Vec<_>>()
    };
    scene.dockers.insert(id, info.clone());
    let flag = Some("process 41 (dockerd)".to_owned());
    assert_eq!(standings(&scene), [(Standing::HoldOnly, flag)]);

    scene.dockers.insert(id, docker::DockerInfo { mirrors: Vec::new(), ..info.clone() });
    let file = Some("/etc/docker/daemon.json".to_owned());
    let expected = [(Standing::Protected, file.clone()), (Standing::Bypassable, file)];
    assert_eq!(standings(&scene), expected);

    let mirrors = vec!["https://mirror.example/".to_owned()];
    scene.dockers.insert(id, docker::DockerInfo { mirrors, ..info });
    let daemon = Some("dockerd at /run/docker.sock".to_owned());
    assert_eq!(standings(&scene)[1], (Standing::Bypassable, daemon));
}

#[test]
fn a_user_with_tables_without_end_is_told_and_not_compared() {
    let table = "[[registry]]\nprefix = \"N\"\nlocation = \"127.0.0.1:5051/N\"\n";
    let tables: String = (0..2_000).map(|number| table.replace('N', &number.to_string())).collect();
    let file = "/home/u/.config/containers/registries.conf".to_owned();
    let system = ("/etc/containers/registries.conf".to_owned(), Vec::new());
    let files = Files::Texts([(file.clone(), tables.into_bytes()), system].into());
    let registries = vec!["docker.io".to_owned()];
    let order = Order { endpoints: endpoints(None), registries, is_narrowed: false };
    let findings = examine(&gather_from(files, false, order), ClientKind::Podman).findings;
    assert!(findings.len() < 10, "{} findings", findings.len());
    assert!(findings.iter().any(|it| it.place.as_ref() == Some(&file)), "{findings:#?}");
}

/// The texts of each fixture, by their paths.
fn trees() -> &'static [BTreeMap<String, Vec<u8>>] {
    static TREES: LazyLock<Vec<BTreeMap<String, Vec<u8>>>> =
        LazyLock::new(|| fixtures().into_iter().map(|(root, _)| tree(&root)).collect());
    &TREES
}

fn tree(root: &Path) -> BTreeMap<String, Vec<u8>> {
    let (mut folders, mut files) = (vec![root.to_owned()], BTreeMap::new());
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if let Ok(bytes) = std::fs::read(&path) {
                files.insert(format!("/{}", path.strip_prefix(root).unwrap().display()), bytes);
            }
        }
    }
    files
}

/// Bits of which settings are made, well and badly.
fn text() -> impl Strategy<Value = String> {
    let bits = [
        "server = ",
        "\"http://127.0.0.1:5050\"",
        "[host.\"http://127.0.0.1:5050\"]",
        "\n",
        "= ",
        "capabilities = [\"pull\"]",
        "{",
        "}",
        "[",
        "]",
        "\"registry-mirrors\"",
        ":",
        ",",
        "  ",
        "[[registry]]",
        "[[registry.mirror]]",
        "prefix = \"docker.io\"",
        "location = \"x/y\"",
        "mirrors:",
        "docker.io:",
        "endpoint:",
        "- ",
        "&a",
        "*a",
        "version = 2",
        "config_path",
        "imports = [\"*\"]",
        "plugins",
        "é",
        "\u{0}",
        "://",
        "\"",
        "'",
        "#",
    ];
    let bit =
        prop_oneof![proptest::sample::select(bits.to_vec()).prop_map(str::to_owned), ".{0,8}"];
    vec(bit, 0..12).prop_map(|bits| bits.concat())
}

proptest! {
    #[test]
    fn no_content_of_files_makes_a_checker_panic(
        fixture in any::<Index>(), edits in vec((any::<Index>(), any::<Index>(), any::<Index>(), text()), 1..4)
    ) {
        let mut files = fixture.get(trees()).clone();
        let paths: Vec<_> = files.keys().cloned().collect();
        for (path, from, to, text) in edits {
            let bytes = files.get_mut(path.get(&paths)).unwrap();
            let ends = [from.index(bytes.len() + 1), to.index(bytes.len() + 1)];
            bytes.splice(ends[0].min(ends[1])..ends[0].max(ends[1]), text.into_bytes());
        }
        let registries = vec!["docker.io".to_owned(), "registry.example:5000".to_owned()];
        let order = Order { endpoints: endpoints(None), registries, is_narrowed: false };
        let scene = gather_from(Files::Texts(files), false, order);
        for diagnosis in diagnose(&scene, &clients(Vec::new())) {
            for finding in &diagnosis.findings {
                prop_assert!(!finding.what.is_empty());
            }
        }
    }
}
