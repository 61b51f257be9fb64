//! What `setup` prints. Whatever is no content of a file begins with `#`, as comments do in most
//! of the files, so that text can be pasted or piped.

use std::io;
use std::path::Path;
use std::time::Duration;

use serde::Serialize;
use similar::TextDiff;

use super::plan::{MODE, Plan, Step};
use super::setting::{Merge, Note, Setting, SettingFile};
use crate::cli::output::Printer;
use crate::cli::table::{WIDTH, escape, wrapped};

/// How long the shortest difference is looked for.
const PATIENCE: Duration = Duration::from_secs(1);

/// Settings, for programs.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct View<'a> {
    subject: &'a str,
    files: Vec<FileView<'a>>,
    notes: &'a [Note],
}

/// A file, for programs.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct FileView<'a> {
    path: String,
    mode: String,
    /// What becomes of it: `created`, `changed`, `unchanged`; absent where nobody looked.
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<&'static str>,
    content: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    diff: Option<String>,
}

/// A file that was written, for programs.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct WrittenView {
    written: String,
    backup: Option<String>,
}

/// The settings as they stand where nothing is there yet.
pub(super) fn setting(printer: &mut Printer, setting: &Setting) -> io::Result<()> {
    if printer.is_json {
        let files = setting.files.iter().map(file_view).collect();
        return printer.json(&View { subject: setting.subject, files, notes: &setting.notes });
    }
    for file in &setting.files {
        printer.line(&format!("# {}{}", escape(&file.path), beside(file.merge)))?;
        content(printer, &file.content)?;
        printer.line("")?;
    }
    notes(printer, &setting.notes)
}

/// What would become of each file.
pub(super) fn plan(
    printer: &mut Printer,
    setting: &Setting,
    plan: &Plan,
    is_written: bool,
) -> io::Result<()> {
    if printer.is_json {
        let files = plan.steps.iter().map(step_view).collect();
        return printer.json(&View { subject: setting.subject, files, notes: &setting.notes });
    }
    for step in &plan.steps {
        match diff(step) {
            Some(diff) => content(printer, &diff)?,
            None => printer.line(&format!("# unchanged: {}", path(&step.path)))?,
        }
    }
    let is_done = plan.changes().next().is_none();
    if is_done {
        printer.line("# nothing is to be changed")?;
    } else if !is_written {
        printer.line("# nothing was changed: --write does it")?;
    }
    printer.line("")?;
    notes(printer, &setting.notes)
}

/// A file that was written.
pub(super) fn written(printer: &mut Printer, step: &Step, backup: Option<&Path>) -> io::Result<()> {
    let backup = backup.map(path);
    let written = path(&step.path);
    if printer.is_json {
        return printer.json(&WrittenView { written, backup });
    }
    let kept = backup.map(|backup| format!(" (before: {backup})")).unwrap_or_default();
    printer.line(&format!("# written: {written}{kept}"))
}

const fn beside(merge: Merge) -> &'static str {
    match merge {
        Merge::Certificates => ", besides the certificates that are there",
        Merge::ContainerdConfig => ", where config_path is set in what is there",
        Merge::Hosts | Merge::Own => "",
        Merge::JsonLists | Merge::TomlTables => ", merged into what is there",
    }
}

fn file_view(file: &SettingFile) -> FileView<'_> {
    FileView {
        path: file.path.clone(),
        mode: format!("{MODE:04o}"),
        state: None,
        content: &file.content,
        diff: None,
    }
}

fn step_view(step: &Step) -> FileView<'_> {
    let state = match (&step.before, step.is_change()) {
        (None, _) => "created",
        (Some(_), true) => "changed",
        (Some(_), false) => "unchanged",
    };
    FileView {
        path: path(&step.path),
        mode: format!("{:04o}", step.mode),
        state: Some(state),
        content: &step.after,
        diff: diff(step),
    }
}

/// A unified diff, if there is a difference.
fn diff(step: &Step) -> Option<String> {
    let name = path(&step.path);
    let old = if step.before.is_some() { &name } else { "/dev/null" };
    let before = step.before.as_deref().unwrap_or_default();
    // It is true in any case; without end of time it would be the shortest.
    let lines = TextDiff::configure().timeout(PATIENCE).diff_lines(before, step.after.as_str());
    step.is_change().then(|| lines.unified_diff().header(old, &name).to_string())
}

fn path(path: &Path) -> String {
    escape(&path.display().to_string()).into_owned()
}

/// Lines of a file, with everything but tabs spelled out that is not printable.
fn content(printer: &mut Printer, text: &str) -> io::Result<()> {
    text.lines().try_for_each(|line| {
        let parts: Vec<_> = line.split('\t').map(escape).collect();
        printer.line(&parts.join("\t"))
    })
}

fn notes(printer: &mut Printer, notes: &[Note]) -> io::Result<()> {
    for note in notes {
        let mut lead = format!("# {:<8}", note.about.name());
        for line in wrapped(&note.text, WIDTH - lead.len()) {
            printer.line(&format!("{lead}{}", escape(&line)))?;
            lead = format!("# {:8}", "");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(before: Option<&str>, after: &str) -> Step {
        let before = before.map(str::to_owned);
        Step { path: "/etc/a".into(), before, after: after.to_owned(), mode: 0o644 }
    }

    #[test]
    fn a_diff_tells_what_changes() {
        assert_eq!(diff(&step(Some("a\nb\n"), "a\nb\n")), None);
        let changed = diff(&step(Some("a\nb\n"), "a\nc\n")).unwrap();
        assert_eq!(changed, "--- /etc/a\n+++ /etc/a\n@@ -1,2 +1,2 @@\n a\n-b\n+c\n");
        let created = diff(&step(None, "a\n")).unwrap();
        assert!(created.starts_with("--- /dev/null\n+++ /etc/a\n"), "{created}");
    }
}
