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
    printer.line(&match (imported.is_written, *conflicting) {
        (true, 0) => format!("{new} tags were imported"),
        (true, _) => format!("{new} tags were imported, {conflicting} in conflict were left out"),
        (false, 0) => format!("{new} tags would be imported; nothing was written"),
        (false, _) => format!("{conflicting} tags are in conflict: nothing was written"),
    })?;
    if *known > 0 {
        printer.line(&format!("{known} tags are known so already"))?;
    }
    if *not_comparable > 0 {
        printer.line(&format!(
            "{not_comparable} tags are pinned, and the list has only the digest of a config for \
             them: they stay as they are"
        ))?;
    }
    if imported.is_written && *new > 0 {
        printer.line(
            "they are claims: each becomes the pin when an answer of the upstream agrees with it",
        )?;
    }
    Ok(())
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
