//! What came of an import, in words.

use std::io;

use super::super::super::output::Printer;
use super::super::super::table::{Table, short};
use crate::decide::Imported;

pub(in super::super) fn print(printer: &mut Printer, imported: &Imported) -> io::Result<()> {
    let Imported { new, known, not_comparable, conflicting, .. } = imported;
    if *conflicting > 0 {
        conflicts(printer, imported)?;
    }
    let (found, clashing) = (tags(*new), tags(*conflicting));
    printer.line(&match (imported.is_written, *conflicting) {
        (true, 0) => format!("imported: {found}"),
        (true, _) => format!("imported: {found}; in conflict, and left out: {clashing}"),
        (false, 0) => format!("would be imported: {found}; nothing was written"),
        (false, _) => format!("in conflict: {clashing}; nothing was written"),
    })?;
    if *known > 0 {
        printer.line(&format!("known so already: {}", tags(*known)))?;
    }
    if *not_comparable > 0 {
        printer.line(&format!(
            "stay as they are, since they are pinned and the list has only the digest of a config \
             for them: {}",
            tags(*not_comparable)
        ))?;
    }
    if imported.is_written && *new > 0 {
        printer.line(
            "they are claims: each becomes the pin when an answer of the upstream agrees with it",
        )?;
    }
    Ok(())
}

fn tags(count: u64) -> String {
    format!("{count} tag{}", if count == 1 { "" } else { "s" })
}

fn conflicts(printer: &mut Printer, imported: &Imported) -> io::Result<()> {
    let mut table = Table::new(printer, &["AT", "TAG", "LIST", "LEDGER", "WHY"]);
    for conflict in &imported.conflicts {
        let ledger = conflict.ledger.map_or_else(|| "-".to_owned(), |digest| short(&digest));
        table.row(&[
            conflict.place.to_string(),
            conflict.key.to_string(),
            short(&conflict.claimed),
            ledger,
            conflict.why.clone(),
        ])?;
    }
    let told = imported.conflicts.len() as u64;
    if told < imported.conflicting {
        let more = imported.conflicting - told;
        table.row(&[String::new(), format!("and {more} more")])?;
    }
    table.finish()
}
