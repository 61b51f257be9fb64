//! The recipes as a shell runs them.

use std::fs;
use std::path::Path;

/// A script of `config/ci/`.
pub(super) fn file(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/ci").join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// What a workflow's `run:` entries say, each in a shell of its own as its runner does: all
/// of them, the job failing with the first that fails, for those behind are `if: always()` here.
pub(super) fn in_blocks(name: &str, key: &str) -> String {
    let text = file(name);
    let lines: Vec<_> = text.lines().collect();
    let mut steps = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let Some(rest) = line.trim_start().strip_prefix(key) else { continue };
        let depth = line.len() - line.trim_start().len();
        let is_inside = |line: &&&str| line.len() - line.trim_start().len() > depth;
        steps.push(match rest.trim() {
            "|" => lines[at + 1..]
                .iter()
                .take_while(is_inside)
                .map(|line| line.trim())
                .fold(String::new(), |step, line| step + line + "\n"),
            command => command.to_owned(),
        });
    }
    assert!(steps.len() >= 4, "{name} has its steps: {steps:?}");
    steps.iter().fold("result=0\n".to_owned(), |job, step| {
        job + "(set -e\n" + step + "\n) || { code=$?; [ $result != 0 ] || result=$code; }\n"
    }) + "exit $result\n"
}

/// The lines of a GitLab job's `script:`, in one shell.
pub(super) fn in_script(name: &str) -> String {
    let text = file(name);
    let behind = text.lines().skip_while(|line| line.trim() != "script:").skip(1);
    let lines = behind.map_while(|line| line.trim().strip_prefix("- "));
    let script = lines.fold("set -e\n".to_owned(), |script, line| script + line + "\n");
    assert!(script.lines().count() > 5, "{script}");
    script
}
