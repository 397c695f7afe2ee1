//! Reads the configuration and the rules for the daemon, at its start and later. All that is wrong with them is told in one run, and
//! whatever comes of it, it is known which versions of which files were read.

use std::error::Error;
use std::process::ExitCode;

use super::run::Args;
use crate::config::{LoadError, Settings};
use crate::diagnostic::{self, Diagnostic, Severity};
use crate::event::text::escaped;
use crate::rules::{self, RuleSet};
use crate::stamp::Seen;

/// How many reasons a record has, and bytes of each.
const REASONS_MAX: (usize, usize) = (5, 300);

/// What was read.
pub struct Loaded {
    /// All files that were, and those that would have been, had they been there.
    pub files: Seen,
    /// What is to be said of it.
    pub told: Told,
    /// The settings, and the rules that they name; `None` if anything is wrong.
    pub valid: Option<(Settings, RuleSet)>,
}

/// What is wrong, and what is legal but hardly meant.
#[derive(Default)]
pub struct Told {
    /// What cannot be read, each with a hint.
    unreadable: Vec<(Box<dyn Error>, &'static str)>,
    diagnostics: Vec<Diagnostic>,
}

/// Reads all of it.
pub fn load(args: &Args) -> Loaded {
    let (mut files, mut told) = (Seen::default(), Told::default());
    let settings = match args.source.read(&mut files) {
        Ok(settings) => Some(settings),
        Err(LoadError::Invalid(diagnostics, rest)) => {
            told.diagnostics.extend(diagnostics);
            rest.map(|settings| *settings)
        }
        Err(error) => {
            told.unreadable.push((Box::new(error), "name another file with `--config`"));
            None
        }
    };
    let mut scope = settings.as_ref().map(|settings| settings.scope.clone()).unwrap_or_default();
    told.diagnostics.extend(args.choice.add_to(&mut scope).err().into_iter().flatten());
    let rules = settings.as_ref().and_then(|settings| load_rules(settings, &mut files, &mut told));
    let valid = settings.zip(rules).filter(|_| told.errors() == 0);
    let valid = valid.map(|(settings, rules)| (Settings { scope, ..settings }, rules));
    Loaded { files, told, valid }
}

/// The rules that the settings name.
fn load_rules(settings: &Settings, files: &mut Seen, told: &mut Told) -> Option<RuleSet> {
    let mut read = super::rules::Read::default();
    // Noted also while it is not there.
    read.seen.note(&settings.rules_local);
    let local = Some(&settings.rules_local).filter(|path| path.exists());
    settings.rules_files.iter().chain(local).for_each(|path| read.take(path));
    files.extend(read.seen);
    let is_whole = read.errors.is_empty();
    let hint = "correct `rules.files` or `rules.local`; what else is said of rules may come of that";
    told.unreadable.extend(read.errors.into_iter().map(|error| (error.into(), hint)));
    let mut sources = if settings.rules_embedded { rules::embedded() } else { Vec::new() };
    sources.extend(read.sources);
    let (set, names) = match RuleSet::load(&sources) {
        Ok((mut set, warnings)) => {
            told.diagnostics.extend(warnings);
            set.enable_down_to(settings.rules_maturity);
            set.disable(&settings.rules_disabled);
            let names = set.rules.iter().map(|rule| rule.name.clone()).collect();
            (Some(set), Some(names))
        }
        Err(diagnostics) => {
            told.diagnostics.extend(diagnostics);
            (None, rules::names(&sources))
        }
    };
    // One of a file that cannot be read may be meant.
    if let Some(names) = names.filter(|_| is_whole) {
        for name in settings.rules_disabled.iter().filter(|name| !names.contains(*name)) {
            let message = format!("`rules.disabled` names a rule that there is not: `{name}`");
            let diagnostic = Diagnostic::error("C109", message);
            told.diagnostics.push(diagnostic.did_you_mean(name, names.iter().map(String::as_str)));
        }
    }
    set
}

impl Told {
    /// How many errors there are.
    pub fn errors(&self) -> usize {
        let errors = self.diagnostics.iter().filter(|found| found.severity == Severity::Error);
        self.unreadable.len() + errors.count()
    }

    /// Tells a person all of it.
    pub fn tell(&self) {
        for (error, hint) in &self.unreadable {
            super::complain(&**error, Some(hint));
        }
        eprint!("{}", diagnostic::render(&self.diagnostics, super::color_on_stderr()));
        match self.errors() {
            0 => {}
            1 => eprintln!("error: the configuration and the rules have 1 error"),
            errors => eprintln!("error: the configuration and the rules have {errors} errors"),
        }
    }

    /// The first errors, one line each.
    pub fn reasons(&self) -> Vec<String> {
        let unreadable = self.unreadable.iter().map(|(error, _)| match error.source() {
            Some(cause) => format!("{error}: {cause}"),
            None => error.to_string(),
        });
        let errors = self.diagnostics.iter().filter(|found| found.severity == Severity::Error);
        let (most, length) = REASONS_MAX;
        let lines = unreadable.chain(errors.map(Diagnostic::line)).take(most);
        lines.map(|line| escaped(&line.as_bytes()[..line.floor_char_boundary(length)])).collect()
    }

    /// Of a daemon that cannot start with it.
    pub fn code(&self) -> ExitCode {
        ExitCode::from(if self.unreadable.is_empty() { super::NO } else { super::FAILED })
    }
}

#[cfg(test)]
pub mod tests {
    use std::path::Path;

    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    /// With `config.yaml` and `rules` in that folder, and no other rules.
    pub fn args(folder: &Path, options: &[&str]) -> Args {
        let config = folder.join("config.yaml").display().to_string();
        let files = format!("rules.files=[{}]", folder.join("rules").display());
        let local = format!("rules.local={}", folder.join("local.yaml").display());
        let ours = ["run", "--config", &config, "-o", &files, "-o", &local, "-o", "rules.embedded=false"];
        Line::try_parse_from(ours.iter().chain(options)).unwrap().args
    }

    fn load_from(folder: &Path, options: &[&str]) -> Loaded {
        load(&args(folder, options))
    }

    /// A rule file.
    pub fn rule(name: &str) -> String {
        format!("- rule: {name}\n  desc: d\n  condition: evt.kind = exec\n  output: o\n  priority: INFO\n")
    }

    /// With an empty configuration, and a rule in a folder of the rules' folder.
    pub fn folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("config.yaml"), "").unwrap();
        std::fs::create_dir_all(folder.path().join("rules/more")).unwrap();
        std::fs::write(folder.path().join("rules/more/one.yaml"), rule("one")).unwrap();
        folder
    }

    #[test]
    fn all_that_is_wrong_is_told_in_one_run_and_in_a_few_lines() {
        let folder = folder();
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("config.yaml"), "log: {dirr: /x}\nrules: {disabled: [one, two]}\n").unwrap();
        std::fs::write(at("rules/more/two.yaml"), "- rule: broken\n  condition: (\n").unwrap();
        let Loaded { told, valid, .. } = load_from(folder.path(), &["--exclude", "imag=x"]);
        let codes: Vec<&str> = told.diagnostics.iter().map(|found| found.code).collect();
        assert!(valid.is_none());
        assert_eq!(codes, ["C101", "C120", "R304", "R304", "R304", "R102", "C109"]);
        let reasons = told.reasons();
        assert_eq!((told.errors(), reasons.len()), (codes.len(), REASONS_MAX.0));
        assert_eq!(
            reasons[0],
            format!("{}:1: C101: there is no setting `log.dirr`", at("config.yaml").display())
        );
        // Nobody can say what rules there are.
        std::fs::write(at("config.yaml"), "rules: {file: [/x], disabled: [two]}\n").unwrap();
        let codes: Vec<_> =
            load_from(folder.path(), &[]).told.diagnostics.iter().map(|found| found.code).collect();
        assert_eq!(codes, ["C101"]);
    }

    #[test]
    fn each_file_that_cannot_be_read_is_told() {
        let folder = folder();
        for name in ["a.yaml", "b.yaml"] {
            std::fs::write(folder.path().join("rules").join(name), b"\xff").unwrap();
        }
        let told = load_from(folder.path(), &["-o", "rules.disabled=[two]"]).told;
        assert_eq!(
            (told.errors(), told.unreadable.len(), told.code()),
            (2, 2, ExitCode::from(super::super::FAILED))
        );
    }

    #[test]
    fn files_are_known_as_they_were_before_they_were_read_also_in_folders_and_behind_links() {
        let folder = folder();
        let at = |name: &str| folder.path().join(name);
        // As Kubernetes mounts what may change.
        for (version, name) in [("..1", "linked"), ("..2", "replaced")] {
            std::fs::create_dir(at(version)).unwrap();
            std::fs::write(at(version).join("linked.yaml"), rule(name)).unwrap();
        }
        std::os::unix::fs::symlink("..1", at("..data")).unwrap();
        std::os::unix::fs::symlink("../..data/linked.yaml", at("rules/linked.yaml")).unwrap();
        let mut files = load_from(folder.path(), &[]).files;
        assert!(files == files.again());
        let changes: [(&str, &dyn Fn()); 5] = [
            ("a file that is written to", &|| {
                std::fs::write(at("rules/more/one.yaml"), rule("two")).unwrap()
            }),
            ("a new file in a folder", &|| std::fs::write(at("rules/more/new.yaml"), rule("new")).unwrap()),
            ("a local file", &|| std::fs::write(at("local.yaml"), "[]").unwrap()),
            ("the configuration", &|| std::fs::write(at("config.yaml"), "{}").unwrap()),
            ("what a link leads to", &|| {
                std::os::unix::fs::symlink("..2", at("..new")).unwrap();
                std::fs::rename(at("..new"), at("..data")).unwrap();
            }),
        ];
        for (what, change) in changes {
            change();
            assert!(files != files.again(), "{what}");
            files = load_from(folder.path(), &[]).files;
            assert!(files == files.again(), "{what}");
        }
    }
}
