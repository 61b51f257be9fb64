//! S-15: pages of a list, by each way in; a Link leads to us and nowhere else.

use crate::support::docker_registry::DockerRegistry;
use crate::support::fault::Fault;
use crate::support::http::{Answer, get};
use crate::support::immutag::Immutag;
use crate::support::process::have;
use crate::support::registry::ScriptedRegistry;
use crate::support::setup::Setup;

const REGISTRY: &str = "registry.example:5000";

/// The first page of two tags, by each way in; before `/` the listener's origin.
fn first_pages(immutag: &Immutag) -> [String; 5] {
    let list = "team/app/tags/list";
    [
        immutag.mirror(&format!("{list}?n=2&ns=registry.example%3A5000")),
        immutag.mirror(&format!("{list}?ns={REGISTRY}&n=2")),
        immutag.mirror(&format!("{REGISTRY}/{list}?n=2")),
        format!("http://{}/{REGISTRY}/v2/{list}?n=2", immutag.addresses().mirror),
        immutag.direct(&format!("{REGISTRY}/{list}?n=2")),
    ]
}

/// Where an answer's Link leads, as a client resolves it.
fn next(answer: &Answer, url: &str) -> Option<String> {
    let link = answer.field("Link")?;
    let target = link.strip_prefix('<')?.strip_suffix(">; rel=\"next\"")?;
    assert!(target.starts_with('/') && !target.starts_with("//"), "{link}");
    let origin = url.split('/').take(3).collect::<Vec<_>>().join("/");
    Some(origin + target)
}

const TAGS: [&str; 5] = ["1.0.0", "1.0.1", "2.0.0", "edge", "latest"];

/// Follows our Links to the end: every tag came once. Returns how many pages there were.
#[track_caller]
fn follow(first: &str) -> usize {
    let (mut url, mut seen, mut pages) = (Some(first.to_owned()), Vec::new(), 0);
    while let Some(page) = url {
        let answer = get(&page);
        assert_eq!(answer.status, 200, "{page}: {answer:?}");
        let list = answer.json();
        assert_eq!(list["name"], "team/app");
        let tags = list["tags"].as_array().expect("a list").clone();
        seen.extend(tags.iter().map(|tag| tag.as_str().expect("a tag").to_owned()));
        url = next(&answer, &page);
        pages += 1;
        assert!(pages <= TAGS.len(), "{first} leads on and on");
    }
    seen.sort_unstable();
    assert_eq!(seen, TAGS, "{first}");
    pages
}

#[test]
fn every_page_of_tags_comes_by_each_way() {
    let registry = ScriptedRegistry::start();
    for tag in TAGS {
        registry.push_image("team/app", tag, "a");
    }
    let mut immutag = Setup::new().upstream(REGISTRY, &registry.url()).start();
    for first in first_pages(&immutag) {
        assert_eq!(follow(&first), 3, "{first}");
    }
    immutag.assert_alive_and_clean();
}

#[test]
fn every_tag_of_a_real_registry_comes_by_each_way() {
    if !have(&["docker-registry"]) {
        return;
    }
    let registry = DockerRegistry::start();
    for tag in TAGS {
        registry.push_image("team/app", tag, "a");
    }
    let mut immutag = Setup::new().upstream(REGISTRY, registry.url()).start();
    for first in first_pages(&immutag) {
        // Distribution 2.8 gives all tags at once, whatever `n` says; later ones give pages.
        follow(&first);
    }
    immutag.assert_alive_and_clean();
}

#[test]
fn a_link_that_leads_away_or_round_is_not_passed_on() {
    let registry = ScriptedRegistry::start();
    registry.push_image("team/app", "latest", "a");
    let mut immutag = Setup::new().upstream(REGISTRY, &registry.url()).start();
    let own = format!("<{}/v2/team/app/tags/list?last=a&n=2>; rel=\"next\"", registry.url());
    let cases = [
        ("<https://evil.example/v2/team/app/tags/list?last=a>; rel=\"next\"", false),
        ("<//evil.example/v2/team/app/tags/list?last=a>; rel=\"next\"", false),
        ("<javascript:alert(1)?last=a>; rel=\"next\"", false),
        ("</v2/team/app/tags/list?n=2>; rel=\"next\"", false),
        ("<?last=a>; rel=\"prev\"", false),
        ("</v2/other/app/tags/list?last=a&n=2>; rel=\"next\"", true),
        (own.as_str(), true),
    ];
    for (link, is_passed) in cases {
        registry.clear_faults();
        registry.fault("GET tags/list", Fault::field("Link", link));
        for url in first_pages(&immutag) {
            let answer = get(&url);
            assert_eq!(answer.status, 200);
            let next = next(&answer, &url);
            assert_eq!(next.is_some(), is_passed, "{link} by {url}: {next:?}");
            let same = |next: &str| next.split('?').next() == url.split('?').next();
            assert!(next.is_none_or(|next| same(&next)), "{link} by {url}");
        }
    }
    immutag.assert_alive_and_clean();
}
