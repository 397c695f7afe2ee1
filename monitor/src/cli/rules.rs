//! `taffrail rules`: check rules, run their examples, list them.

use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use serde_json::json;

use crate::diagnostic::{self, Severity, Source};
use crate::event::field::kind_names;
use crate::rules::{self, Failure, RuleSet};

/// Work with rules.
#[derive(clap::Subcommand)]
pub enum RulesCommand {
    /// Check rules and run the examples in them. Exit code 1: something is wrong with them.
    Check {
        /// Files, folders, or `-` for standard input; by default the rules that come with the program.
        files: Vec<PathBuf>,
    },
    /// List rules: name, priority, kinds of event, tags.
    List {
        /// Files, folders, or `-` for standard input; by default the rules that come with the program.
        files: Vec<PathBuf>,
        /// Print JSON instead of text.
        #[arg(long)]
        json: bool,
    },
}

/// Runs the sub-command.
pub fn run(command: RulesCommand) -> ExitCode {
    match command {
        RulesCommand::Check { files } => check(&files),
        RulesCommand::List { files, json } => list(&files, json),
    }
}

/// The texts of files and folders, in order; folders by name.
pub fn read(files: &[PathBuf]) -> io::Result<Vec<Arc<Source>>> {
    let mut sources = Vec::new();
    for path in files {
        let explain = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
        if path == Path::new("-") {
            let mut text = String::new();
            io::stdin().read_to_string(&mut text).map_err(explain)?;
            sources.push(Arc::new(Source { name: "<stdin>".to_owned(), text }));
        } else if path.is_dir() {
            let mut inside: Vec<PathBuf> = path
                .read_dir()
                .map_err(explain)?
                .map(|entry| entry.map(|entry| entry.path()))
                .collect::<Result<_, _>>()?;
            inside.retain(|path| {
                path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml")
            });
            inside.sort();
            sources.extend(read(&inside)?);
        } else {
            let text = std::fs::read_to_string(path).map_err(explain)?;
            sources.push(Arc::new(Source { name: path.display().to_string(), text }));
        }
    }
    Ok(sources)
}

/// Reads and loads; if that fails, says why and gives the exit code. Warnings are printed.
fn load(files: &[PathBuf]) -> Result<RuleSet, ExitCode> {
    let sources = match files {
        [] => rules::embedded(),
        files => read(files).map_err(|error| {
            super::complain(&error, None);
            ExitCode::from(super::FAILED)
        })?,
    };
    let color = super::color_on_stderr();
    match RuleSet::load(&sources) {
        Ok((set, warnings)) => {
            eprint!("{}", diagnostic::render(&warnings, color));
            Ok(set)
        }
        Err(diagnostics) => {
            eprint!("{}", diagnostic::render(&diagnostics, color));
            let errors = diagnostics.iter().filter(|found| found.severity == Severity::Error).count();
            println!("{errors} errors, {} warnings", diagnostics.len() - errors);
            Err(ExitCode::from(super::NO))
        }
    }
}

fn check(files: &[PathBuf]) -> ExitCode {
    let set = match load(files) {
        Ok(set) => set,
        Err(code) => return code,
    };
    let failures = rules::run_examples(&set);
    for Failure { rule, example, expected } in &failures {
        let (should, does) = if *expected { ("match", "does not") } else { ("not match", "does") };
        eprintln!("rule `{rule}`, example {example}: should {should}, but {does}");
    }
    let examples: usize = set.rules.iter().map(|rule| rule.example_counts()).map(|(a, b)| a + b).sum();
    println!("{} rules are valid, {} of {examples} examples failed", set.rules.len(), failures.len());
    if failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(super::NO) }
}

fn list(files: &[PathBuf], json: bool) -> ExitCode {
    let set = match load(files) {
        Ok(set) => set,
        Err(code) => return code,
    };
    for rule in &set.rules {
        let kinds = kind_names(rule.kinds);
        if json {
            let line = json!({
                "rule": rule.name, "priority": rule.priority.name(), "enabled": rule.enabled, "desc": rule.desc,
                "kinds": kinds, "tags": rule.tags, "file": rule.source.name,
            });
            println!("{line}");
        } else {
            let off = if rule.enabled { "" } else { " (off)" };
            println!(
                "{:<14} {}{off}  [{}]  {}",
                rule.priority.name(),
                rule.name,
                kinds.join(","),
                rule.tags.join(" ")
            );
        }
    }
    ExitCode::SUCCESS
}
