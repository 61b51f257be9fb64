//! `immutag lock`: writes `images.lock` from the files of a project, updates and checks it.
//!
//! An entry that is there stays as it is; what is new is resolved, all of it or nothing is written.

mod check;
mod file;
mod gather;
mod judge;
mod merge;
mod pins;
mod places;
mod platform;
mod resolve;
mod tell;

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;

use super::Global;
use super::client::Place;
use super::exit::Code;
use super::output::{FormatArgs, Printer};
use super::table::escape;
use crate::config::Config;
use crate::lockfile::{LOCK_NAME, LockFile};
use crate::oci::Reference;
use file::LockPath;
use gather::{Gathered, Request};
use merge::{Answer, Merged, Update, Wish};

#[derive(Debug, Args)]
#[command(after_help = "Exit codes: 1 something is unknown or cannot be read; 3 a conflict; 5 an \
                        upstream could not be asked; 6 with --check: the lock file is stale. After 1 \
                        and 5 nothing was written.")]
pub(super) struct LockArgs {
    /// Dockerfiles or directories of them, `docker compose config --format json`, Kubernetes
    /// manifests as JSON, lists of references; `-` is standard input [default: the sources that
    /// the lock file names, else the Dockerfile or Containerfile here]
    #[arg(value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// The lock file [default: lock.file of the configuration, else images.lock]
    #[arg(long, value_name = "FILE")]
    lock: Option<PathBuf>,
    /// Resolve again what is there already: all of it, or these references, with commas between
    #[arg(long, value_name = "REF", num_args = 0..=1, require_equals = true)]
    #[arg(value_delimiter = ',', default_missing_value = "")]
    update: Option<Vec<String>>,
    /// Ask nobody and write nothing: exit code 6 unless the lock file has all that its sources name
    #[arg(long, conflicts_with_all = ["update", "add", "from_ledger", "seen", "dry_run"])]
    check: bool,
    /// Say what would change, and write nothing
    #[arg(long)]
    dry_run: bool,
    /// Take out what no source names, and sources that are gone; with --check: do not pass them
    #[arg(long)]
    prune: bool,
    #[command(flatten)]
    besides: Besides,
    /// A build argument, for the FROMs that need it
    #[arg(long, value_name = "NAME=VALUE", value_parser = parse_argument)]
    build_arg: Vec<(String, String)>,
    #[command(flatten)]
    format: FormatArgs,
}

/// What is locked though no source names it.
#[derive(Debug, Args)]
struct Besides {
    /// Lock these too, though no source names them
    #[arg(long, value_name = "REF", num_args = 1..)]
    add: Vec<String>,
    /// Lock what the ledger has pinned: all of it, or `docker.io/library/*:3.*`
    #[arg(long, value_name = "GLOB", num_args = 0..=1, require_equals = true)]
    #[arg(default_missing_value = "")]
    from_ledger: Option<String>,
    /// Lock what the running server gave since it started
    #[arg(long)]
    seen: bool,
}

/// What was typed wrongly; told with exit code 2.
struct Misuse(String);

pub(super) async fn run(global: &Global, args: LockArgs) -> anyhow::Result<ExitCode> {
    let config = global.load()?;
    let lock = LockPath::read(path(&args, &config))?;
    let Besides { add, from_ledger, seen } = &args.besides;
    let needs_source = add.is_empty() && from_ledger.is_none() && !seen;
    let request = Request {
        paths: &args.paths,
        arguments: args.build_arg.iter().cloned().collect(),
        prunes: args.prune,
        is_content_without: !needs_source,
    };
    let gathered = match gather::gather(&request, &lock)? {
        Ok(gathered) => gathered,
        Err(misuse) => return Ok(misuse.tell()),
    };
    tell::remarks(&gathered, &lock.file);
    let mut printer = Printer::new(args.format);
    if args.check {
        if gathered.is_nothing() {
            let words = "neither the command line nor the lock file names a source to check";
            return Ok(Misuse(words.to_owned()).tell());
        }
        let code = check::check(&mut printer, &lock, &gathered, args.prune)?;
        return Ok(code.into());
    }
    gathered.refuse_unreadable()?;
    match wish(&args, &lock.file, &gathered.wanted) {
        Ok(wish) => write(&config, &args, &mut printer, &lock, (wish, &gathered)).await,
        Err(misuse) => Ok(misuse.tell()),
    }
}

fn path(args: &LockArgs, config: &Config) -> PathBuf {
    let configured = config.lock.as_ref().map(|lock| lock.file.clone());
    args.lock.clone().or(configured).unwrap_or_else(|| Path::new(LOCK_NAME).to_owned())
}

/// Resolves, merges, tells, writes.
async fn write(
    config: &Config,
    args: &LockArgs,
    printer: &mut Printer,
    lock: &LockPath,
    (mut wish, gathered): (Wish, &Gathered),
) -> anyhow::Result<ExitCode> {
    let client = Place::new(config, false).find().await?;
    if let Some(glob) = &args.besides.from_ledger {
        pins::take(client.as_ref(), glob, &mut wish).await?;
    }
    if args.besides.seen {
        pins::take_seen(client.as_ref(), &config.data_dir, &mut wish).await?;
    }
    let open = merge::open(&lock.file, &wish);
    let resolved = resolve::resolve(config, client.as_ref(), &open).await;
    if let Some(client) = client {
        client.close().await;
    }
    let answers = match resolved? {
        Ok(answers) => answers,
        Err(failures) => return Ok(tell::failures(&failures, &gathered.wanted).into()),
    };
    tell::platforms(&answers, &gathered.wanted);
    let answers: BTreeMap<Reference, Answer> =
        answers.into_iter().map(|(reference, (answer, _))| (reference, answer)).collect();
    let Merged { images, changes, unnamed } = merge::merge(&lock.file, &wish, &answers);
    let new = LockFile { sources: gathered.sources.clone(), images };
    tell::changes(printer, &changes)?;
    let is_written = !args.dry_run && lock.write(&new)?;
    tell::summary(lock, &new, unnamed, (is_written, args.dry_run));
    Ok(merge::code(&changes).into())
}

/// What the command line and the sources ask for.
fn wish(
    args: &LockArgs,
    file: &LockFile,
    wanted: &BTreeMap<Reference, gather::Wanted>,
) -> Result<Wish, Misuse> {
    let marks = wanted.iter().map(|(reference, wanted)| (reference.clone(), wanted.is_immutable));
    let mut wanted: BTreeMap<Reference, bool> = marks.collect();
    for text in &args.besides.add {
        let (reference, is_immutable) = parse(text)?;
        *wanted.entry(reference).or_default() |= is_immutable;
    }
    let update = update(args.update.as_deref(), |reference| {
        wanted.contains_key(reference) || file.images.contains_key(reference)
    })?;
    Ok(Wish { wanted, given: BTreeMap::new(), update, prunes: args.prune })
}

fn update(
    typed: Option<&[String]>,
    is_known: impl Fn(&Reference) -> bool,
) -> Result<Update, Misuse> {
    let Some(typed) = typed else { return Ok(Update::Nothing) };
    let mut only = std::collections::BTreeSet::new();
    for text in typed.iter().filter(|text| !text.is_empty()) {
        let (reference, _) = parse(text)?;
        if !is_known(&reference) {
            let words = format!("--update: neither the lock file nor a source names {reference}");
            return Err(Misuse(words));
        }
        only.insert(reference);
    }
    Ok(if only.is_empty() { Update::All } else { Update::Only(only) })
}

/// Reads a reference from the command line, in the form that a lock file has.
fn parse(text: &str) -> Result<(Reference, bool), Misuse> {
    let read = crate::sources::reference(text);
    let (reference, is_immutable) = read.map_err(|why| Misuse(format!("\"{text}\": {why}")))?;
    Ok((gather::entry(&reference), is_immutable))
}

fn parse_argument(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("a build argument is NAME=VALUE".to_owned()),
    }
}

impl Misuse {
    fn tell(self) -> ExitCode {
        // Standard error is gone: the exit code is what is left.
        let _ = writeln!(io::stderr(), "error: {}", escape(&self.0));
        Code::Usage.into()
    }
}
