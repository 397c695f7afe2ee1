//! `taffrail rules`: check rules, run their examples, list and explain them. One file per sub-command.

use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use crate::config::read_bounded;
use crate::diagnostic::{self, Diagnostic, Severity, Source};
use crate::rules::{self, RuleSet};
use crate::stamp::Seen;
use crate::yaml;

mod check;
mod coverage;
mod explain;
mod fields;
mod import;
mod list;
mod test;

/// Work with rules.
#[derive(clap::Subcommand)]
pub enum RulesCommand {
    /// Check rules and run the examples in them. Exit code 1: something is wrong with them.
    Check(check::Args),
    /// List rules: name, priority, kinds of event, tags, and whether they are on.
    List(list::Args),
    /// Explain a rule: what its condition comes to, what it needs, and whether that is there.
    Explain(explain::Args),
    /// Run the examples in the rules, or the rules against a recording. Exit code 1: one came out otherwise.
    Test(test::Args),
    /// Say which techniques of ATT&CK for Containers which enabled rules detect.
    Coverage(coverage::Args),
    /// List the fields that rules, filters and output templates can name.
    Fields(fields::Args),
    /// Write Sigma rules as rules of this program's own language.
    Import(import::Args),
}

/// Runs the sub-command.
pub fn run(command: RulesCommand) -> ExitCode {
    let done = match command {
        RulesCommand::Check(args) => check::run(&args),
        RulesCommand::List(args) => list::run(&args),
        RulesCommand::Explain(args) => explain::run(&args),
        RulesCommand::Test(args) => test::run(&args),
        RulesCommand::Coverage(args) => coverage::run(&args),
        RulesCommand::Fields(args) => fields::run(&args),
        RulesCommand::Import(args) => import::run(&args),
    };
    done.map_or_else(|code| code, |()| ExitCode::SUCCESS)
}

/// Rule files that were read.
#[derive(Default)]
pub struct Read {
    /// Their texts, in order.
    pub sources: Vec<Arc<Source>>,
    /// What could not be read.
    pub errors: Vec<io::Error>,
    /// Files and folders, as they were just before.
    pub seen: Seen,
}

impl Read {
    /// Reads a file, or a folder by name, with the folders in it. What begins with a dot and folders behind links are passed
    /// over there.
    pub fn take(&mut self, path: &Path) {
        self.seen.note(path);
        if let Err(error) = self.try_take(path) {
            self.errors.push(io::Error::new(error.kind(), format!("{}: {error}", path.display())));
        }
    }

    fn try_take(&mut self, path: &Path) -> io::Result<()> {
        if path == Path::new("-") {
            let mut text = String::new();
            io::stdin().lock().take(yaml::SIZE_MAX as u64 + 1).read_to_string(&mut text)?;
            self.sources.push(Arc::new(Source { name: "<stdin>".to_owned(), text }));
        } else if path.is_dir() {
            let entries = path.read_dir()?.map(|entry| entry.map(|entry| entry.path()));
            let mut inside: Vec<PathBuf> = entries.collect::<Result<_, _>>()?;
            inside.retain(|path| {
                let is_file =
                    path.is_file() && path.extension().is_some_and(|kind| kind == "yaml" || kind == "yml");
                let is_folder = path.is_dir() && !path.is_symlink();
                let is_hidden =
                    path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
                (is_file || is_folder) && !is_hidden
            });
            inside.sort();
            inside.iter().for_each(|path| self.take(path));
        } else {
            let text = read_bounded(path)?;
            self.sources.push(Arc::new(Source { name: path.display().to_string(), text }));
        }
        Ok(())
    }
}

/// The texts of files and folders, in order; what cannot be read is told, all of it.
fn read(paths: &[PathBuf]) -> Result<Vec<Arc<Source>>, ExitCode> {
    let mut read = Read::default();
    paths.iter().for_each(|path| read.take(path));
    read.errors.iter().for_each(|error| super::complain(error, None));
    if read.errors.is_empty() { Ok(read.sources) } else { Err(ExitCode::from(super::FAILED)) }
}

/// The rule files of a sub-command.
#[derive(clap::Args)]
struct Files {
    /// Files, folders, or `-` for standard input, in order; by default the rules that come with the program.
    files: Vec<PathBuf>,
    /// Load the rules that come with the program before the files, which can then change them.
    #[arg(long)]
    embedded: bool,
}

/// A set, or all that is wrong with it; what is legal but probably not meant is with both.
struct Loaded {
    set: Option<RuleSet>,
    diagnostics: Vec<Diagnostic>,
}

impl Files {
    fn read(&self) -> Result<Vec<Arc<Source>>, ExitCode> {
        let embedded = self.embedded || self.files.is_empty();
        let mut sources = if embedded { rules::embedded() } else { Vec::new() };
        sources.extend(read(&self.files)?);
        Ok(sources)
    }

    fn load(&self) -> Result<Loaded, ExitCode> {
        Ok(match RuleSet::load(&self.read()?) {
            Ok((set, diagnostics)) => Loaded { set: Some(set), diagnostics },
            Err(diagnostics) => Loaded { set: None, diagnostics },
        })
    }

    /// The set; what is wrong with it is told on stderr.
    fn valid(&self) -> Result<RuleSet, ExitCode> {
        let Loaded { set, diagnostics } = self.load()?;
        tell(&diagnostics);
        set.ok_or(ExitCode::from(super::NO))
    }
}

/// Prints diagnostics to stderr.
fn tell(diagnostics: &[Diagnostic]) {
    eprint!("{}", diagnostic::render(diagnostics, super::color_on_stderr()));
}

fn failed(error: &dyn std::error::Error) -> ExitCode {
    super::complain(error, None);
    ExitCode::from(super::FAILED)
}

fn errors(diagnostics: &[Diagnostic]) -> usize {
    diagnostics.iter().filter(|found| found.severity == Severity::Error).count()
}
