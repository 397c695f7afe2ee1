//! Diagnostics for what people write (rules, configuration, filters): a stable code, the place, what is
//! on the other side, and a hint that can be pasted. It collects and renders; it never prints or exits.

use std::ops::Range;
use std::sync::Arc;

/// A text that a person wrote: a file, standard input, a command-line argument.
#[derive(Debug, PartialEq, Eq)]
pub struct Source {
    /// What to call it in a diagnostic: a path, `<stdin>`, `--filter`.
    pub name: String,
    /// Its whole text.
    pub text: String,
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Legal, but probably not what was meant.
    Warning,
    /// Cannot be used.
    Error,
}

/// A place in a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// The text that the place is in.
    pub source: Arc<Source>,
    /// The bytes of `source.text`.
    pub range: Range<usize>,
}

/// A place and what is there: the first one of a diagnostic is the main one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    /// Where.
    pub span: Span,
    /// What is there; may be empty.
    pub text: String,
}

/// One finding. Codes: `R1xx` rule syntax, `R2xx` types, `R3xx` rule files, `C1xx` configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// Stable code, such as `R201`.
    pub code: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// What is wrong, lower case, no full stop.
    pub message: String,
    /// Where, main place first; empty if no place can be named.
    pub labels: Vec<Label>,
    /// What to write instead.
    pub hint: Option<String>,
}
