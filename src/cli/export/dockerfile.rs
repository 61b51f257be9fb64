//! `immutag export dockerfile`: digests in a Dockerfile itself.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::Args;

use super::super::exit::Code;
use super::super::table::escape;
use super::pins::Pins;
use super::{print, say};
use crate::sources::dockerfile::{Rewritten, rewrite};

/// The largest Dockerfile, in bytes.
const LARGEST: u64 = 16 << 20;

#[derive(Debug, Args)]
pub(super) struct DockerfileArgs {
    /// The Dockerfile
    path: PathBuf,
    /// Change the file, instead of printing what it would be
    #[arg(long)]
    write: bool,
    /// A build argument, as `docker build` takes it
    #[arg(long, value_name = "NAME=VALUE", value_parser = parse_argument)]
    build_arg: Vec<(String, String)>,
}

fn parse_argument(text: &str) -> Result<(String, String), String> {
    let argument = text.split_once('=').filter(|(name, _)| !name.is_empty());
    let (name, value) = argument.ok_or("a build argument is NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

pub(super) fn run(pins: &Pins, args: &DockerfileArgs) -> anyhow::Result<ExitCode> {
    let name = escape(&args.path.display().to_string()).into_owned();
    let text = read(&args.path).with_context(|| name.clone())?;
    if !has_from(&text) {
        bail!("{name} has no FROM: it is no Dockerfile");
    }
    let arguments: BTreeMap<_, _> = args.build_arg.iter().cloned().collect();
    let rewritten = rewrite(&text, &arguments, |reference| pins.digest_of(reference));
    tell(&name, &pins.origin, &rewritten)?;
    if !rewritten.unlocked.is_empty() {
        return Ok(Code::Unlocked.into());
    }
    if !args.write {
        return print(&rewritten.text);
    }
    if rewritten.text == text {
        say(&format!("{name}: nothing to change"))?;
    } else {
        replace(&args.path, &rewritten.text).with_context(|| name.clone())?;
        say(&format!("{name}: written"))?;
    }
    Ok(Code::Ok.into())
}

/// Whatever else a link or a slip of the pen names is not for a job's log.
fn has_from(text: &str) -> bool {
    let mut begins = text.lines().filter_map(|line| line.split_whitespace().next());
    begins.any(|word| word.trim_start_matches('\u{feff}').eq_ignore_ascii_case("FROM"))
}

fn tell(name: &str, origin: &str, rewritten: &Rewritten) -> std::io::Result<()> {
    for skipped in &rewritten.skipped {
        let what = escape(&skipped.what);
        say(&format!("{name}:{}: left as it is: {what}: {}", skipped.line, skipped.why))?;
    }
    for mention in &rewritten.left {
        let why = "its name is put together from ARGs: give the digest there";
        say(&format!("{name}:{}: left as it is: {}: {why}", mention.line, mention.reference))?;
    }
    for mention in &rewritten.unlocked {
        let (line, reference) = (mention.line, &mention.reference);
        say(&format!("{name}:{line}: {reference} is not in {origin}: nothing was written"))?;
    }
    Ok(())
}

fn read(path: &Path) -> anyhow::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(LARGEST + 1).read_to_string(&mut text)?;
    if text.len() as u64 > LARGEST {
        bail!("it is larger than {} MiB", LARGEST >> 20);
    }
    Ok(text)
}

/// Puts a new text in the place of a file, all of it or nothing; a link stays one.
fn replace(path: &Path, text: &str) -> anyhow::Result<()> {
    let path = fs::canonicalize(path)?;
    let mut staged = path.clone().into_os_string();
    staged.push(format!(".{}", std::process::id()));
    let staged = PathBuf::from(staged);
    let mut file = File::create_new(&staged)?;
    let written = file
        .write_all(text.as_bytes())
        .and_then(|()| file.set_permissions(fs::metadata(&path)?.permissions()))
        .and_then(|()| file.sync_all())
        .and_then(|()| fs::rename(&staged, &path));
    Ok(written.inspect_err(|_| drop(fs::remove_file(&staged)))?)
}
