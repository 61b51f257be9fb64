//! The design's table: which module may name which, and where each crate may be named.

use regex::Regex;

use super::source::Source;

/// The modules from the ground up. A module may name those of the layers below its own; those
/// of its own layer only where `together` says so.
const LAYERS: &[Layer] = &[
    Layer::new(
        "pure",
        true,
        &[
            "event",
            "lockfile",
            "oci",
            "pin",
            "policy",
            "printable",
            "secret",
            "sources",
            "triage",
            "units",
        ],
    ),
    Layer::new("base", true, &["clock", "config", "metrics", "telemetry"]),
    Layer::new("edges", false, &["blob", "journal", "ledger", "upstream"]),
    // Webhooks are reached by the connector and the address guard of upstreams: one guard, so that
    // no second one can be weaker.
    Layer::new("senders", false, &["notify"]),
    Layer::new("flows", false, &["decide", "pull", "push"]),
    // What watches tags, and tells of them, stands on the flows.
    Layer::new("watch", false, &["alert", "audit", "gate", "report"]),
    Layer::new("http", false, &["http"]),
    // These faces speak HTTP with `http`'s bodies and listeners.
    Layer::new("faces", false, &["admin", "mitm"]),
    Layer::new("wiring", true, &["app", "banner", "serve"]),
    // The command line is a face too, but the one that starts the wiring; nothing names it but
    // `main`.
    Layer::new("command line", false, &["cli"]),
    Layer::new("program", false, &["main"]),
];

/// Where a crate must not be named, or the only place where it may be.
const CRATES: &[(&str, Place)] = &[
    ("hyper", Place::NotIn(&["pure", "blob", "flows", "journal", "ledger", "watch"])),
    ("hyper_util", Place::NotIn(&["pure", "blob", "flows", "journal", "ledger", "watch"])),
    ("rcgen", Place::Only("mitm/")),
    ("saphyr_parser", Place::Only("cli/doctor/yaml")),
    ("similar", Place::Only("cli/setup/show")),
    ("sled", Place::Only("ledger/index")),
    ("tokio", Place::NotIn(&["pure"])),
    ("tokio_util", Place::NotIn(&["pure"])),
    ("toml_edit", Place::Only("cli/setup/")),
];

struct Layer {
    name: &'static str,
    together: bool,
    modules: &'static [&'static str],
}

enum Place {
    /// Not in these layers or modules.
    NotIn(&'static [&'static str]),
    /// Only in files whose path below `src/` begins so.
    Only(&'static str),
}

impl Layer {
    const fn new(name: &'static str, together: bool, modules: &'static [&'static str]) -> Self {
        Self { name, together, modules }
    }
}

/// The modules that a source names and must not.
pub(crate) fn upward(source: &Source) -> Vec<String> {
    let Some((from, own)) = source.module().and_then(|name| Some((name, layer_of(name)?))) else {
        return Vec::new();
    };
    let mut findings = Vec::new();
    for (line, to) in named_modules(source) {
        let lawful = to == from
            || layer_of(&to).is_some_and(|at| at < own || (at == own && LAYERS[own].together));
        if !lawful {
            findings.push(format!("{}:{line}: `{from}` must not name `{to}`", source.path));
        }
    }
    findings
}

/// The source itself, if its module stands in no layer.
pub(crate) fn homeless(source: &Source) -> Vec<String> {
    let unknown = source.module().filter(|name| layer_of(name).is_none());
    unknown.map(|name| format!("{}: `{name}` is in no layer", source.path)).into_iter().collect()
}

/// The crates that a source names and must not.
pub(crate) fn misplaced_crates(source: &Source) -> Vec<String> {
    let module = source.module().unwrap_or("lib");
    let layer = layer_of(module).map_or("", |at| LAYERS[at].name);
    let below = source.path.strip_prefix("src/").unwrap_or(&source.path);
    let mut findings = Vec::new();
    for (name, place) in CRATES {
        // A test may play the peer, with the crates of a peer.
        let code = match place {
            Place::NotIn(_) => source.code(),
            Place::Only(_) => source.code_outside_tests(),
        };
        let lawful = match place {
            Place::NotIn(places) => !places.contains(&module) && !places.contains(&layer),
            Place::Only(prefix) => {
                below.starts_with(prefix) || below == format!("{}.rs", prefix.trim_end_matches('/'))
            }
        };
        if !lawful {
            let pattern = format!(r"\b{name}\s*::|\buse\s+{name}\b");
            findings.extend(source.findings(
                &code,
                &pattern,
                &format!("`{name}` has no place here"),
            ));
        }
    }
    findings
}

fn layer_of(module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.modules.contains(&module))
}

/// The top-level modules that the source names, with the line of each.
fn named_modules(source: &Source) -> Vec<(usize, String)> {
    let code = source.code();
    let pattern = r"\b(?P<root>crate|immutag)::(?P<rest>\w+|\{)|(?P<ups>(\bsuper::)+)(?P<up>\w+)";
    let pattern = Regex::new(pattern).expect("a valid pattern");
    let mut named = Vec::new();
    for found in pattern.captures_iter(&code) {
        let start = found.get(0).expect("a match").start();
        let line = code[..start].lines().count().max(1);
        if let Some(ups) = found.name("ups") {
            let steps = ups.as_str().matches("super").count();
            let known = layer_of(&found["up"]).is_some();
            if known && steps >= source.depth() {
                named.push((line, found["up"].to_owned()));
            }
        } else if &found["rest"] == "{" {
            let open = found.name("rest").expect("it matched").end();
            named.extend(group(&code[open..]).into_iter().map(|name| (line, name)));
        } else if found["rest"].starts_with(|first: char| first.is_lowercase()) {
            named.push((line, found["rest"].to_owned()));
        }
    }
    named
}

/// The first names of a `use` group, up to its closing brace.
fn group(text: &str) -> Vec<String> {
    let (mut depth, mut names, mut name, mut done) = (0, Vec::new(), String::new(), false);
    for letter in text.chars() {
        match letter {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                names.push(std::mem::take(&mut name));
                done = false;
            }
            _ if depth > 0 || done => (),
            _ if letter.is_alphanumeric() || letter == '_' => name.push(letter),
            _ if letter.is_whitespace() => (),
            _ => done = true,
        }
    }
    names.push(name);
    names.retain(|name| name.starts_with(char::is_lowercase) && name != "self");
    names
}
