//! `[[webhook]]`. No message quotes a URL or a secret.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::{Report, upstreams};
use crate::config::problem::KeyPath;
use crate::config::raw::{RawSecret, RawWebhook};
use crate::config::resolved::{WebhookConfig, WebhookFormat};
use crate::config::secret_file::read_secret_file;
use crate::event::EventKind;
use crate::oci::Registry;
use crate::secret::Secret;

/// How long a signing key may be, in bytes: Standard Webhooks, "Signature scheme".
const KEY_BYTES: std::ops::RangeInclusive<usize> = 24..=64;

/// How many keys sign at once: a new one beside the old one, and some to spare.
const MAX_KEYS: usize = 4;

/// The longest URL, in bytes.
const MAX_URL: usize = 2048;

/// The webhooks, in the order in which they are written.
pub(super) fn resolve(raw: Vec<RawWebhook>, report: &mut Report<'_>) -> Vec<WebhookConfig> {
    let mut names = BTreeSet::new();
    let one = |(index, raw): (usize, RawWebhook)| {
        let path = KeyPath::new("webhook").at(index);
        let webhook = resolve_one(raw, &path, report);
        if !webhook.name.is_empty() && !names.insert(webhook.name.clone()) {
            report.add(&path.key("name"), format!("{:?} is there already", webhook.name));
        }
        webhook
    };
    raw.into_iter().enumerate().map(one).collect()
}

fn resolve_one(raw: RawWebhook, path: &KeyPath, report: &mut Report<'_>) -> WebhookConfig {
    let format = raw.format.unwrap_or_default();
    if raw.timeout.is_some_and(|span| span.0.is_zero()) {
        report.add(&path.key("timeout"), "it must be more than 0");
    }
    WebhookConfig {
        url: url(&raw, path, report),
        secrets: secrets(&raw, format, path, report),
        events: events(raw.events.as_deref(), &path.key("events"), report),
        name: name(raw.name, &path.key("name"), report),
        plain_http: raw.plain_http.unwrap_or(false),
        allow_private: raw.allow_private.unwrap_or(false),
        ca_file: upstreams::ca_file(raw.ca_file.as_deref(), path, report),
        proxy: upstreams::proxy(raw.proxy, &path.key("proxy"), report),
        format,
        min_severity: raw.min_severity.unwrap_or_default(),
        timeout: raw.timeout.map_or(WebhookConfig::TIMEOUT, |span| span.0),
    }
}

fn name(written: Option<String>, key: &KeyPath, report: &mut Report<'_>) -> String {
    let Some(name) = written else {
        report.add(key, "it is missing");
        return String::new();
    };
    let lawful = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if !(1..=32).contains(&name.len()) || !name.bytes().all(lawful) || name.starts_with('-') {
        report.add(key, "a name is 1 to 32 of a-z, 0-9 and -, and does not begin with -");
    }
    name
}

fn url(raw: &RawWebhook, path: &KeyPath, report: &mut Report<'_>) -> Secret {
    let nothing = || Secret::new(String::new());
    let (key, url) = match (&raw.url, &raw.url_file) {
        (Some(RawSecret(url)), None) => (path.key("url"), url.clone()),
        (None, Some(file)) => {
            let key = path.key("url-file");
            let file = report.absolute(&key, file);
            match read_secret_file(&file) {
                Ok(text) => (key, Secret::new(text.trim().to_owned())),
                Err(message) => {
                    report.add(&key, message);
                    return nothing();
                }
            }
        }
        (Some(_), Some(_)) => {
            report.add(&path.key("url-file"), "there is url already: leave one of them out");
            return nothing();
        }
        (None, None) => {
            report.add(&path.key("url"), "it is missing: set it, or url-file");
            return nothing();
        }
    };
    if let Err(message) = check_url(url.expose(), raw) {
        report.add(&key, message);
    }
    url
}

/// What is wrong with a URL, or with where it leads.
fn check_url(url: &str, raw: &RawWebhook) -> Result<(), String> {
    const FORM: &str = "it must be https://host[:port]/path, without a user";
    let is_plain = url.bytes().all(|byte| byte.is_ascii_graphic() && !b"\\#".contains(&byte));
    let (scheme, rest) = url.split_once("://").ok_or(FORM)?;
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    if !is_plain
        || url.len() > MAX_URL
        || authority.to_ascii_lowercase().parse::<Registry>().is_err()
    {
        return Err(FORM.to_owned());
    }
    match scheme {
        "https" => {}
        "http" if raw.plain_http == Some(true) => {}
        "http" => {
            return Err(
                "http is neither private nor authentic: use https, or set plain-http = true".into(),
            );
        }
        _ => return Err(FORM.to_owned()),
    }
    if raw.allow_private != Some(true) && upstreams::private_host(authority).is_some() {
        return Err("it leads to a private address: set allow-private = true".to_owned());
    }
    Ok(())
}

fn secrets(
    raw: &RawWebhook,
    format: WebhookFormat,
    path: &KeyPath,
    report: &mut Report<'_>,
) -> Vec<Secret> {
    let key = path.key("secret-file");
    let is_unsigned = raw.unsigned == Some(true);
    match (&raw.secret_file, format) {
        (None, WebhookFormat::Cloudevents) if !is_unsigned => {
            let message = "it is missing: without a signature a receiver cannot tell messages from \
                           forged ones; set it, or unsigned = true";
            report.add(&key, message);
        }
        (Some(_), WebhookFormat::Slack) => {
            report.add(&key, "nobody checks it with format = \"slack\": leave it out");
        }
        (Some(_), WebhookFormat::Cloudevents) if is_unsigned => {
            report.add(&key, "unsigned = true says that there is none: leave one of them out");
        }
        (None, _) => {}
        (Some(file), WebhookFormat::Cloudevents) => {
            let file: PathBuf = report.absolute(&key, file);
            match read_keys(&file) {
                Ok(keys) => return keys,
                Err(message) => report.add(&key, message),
            }
        }
    }
    Vec::new()
}

/// The keys of a file, one a line: with several, each signs, so that receivers can change over.
fn read_keys(file: &Path) -> Result<Vec<Secret>, String> {
    let text = read_secret_file(file)?;
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let keys: Vec<_> = lines.map(|line| Secret::new(line.to_owned())).collect();
    let is_key = |key: &Secret| {
        let encoded = key.expose().strip_prefix("whsec_").unwrap_or_default();
        STANDARD.decode(encoded).is_ok_and(|bytes| KEY_BYTES.contains(&bytes.len()))
    };
    if keys.is_empty() || keys.len() > MAX_KEYS || !keys.iter().all(is_key) {
        return Err(format!(
            "{}: a line is whsec_ and 24 to 64 bytes in base64, and there are 1 to {MAX_KEYS} of them",
            file.display()
        ));
    }
    Ok(keys)
}

fn events(written: Option<&[String]>, key: &KeyPath, report: &mut Report<'_>) -> Vec<EventKind> {
    let Some(written) = written else { return WebhookConfig::DEFAULT_EVENTS.to_vec() };
    let mut kinds = Vec::new();
    for (index, name) in written.iter().enumerate() {
        if name == "default" {
            kinds.extend(WebhookConfig::DEFAULT_EVENTS);
        } else if let Some(kind) = EventKind::ALL.into_iter().find(|kind| kind.name() == name) {
            kinds.push(kind);
        } else {
            let known: Vec<_> = EventKind::ALL.iter().map(|kind| kind.name()).collect();
            let known = known.join(", ");
            let message = format!("{name:?} is no kind of event; known are default, {known}");
            report.add(&key.at(index), message);
        }
    }
    if written.is_empty() {
        report.add(key, "nothing would be told: leave it out for the default");
    }
    kinds.sort_by_key(|kind| *kind as u8);
    kinds.dedup();
    kinds
}
