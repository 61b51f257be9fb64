//! What the doctor prints: the running immutag, then client by client.

use std::io;

use serde::Serialize;

use super::finding::{Finding, Standing};
use super::running::{Listening, Running, State};
use crate::cli::clients::ClientKind;
use crate::cli::output::Printer;
use crate::cli::table::{WIDTH, escape, wrapped};

/// What is said of one client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Diagnosis {
    pub(super) client: ClientKind,
    pub(super) findings: Vec<Finding>,
    /// Why there are no findings.
    pub(super) note: Option<&'static str>,
}

/// All that is said.
pub(super) struct Report {
    pub(super) running: Running,
    pub(super) diagnoses: Vec<Diagnosis>,
}

/// The same for programs, one line of JSON.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct View<'r> {
    immutag: &'r Running,
    clients: Vec<ClientView<'r>>,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct ClientView<'r> {
    client: ClientKind,
    standing: Option<Standing>,
    note: Option<&'static str>,
    findings: &'r [Finding],
}

impl Diagnosis {
    /// The worst of its findings; `None`: it is not here.
    pub(super) fn standing(&self) -> Option<Standing> {
        self.findings.iter().map(|finding| finding.standing).max()
    }

    fn view(&self) -> ClientView<'_> {
        let Self { client, findings, note } = self;
        let standing = self.standing();
        ClientView { client: *client, standing, note: *note, findings }
    }
}

impl Report {
    /// The worst standing of all clients that are here.
    pub(super) fn worst(&self) -> Option<Standing> {
        self.diagnoses.iter().filter_map(Diagnosis::standing).max()
    }

    /// Prints it in the printer's form.
    pub(super) fn print(&self, printer: &mut Printer) -> io::Result<()> {
        if printer.is_json {
            let clients = self.diagnoses.iter().map(Diagnosis::view).collect();
            return printer.json(&View { immutag: &self.running, clients });
        }
        self.print_running(printer)?;
        for diagnosis in &self.diagnoses {
            print_diagnosis(printer, diagnosis)?;
        }
        let last = match self.worst() {
            Some(Standing::Bypassable) => {
                "at least one client can go round immutag: immutag setup CLIENT prints its \
                 settings,\nwith --dry-run what they change here, and --write installs them"
            }
            Some(Standing::HoldOnly) => {
                "HOLD ONLY: clients go to the registry while immutag is down"
            }
            Some(Standing::Protected) => "every client that is here is protected",
            None => "no client that is set to registries was found here",
        };
        printer.line(&format!("\n{last}"))
    }

    fn print_running(&self, printer: &mut Printer) -> io::Result<()> {
        let Running { mirror, direct, ledger, unknown } = &self.running;
        printer.line("immutag")?;
        for (kind, listening) in [("mirror", mirror), ("direct", direct)] {
            let Some(Listening { url, state }) = listening else { continue };
            printer.line(&format!("  {kind}  {}  {}", escape(url), escape(&words(state))))?;
        }
        if let Some(ledger) = ledger {
            printer.line(&format!("  ledger  {}", escape(ledger)))?;
        }
        for registry in unknown {
            printer.line(&format!("  does not know {}", escape(registry)))?;
        }
        Ok(())
    }
}

fn words(state: &State) -> String {
    match state {
        State::Foreign => "ANSWERED, but not by immutag".to_owned(),
        State::OtherKind => "ANSWERED by a listener of the other kind".to_owned(),
        State::Serves => "serves".to_owned(),
        State::Silent(why) => format!("DOWN: {why}"),
        State::Untrusted(why) => format!("NOT TRUSTED here: {why}"),
    }
}

fn print_diagnosis(printer: &mut Printer, diagnosis: &Diagnosis) -> io::Result<()> {
    let name = diagnosis.client.name();
    let standing = diagnosis.standing().map(Standing::words);
    let said = standing.or(diagnosis.note).unwrap_or("not here");
    printer.line(&format!("\n{name}  {said}"))?;
    for finding in &diagnosis.findings {
        let Finding { registry, standing, place, what, fix, .. } = finding;
        let word = if finding.is_note() { "note" } else { standing.words() };
        let head = [Some(word), registry.as_deref(), place.as_deref()];
        let head: Vec<_> = head.into_iter().flatten().map(escape).collect();
        printer.line(&format!("  {}", head.join("  ")))?;
        print_words(printer, what)?;
        if !fix.is_empty() {
            print_words(printer, &format!("fix: {fix}"))?;
        }
    }
    Ok(())
}

fn print_words(printer: &mut Printer, words: &str) -> io::Result<()> {
    let mut lead = "    ";
    for line in wrapped(words, WIDTH - 2 * lead.len()) {
        printer.line(&format!("{lead}{}", escape(&line)))?;
        lead = "      ";
    }
    Ok(())
}
