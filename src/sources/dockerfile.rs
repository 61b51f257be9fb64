//! Dockerfiles: the images behind `FROM`, `COPY --from` and `RUN --mount=from=`, and the frontend.
//!
//! Source: Dockerfile reference, "FROM", "Understand how ARG and FROM interact", "Environment
//! replacement", "Parser directives", "Here-Documents"; `BuildKit`'s parser where that is silent.
//! What others decide is not known here: `--build-context`, `--target`, and the images that
//! `ONBUILD` lines of a base image name.

mod expand;
mod flags;
mod instructions;
mod rewrite;

use std::collections::{BTreeMap, HashSet};
use std::ops::Range;

use self::expand::{Arguments, Unknown};
use self::flags::Word;
use self::instructions::Instruction;
pub use self::rewrite::{Rewritten, rewrite};
use super::{Found, Lines, Mention, SOURCE_BYTES, reference};

/// The most stages that are kept.
const STAGES: usize = 10_000;

/// Reads a Dockerfile, with these build arguments (`--build-arg`).
///
/// A name that needs an argument without a value is skipped, as one that needs the platform.
pub fn read(text: &str, arguments: &BTreeMap<String, String>) -> Found {
    let mut reader = Reader {
        lines: Lines::of(text),
        found: Found::default(),
        arguments: Arguments::given(arguments),
        stages: HashSet::new(),
        stage_count: 0,
    };
    if text.len() > SOURCE_BYTES {
        reader.found.skip(1, "", "the file is too large to be a Dockerfile");
        return reader.found;
    }
    let (directives, mut instructions) = instructions::begin(text);
    match (arguments.get("BUILDKIT_SYNTAX"), directives.syntax) {
        (Some(frontend), _) => reader.frontend(frontend, 0, None),
        (None, Some(span)) => reader.frontend(&text[span.clone()], span.start, Some(span)),
        (None, None) => {}
    }
    // `COPY --from` may name a stage that comes later.
    let all: Vec<_> = instructions.by_ref().collect();
    let ahead: HashSet<String> = all.iter().filter_map(stage_name).take(STAGES).collect();
    for instruction in &all {
        reader.take(instruction, &ahead);
    }
    if let Some(at) = instructions.unended() {
        let (line, _) = reader.lines.place(at);
        reader.found.skip(line, "<<", "this here-document does not end");
    }
    reader.found
}

/// The name of the stage that an instruction begins.
fn stage_name(instruction: &Instruction) -> Option<String> {
    if !instruction.is("FROM") {
        return None;
    }
    let words = flags::split(instruction);
    match words.rest.as_slice() {
        [_, r#as, name, ..] if r#as.text.eq_ignore_ascii_case("AS") => {
            Some(name.text.to_lowercase())
        }
        _ => None,
    }
}

struct Reader<'a> {
    lines: Lines<'a>,
    found: Found,
    arguments: Arguments,
    /// The names of the stages so far.
    stages: HashSet<String>,
    stage_count: usize,
}

impl Reader<'_> {
    fn take(&mut self, instruction: &Instruction, ahead: &HashSet<String>) {
        if instruction.is("ARG") && self.stage_count == 0 {
            for word in flags::split(instruction).rest {
                self.argument(instruction, &word);
            }
        } else if instruction.is("FROM") {
            self.from(instruction);
        } else if instruction.is("COPY") {
            let words = flags::split(instruction);
            for (value, range) in words.flag("from") {
                self.other(instruction, &value, range, ahead);
            }
        } else if instruction.is("RUN") {
            let words = flags::split(instruction);
            for (mount, range) in words.flag("mount") {
                if let Some((value, range)) = flags::field(&mount, range, "from") {
                    self.other(instruction, value, range, ahead);
                }
            }
        } else if instruction.is("ONBUILD") && flags::names_image(instruction) {
            let (line, _) = self.lines.place(instruction.source(0));
            let why = "it counts in the builds of others, upon this image";
            self.found.skip(line, &instruction.text, why);
        }
    }

    fn argument(&mut self, instruction: &Instruction, word: &Word) {
        let Some((name, raw)) = word.raw.split_once('=') else {
            self.arguments.define(&word.raw, None, instruction.escape, None);
            return;
        };
        let start = word.range.start + name.len() + 1;
        let inner = expand::plain(raw, instruction.escape);
        let span = inner.and_then(|inner| instruction.span(start + inner.start..start + inner.end));
        self.arguments.define(name, Some(raw), instruction.escape, span);
    }

    /// `FROM [--platform=…] image [AS name]`
    fn from(&mut self, instruction: &Instruction) {
        let words = flags::split(instruction);
        self.stage_count += 1;
        let Some(image) = words.rest.first() else { return };
        let platform = words.flag("platform").pop().map(|(written, _)| {
            self.arguments.expand(&written, instruction.escape).unwrap_or(written)
        });
        match self.arguments.expand(&image.raw, instruction.escape) {
            Err(unknown) => {
                let (line, _) = self.lines.place(instruction.source(image.range.start));
                self.found.skip(line, &image.raw, unknown.words());
            }
            Ok(name) if name == "scratch" || self.stages.contains(&name.to_lowercase()) => {}
            Ok(name) => {
                let inner = expand::plain(&image.raw, instruction.escape);
                let start = image.range.start;
                let range = inner.map(|inner| start + inner.start..start + inner.end);
                let span = range.and_then(|range| instruction.span(range));
                let default_span = self.arguments.default_span(&image.raw);
                let place = span.as_ref().map_or(instruction.source(start), |span| span.start);
                self.add(&name, place, span, Named { platform, default_span, ..Named::default() });
            }
        }
        if self.stages.len() < STAGES {
            self.stages.extend(stage_name(instruction));
        }
    }

    /// The image of `--from=`, unless it is a stage.
    fn other(
        &mut self,
        instruction: &Instruction,
        name: &str,
        range: Range<usize>,
        ahead: &HashSet<String>,
    ) {
        let place = instruction.source(range.start);
        if name.contains('$') {
            let (line, _) = self.lines.place(place);
            self.found.skip(line, name, "Docker replaces no variable here: name it by a FROM");
            return;
        }
        let is_number = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_digit());
        let is_stage = is_number || ahead.contains(&name.to_lowercase());
        if name.is_empty() || name == "scratch" || is_stage {
            return;
        }
        let is_verbatim = instruction.text.get(range.clone()) == Some(name);
        let span = is_verbatim.then(|| instruction.span(range)).flatten();
        self.add(name, place, span, Named::default());
    }

    /// `# syntax=…`
    fn frontend(&mut self, name: &str, at: usize, span: Option<Range<usize>>) {
        self.add(name, at, span, Named { is_frontend: true, ..Named::default() });
    }

    fn add(&mut self, name: &str, at: usize, span: Option<Range<usize>>, named: Named) {
        let (line, column) = self.lines.place(at);
        let Named { platform, default_span, is_frontend } = named;
        match reference(name) {
            Ok((reference, is_immutable)) => self.found.mention(Mention {
                reference,
                is_immutable,
                platform,
                line,
                column,
                span,
                default_span,
                is_frontend,
            }),
            Err(why) => self.found.skip(line, name, why),
        }
    }
}

/// What is known of an image beside its name.
#[derive(Default)]
struct Named {
    platform: Option<String>,
    default_span: Option<Range<usize>>,
    is_frontend: bool,
}

impl Unknown {
    const fn words(self) -> &'static str {
        match self {
            Self::Argument => "it needs an ARG that has no default here",
            Self::Platform => "it depends on the platform that is built for",
            Self::TooLong => "it is too long",
            Self::Written => "its variables are written in a way that is not read here",
        }
    }
}

#[cfg(test)]
mod tests;
