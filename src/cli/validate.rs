//! `immutag validate`: what the configuration comes to, or everything that is wrong with it.

mod keeping;

use std::io;
use std::process::ExitCode;

use clap::Args;
use serde::Serialize;

use self::keeping::{Keeping, problem};
use super::Global;
use super::exit::Code;
use super::output::{FormatArgs, Printer};
use super::table::escape;
use crate::config::{Config, ConfigError, Credentials, WebhookConfig};
use crate::notify::Webhook;
use crate::policy::explain::describe;
use crate::upstream::Upstreams;

#[derive(Debug, Args)]
pub(super) struct ValidateArgs {
    #[command(flatten)]
    format: FormatArgs,
}

/// A valid configuration, for programs.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Effective {
    data_dir: String,
    offline: bool,
    listeners: Vec<ListenerView>,
    admin: String,
    upstreams: Vec<UpstreamView>,
    rules: Vec<String>,
    webhooks: Vec<WebhookView>,
    #[serde(flatten)]
    keeping: Keeping,
}

/// A webhook, without its URL: that may be a password.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct WebhookView {
    name: String,
    format: &'static str,
    is_signed: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct ListenerView {
    kind: &'static str,
    address: String,
    scheme: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct UpstreamView {
    name: String,
    url: String,
    credentials: &'static str,
}

/// A problem, for programs.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct ProblemView {
    problem: String,
    key: String,
    place: Option<String>,
}

pub(super) fn run(global: &Global, args: &ValidateArgs) -> anyhow::Result<ExitCode> {
    let mut printer = Printer::new(args.format);
    let config = match global.load() {
        Ok(config) => config,
        Err(error) => {
            if printer.is_json {
                problems(&mut printer, &error)?;
            }
            return Err(error.into());
        }
    };
    Upstreams::new(&config.upstreams)?;
    for webhook in &config.webhooks {
        Webhook::new(webhook)?;
    }
    let keeping = match Keeping::of(&config) {
        Ok(keeping) => keeping,
        Err(error) => {
            if printer.is_json {
                problem(&mut printer, &error)?;
            }
            return Err(error.into());
        }
    };
    let effective = effective(&config, keeping);
    if printer.is_json {
        printer.json(&effective)?;
    } else {
        print(&mut printer, &effective)?;
    }
    printer.flush()?;
    Ok(Code::Ok.into())
}

fn problems(printer: &mut Printer, error: &ConfigError) -> io::Result<()> {
    for problem in &error.problems {
        printer.json(&ProblemView {
            problem: problem.message.clone(),
            key: problem.key.clone(),
            place: problem.place.as_ref().map(ToString::to_string),
        })?;
    }
    printer.flush()
}

fn effective(config: &Config, keeping: Keeping) -> Effective {
    let listener = |listener: &crate::config::ListenerConfig| ListenerView {
        kind: listener.kind.name(),
        address: listener.address.to_string(),
        scheme: listener.scheme(),
    };
    let upstreams = config.upstreams.iter().map(|(name, upstream)| UpstreamView {
        name: name.to_string(),
        url: upstream.url.clone(),
        credentials: match upstream.credentials {
            Credentials::Client => "client",
            Credentials::None => "none",
            Credentials::Own { .. } => "own",
        },
    });
    Effective {
        data_dir: config.data_dir.display().to_string(),
        offline: config.offline,
        listeners: config.listeners.iter().map(listener).collect(),
        admin: config.admin.address.to_string(),
        upstreams: upstreams.collect(),
        rules: describe(&config.policy),
        webhooks: config.webhooks.iter().map(webhook_view).collect(),
        keeping,
    }
}

fn webhook_view(webhook: &WebhookConfig) -> WebhookView {
    WebhookView {
        name: webhook.name.clone(),
        format: webhook.format.name(),
        is_signed: !webhook.secrets.is_empty(),
    }
}

fn print(printer: &mut Printer, effective: &Effective) -> io::Result<()> {
    printer.line("the configuration is valid")?;
    printer.line(&format!("\ndata directory  {}", escape(&effective.data_dir)))?;
    if effective.offline {
        printer.line("offline: no upstream is asked")?;
    }
    effective.keeping.print(printer)?;
    printer.line("\nlisteners")?;
    for ListenerView { kind, address, scheme } in &effective.listeners {
        printer.line(&format!("  {kind:<7} {scheme}://{address}"))?;
    }
    printer.line(&format!("  {:<7} http://{}", "admin", effective.admin))?;
    printer.line("\nupstreams, beside the built-in ones")?;
    for UpstreamView { name, url, credentials } in &effective.upstreams {
        printer.line(&format!("  {name}  {}  credentials: {credentials}", escape(url)))?;
    }
    if effective.upstreams.is_empty() {
        printer.line("  none")?;
    }
    printer.line("\nrules, the first that matches decides")?;
    for rule in &effective.rules {
        printer.line(&format!("  {}", escape(rule)))?;
    }
    if !effective.webhooks.is_empty() {
        printer.line("\nwebhooks")?;
    }
    for WebhookView { name, format, is_signed } in &effective.webhooks {
        let signed = if *is_signed { "signed" } else { "not signed" };
        printer.line(&format!("  {name}  {format}, {signed}"))?;
    }
    Ok(())
}
