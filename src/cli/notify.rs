//! `immutag notify …`: try the webhooks, and see how it is with them.

use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::bail;
use clap::{Args, Subcommand};
use serde::Serialize;

use super::Global;
use super::client::{self, ask_server, next_line};
use super::exit::Code;
use super::output::{FormatArgs, Printer};
use super::table::{Table, escape, time};
use crate::admin::socket;
use crate::admin::socket::asked::NotifyRequest;
use crate::alert::{State, WebhookState};
use crate::config::{Config, WebhookConfig};
use crate::notify::{Notice, Notifier as _, Webhook};
use crate::triage::Severity;

#[derive(Debug, Args)]
pub(super) struct NotifyArgs {
    #[command(subcommand)]
    command: NotifyCommand,
    #[command(flatten)]
    format: FormatArgs,
}

#[derive(Debug, Subcommand)]
enum NotifyCommand {
    /// Send a test message to each webhook, from here; no server is needed
    Test {
        /// Only to this one
        #[arg(value_name = "NAME")]
        name: Option<String>,
    },
    /// Ask the server how it is with each webhook
    Status,
}

/// What became of a test message.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Tested {
    webhook: String,
    status: Option<u16>,
    error: Option<String>,
    milliseconds: u64,
}

pub(super) async fn run(global: &Global, args: NotifyArgs) -> anyhow::Result<ExitCode> {
    let config = global.load()?;
    let mut printer = Printer::new(args.format);
    match args.command {
        NotifyCommand::Test { name } => test(&config, name.as_deref(), &mut printer).await,
        NotifyCommand::Status => status(&config, &mut printer).await,
    }
}

async fn test(
    config: &Config,
    name: Option<&str>,
    printer: &mut Printer,
) -> anyhow::Result<ExitCode> {
    let wanted = |webhook: &&WebhookConfig| name.is_none_or(|name| webhook.name == name);
    let webhooks: Vec<_> = config.webhooks.iter().filter(wanted).collect();
    if webhooks.is_empty() {
        match name {
            Some(name) => bail!("there is no webhook {name:?} in the configuration"),
            None => bail!("there is no webhook in the configuration: add [[webhook]]"),
        }
    }
    let mut code = Code::Ok;
    for config in webhooks {
        let tested = send(config, &Webhook::new(config)?).await;
        if tested.error.is_some() {
            code = Code::Failure;
        }
        print(printer, &tested)?;
    }
    Ok(code.into())
}

async fn send(config: &WebhookConfig, webhook: &Webhook) -> Tested {
    let (now, started) = (SystemTime::now(), Instant::now());
    let outcome = webhook.deliver(&test_notice(now), now).await;
    let milliseconds = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    let (status, error) = match outcome {
        Ok(status) => (Some(status), None),
        Err(fault) => (None, Some(fault.to_string())),
    };
    Tested { webhook: config.name.clone(), status, error, milliseconds }
}

fn test_notice(now: SystemTime) -> Notice {
    let since = now.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    let id = format!("test-{}-{}", since.as_nanos(), std::process::id());
    Notice {
        id,
        time_ms: u64::try_from(since.as_millis()).unwrap_or(u64::MAX),
        kind: "test".to_owned(),
        text: "This is a test of immutag: nothing happened, and nothing is to be done.".to_owned(),
        severity: Severity::Low,
        ..Notice::default()
    }
}

fn print(printer: &mut Printer, tested: &Tested) -> std::io::Result<()> {
    if printer.is_json {
        printer.json(tested)?;
        return printer.flush();
    }
    let Tested { webhook, status, error, milliseconds } = tested;
    let what = match (status, error) {
        (Some(status), _) => format!("took it ({status})"),
        (None, error) => escape(error.as_deref().unwrap_or_default()).into_owned(),
    };
    printer.line(&format!("{webhook}: {what}, after {milliseconds} ms"))?;
    printer.flush()
}

async fn status(config: &Config, printer: &mut Printer) -> anyhow::Result<ExitCode> {
    let states = match socket::connect(&config.data_dir).await {
        Ok(_) => ask(config).await?,
        Err(error) if client::is_nobody(&error) => {
            bail!("no server runs on {}", config.data_dir.display())
        }
        Err(error) => return Err(client::refused(&config.data_dir, error)),
    };
    if printer.is_json {
        states.iter().try_for_each(|state| printer.json(state))?;
        printer.flush()?;
    } else {
        show(printer, &states)?;
    }
    let is_well = states.iter().all(|state| state.state == State::Well);
    Ok(if is_well { Code::Ok } else { Code::Failure }.into())
}

async fn ask(config: &Config) -> anyhow::Result<Vec<WebhookState>> {
    let request = serde_json::json!({ "notify": NotifyRequest::Status });
    let mut lines = ask_server(&config.data_dir, &request).await?;
    match next_line(&mut lines).await? {
        socket::Line::Notify(states) => Ok(states),
        socket::Line::Failed(fault) => Err(fault.into()),
        _ => bail!("the server answered what nobody asked for"),
    }
}

fn show(printer: &mut Printer, states: &[WebhookState]) -> std::io::Result<()> {
    let headings = ["WEBHOOK", "STATE", "WAITING", "LAST TAKEN", "FAILING SINCE", "LAST ERROR"];
    let mut table = Table::new(printer, &headings);
    let at = |ms: Option<u64>| ms.map_or_else(|| "-".to_owned(), time);
    for state in states {
        let how = match state.state {
            State::Failing => format!("failing ({})", state.failures),
            State::Gone => "gone".to_owned(),
            State::Well => "well".to_owned(),
        };
        table.row(&[
            state.name.clone(),
            how,
            state.pending.to_string(),
            at(state.last_success_ms),
            at(state.failing_since_ms),
            state.last_error.clone().unwrap_or_else(|| "-".to_owned()),
        ])?;
    }
    table.finish()
}
