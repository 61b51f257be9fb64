//! The page that a person reads before a decision.

use super::super::super::table::{WIDTH, wrapped};
use crate::admin::socket::Explained;
use crate::printable::Shown;
use crate::triage::{
    ConfigChange, FieldChange, ImageChange, LayerChange, OriginChange, PlatformChange, Triage,
};
use crate::units::ByteSize;

/// How far entries of a section stand in.
const INDENT: &str = "  ";

/// All lines. Whatever an image says in them is escaped and cut already.
pub(super) fn page(explained: &Explained, is_alone: bool) -> Vec<String> {
    let Explained { key, is_open, triage } = explained;
    let mut page = Page(vec![key.to_string()]);
    page.entry("was", &triage.before.to_string());
    page.entry(if *is_open { "offered" } else { "is" }, &triage.after.to_string());
    page.section(&format!("SEVERITY  {}", triage.severity.name().to_uppercase()));
    page.words("a hint, no verdict: what an image says of itself is its publisher's text");
    for reason in &triage.reasons {
        page.listed(reason);
    }
    platforms(&mut page, triage);
    for image in &triage.images {
        picture(&mut page, image);
    }
    origin(&mut page, "ORIGIN  of the index, as it says itself", &triage.origin);
    signatures(&mut page, triage, is_alone);
    if !triage.unseen.is_empty() {
        page.section("NOT LOOKED AT");
        triage.unseen.some.iter().for_each(|words| page.listed(words));
        if triage.unseen.more > 0 {
            page.listed(&format!("and {} more", triage.unseen.more));
        }
    }
    decisions(&mut page, explained);
    page.0
}

struct Page(Vec<String>);

impl Page {
    fn section(&mut self, title: &str) {
        self.0.extend([String::new(), title.to_owned()]);
    }

    fn entry(&mut self, name: &str, value: &str) {
        self.0.push(format!("{INDENT}{name:<14}  {value}"));
    }

    fn words(&mut self, words: &str) {
        let lines = wrapped(words, WIDTH - INDENT.len());
        self.0.extend(lines.into_iter().map(|line| format!("{INDENT}{line}")));
    }

    fn listed(&mut self, words: &str) {
        for (at, line) in wrapped(words, WIDTH - 2 * INDENT.len()).iter().enumerate() {
            let mark = if at == 0 { "- " } else { INDENT };
            self.0.push(format!("{INDENT}{mark}{line}"));
        }
    }

    fn change(&mut self, name: &str, field: &FieldChange) {
        let text =
            |value: &Option<Shown>| value.as_ref().map_or("nothing".to_owned(), Shown::quoted);
        self.entry(name, &format!("{} -> {}", text(&field.before), text(&field.after)));
    }
}

fn platforms(page: &mut Page, triage: &Triage) {
    if let Some(media_type) = &triage.media_type {
        page.section("MANIFEST");
        page.change("media type", media_type);
    }
    let Some(change) = &triage.platforms else { return };
    let PlatformChange { gained, lost, changed, same, is_reordered, attestations, .. } = change;
    page.section("PLATFORMS");
    for (name, names) in [("changed", changed), ("gained", gained), ("lost", lost)] {
        if !names.is_empty() {
            page.entry(name, &names.to_string());
        }
    }
    page.entry("same", &same.to_string());
    if *is_reordered {
        page.entry("order", "another");
    }
    let [before, after] = attestations;
    if before + after > 0 {
        let kept = change.same_attestations;
        page.entry("attestations", &format!("{before} before, {after} now, {kept} the same"));
    }
}

fn picture(page: &mut Page, image: &ImageChange) {
    let of = image.platform.as_ref().map_or_else(String::new, |it| format!("  {it}"));
    page.section(&format!("IMAGE{of}"));
    page.entry("was", &image.before.to_string());
    page.entry("is", &image.after.to_string());
    if let Some(media_type) = &image.media_type {
        page.change("media type", media_type);
    }
    layers(page, &image.layers);
    if image.is_same_config {
        page.entry("config", "the same");
    } else if let Some(config) = &image.config {
        settings(page, config);
    } else {
        page.entry("config", "another; not looked at");
    }
    let title = format!("ORIGIN{of}  as it says itself");
    origin(page, &title, &image.origin);
}

fn layers(page: &mut Page, layers: &LayerChange) {
    let LayerChange { same_below, before, after, before_bytes, after_bytes, .. } = layers;
    let words = format!("{before} before, {after} now, {same_below} at the bottom the same");
    page.entry("layers", &words);
    let [was, is] = [*before_bytes, *after_bytes].map(ByteSize);
    page.entry("size", &format!("{was} before, {is} now, packed, as claimed"));
}

fn settings(page: &mut Page, config: &ConfigChange) {
    for field in &config.run {
        page.change(field.name.as_str(), field);
    }
    let names = [
        ("env added", &config.env_added),
        ("env removed", &config.env_removed),
        ("env changed", &config.env_changed),
    ];
    for (name, names) in names.into_iter().filter(|(_, names)| !names.is_empty()) {
        page.entry(name, &format!("{names} (values are not shown: they may be secrets)"));
    }
    if let Some(created) = &config.created {
        page.change("created", created);
    }
    for label in &config.labels.some {
        page.change(&format!("label {}", label.name.quoted()), label);
    }
    if config.labels.more > 0 {
        page.entry("labels", &format!("{} more changed", config.labels.more));
    }
}

fn origin(page: &mut Page, title: &str, changes: &[OriginChange]) {
    if changes.is_empty() {
        return;
    }
    page.section(title);
    for OriginChange { place, field } in changes {
        let name = field.name.as_str().trim_start_matches("org.opencontainers.image.");
        page.change(&format!("{name} ({place})"), field);
    }
}

fn signatures(page: &mut Page, triage: &Triage, is_alone: bool) {
    page.section("SIGNATURES");
    let Some(signatures) = &triage.signatures else {
        page.words(if is_alone {
            "not looked at: no server runs, so the registry was not asked; with immutag running \
             this says more"
        } else {
            "not looked at: the upstream may not be asked (offline, or it takes its clients' own \
             credentials)"
        });
        return;
    };
    page.words("whether something is there; nothing of it was verified");
    let (before, after) = (signatures.before.kinds(), signatures.after.kinds());
    for ((name, was), (_, is)) in before.into_iter().zip(after) {
        page.entry(name, &format!("{} before, {} now", was.name(), is.name()));
    }
}

fn decisions(page: &mut Page, explained: &Explained) {
    let Explained { key, is_open, triage } = explained;
    let Triage { before, after, .. } = triage;
    page.section("DECIDE");
    let commands = if *is_open {
        vec![
            ("follow it", format!("approve {key} --digest {after}")),
            ("deny the old", format!("approve {key} --digest {after} --revoke {before}")),
            ("keep what was", format!("reject {key} --digest {after}")),
            ("deny it", format!("revoke {after}")),
        ]
    } else {
        vec![
            ("go back", format!("approve {key} --digest {before}")),
            ("deny the new", format!("revoke {after}")),
            ("deny the old", format!("revoke {before}")),
        ]
    };
    for (what, command) in commands {
        page.entry(what, &format!("immutag ledger {command} --reason WHY"));
    }
}

#[cfg(test)]
mod tests;
