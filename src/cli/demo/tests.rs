//! The demo, run as a person would.

use std::time::Instant;

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn the_demo_tells_what_happens_within_ten_seconds() {
    let begun = Instant::now();
    let mut text = Vec::new();
    tell(&mut Screen::new(&mut text, false)).await.unwrap();
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(10), "{took:?}");
    let text = String::from_utf8(text).unwrap();
    for line in [
        "\n   hold    200  sha256:",
        "\n   block   300, and the client stops; it shows:\n",
        "(DIGEST_CHANGED)",
        "\n           403, DIGEST_CHANGED, on the direct listener\n",
        "Warning: 299 - \"immutag: registry.demo/hold/scanner:v2.1.20 is held at\n           sha256:",
        "Warning: 299 - \"immutag: registry.demo/alert/scanner:v2.1.20 moved from\n           sha256:",
        "\n   immutag_conflicts_total{reaction=\"hold\"} 1\n",
        "   $ immutag ledger reject registry.demo/block/scanner:v2.1.20 \\\n       --digest sha256:",
        "   $ immutag ledger approve registry.demo/hold/scanner:v2.1.20 \\\n       --digest sha256:",
        "immutag is stopped and started again:\n",
    ] {
        assert!(text.contains(line), "{line:?} is not in\n{text}");
    }
    let lines = text.lines();
    assert!(text.lines().count() <= 75, "two screens are enough\n{text}");
    assert!(lines.clone().all(|line| line.chars().count() <= 110), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_differs_from_the_claim_ends_the_demo() {
    let mut text = Vec::new();
    let screen = &mut Screen::new(&mut text, false);
    let story = Story::begin().await.unwrap();
    story.first_pulls(screen).await.unwrap();
    let error = story.expect(screen, Reaction::Hold, &story.hostile, 0).await.unwrap_err();
    assert!(error.to_string().starts_with("hold gave sha256:"), "{error}");
    story.stage.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_is_told_each_time_but_for_ports() {
    let mut stories = Vec::new();
    for _ in 0..2 {
        let mut text = Vec::new();
        tell(&mut Screen::new(&mut text, true)).await.unwrap();
        let text = String::from_utf8(text).unwrap();
        stories.push(text.split_once("1. A client").unwrap().1.to_owned());
    }
    let [story, again]: [String; 2] = stories.try_into().unwrap();
    assert_eq!(story, again);
    assert!(story.contains("\u{1b}[31m"), "{story}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_readme_shows_what_the_demo_prints() {
    let mut text = Vec::new();
    tell(&mut Screen::new(&mut text, false)).await.unwrap();
    let text = String::from_utf8(text).unwrap();
    let (_, story) = text.split_once("\n1. A client").unwrap();
    assert!(include_str!("../../../README.md").contains(story), "paste it again:\n{text}");
}
