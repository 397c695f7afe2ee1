//! Diagnostics for what people write (rules, configuration, filters): a stable code, the place, what is
//! on the other side, and a hint that can be pasted. It collects and renders; it never prints or exits.

use std::ops::Range;
use std::sync::Arc;

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};

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

/// One finding. Codes: `R1xx` rule syntax, `R2xx` types, `R3xx` rule files, `R4xx` rules that remember,
/// `S1xx` Sigma rules that are wrong, `S2xx` those that have no meaning here, `C1xx` configuration.
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

impl Diagnostic {
    /// Something that cannot be used.
    pub fn error(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, severity: Severity::Error, message: message.into(), labels: Vec::new(), hint: None }
    }

    /// Something legal that is probably not meant.
    pub fn warning(code: &'static str, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(code, message) }
    }

    /// Adds a place; the first one is the main one.
    pub fn label(mut self, mut span: Span, text: impl Into<String>) -> Self {
        // A place never begins or ends within a character, or behind the text.
        let source = &span.source.text;
        let start = source.floor_char_boundary(span.range.start);
        span.range = start..source.ceil_char_boundary(span.range.end.clamp(start, source.len()));
        self.labels.push(Label { span, text: text.into() });
        self
    }

    /// Says what to write instead.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Says which of the known names may have been meant, if one is close.
    pub fn did_you_mean<'a>(self, word: &str, names: impl Iterator<Item = &'a str>) -> Self {
        match closest(word, names) {
            Some(name) => self.hint(format!("did you mean `{name}`?")),
            None => self,
        }
    }

    /// All of it in one line: the place, the code, what is wrong.
    pub fn line(&self) -> String {
        let Self { code, message, labels, .. } = self;
        match labels.first() {
            Some(Label { span: Span { source, range }, .. }) => {
                let before = source.text.as_bytes().iter().take(range.start);
                let line = 1 + before.filter(|byte| **byte == b'\n').count();
                format!("{}:{line}: {code}: {message}", source.name)
            }
            None => format!("{code}: {message}"),
        }
    }

    fn place(&self) -> (&str, usize) {
        self.labels.first().map_or(("", 0), |label| (label.span.source.name.as_str(), label.span.range.start))
    }
}

/// The name that differs least from a word, if it is near enough to be a slip.
pub fn closest<'a>(word: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let near = names.map(|name| (strsim::damerau_levenshtein(word, name), name));
    let (distance, name) = near.min_by_key(|(distance, _)| *distance)?;
    (distance <= 1 + word.len() / 5).then_some(name)
}

/// Diagnostics as text, by place.
pub fn render(diagnostics: &[Diagnostic], color: bool) -> String {
    let mut sorted: Vec<&Diagnostic> = diagnostics.iter().collect();
    sorted.sort_by(|a, b| a.place().cmp(&b.place()));
    let renderer = if color { Renderer::styled() } else { Renderer::plain() };
    let mut text = String::new();
    for diagnostic in sorted {
        text.push_str(&render_one(diagnostic, &renderer));
        text.push_str("\n\n");
    }
    text
}

fn render_one(diagnostic: &Diagnostic, renderer: &Renderer) -> String {
    let level = match diagnostic.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let mut group = level
        .primary_title(diagnostic.message.as_str())
        .id(diagnostic.code)
        .elements(None::<Snippet<'_, annotate_snippets::Annotation<'_>>>);
    let mut labels = diagnostic.labels.as_slice();
    let mut kind = AnnotationKind::Primary;
    // One snippet for each run of labels in one source.
    while let Some(first) = labels.first() {
        let source = &first.span.source;
        let end = labels.iter().position(|label| label.span.source != *source).unwrap_or(labels.len());
        let mut snippet = Snippet::source(source.text.as_str()).path(source.name.as_str());
        for Label { span, text } in &labels[..end] {
            snippet = snippet.annotation(kind.span(span.range.clone()).label(text.as_str()));
            kind = AnnotationKind::Context;
        }
        group = group.element(snippet);
        labels = &labels[end..];
    }
    if let Some(hint) = &diagnostic.hint {
        group = group.element(Level::HELP.with_name("hint").message(hint.as_str()));
    }
    renderer.render(&[group])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn diagnostic_shows_its_place_the_other_side_and_a_hint() {
        let text = "a: 1\nproc.pid = \"root\"\n";
        let source = Arc::new(Source { name: "rules/x.yaml".to_owned(), text: text.to_owned() });
        let span = |range| Span { source: Arc::clone(&source), range };
        let diagnostic = Diagnostic::error("R201", "`proc.pid` is a number but is compared with text")
            .label(span(5..13), "number")
            .label(span(16..22), "text")
            .hint("write `user.name = \"root\"`");
        let expected = "\
error[R201]: `proc.pid` is a number but is compared with text
 --> rules/x.yaml:2:1
  |
2 | proc.pid = \"root\"
  | ^^^^^^^^   ------ text
  | |
  | number
  |
  = hint: write `user.name = \"root\"`

";
        assert_eq!(render(&[diagnostic], false), expected);
    }

    #[test]
    fn slip_of_the_pen_is_recognised_and_another_word_is_not() {
        let names = ["proc.name", "proc.pname", "fd.name"];
        assert_eq!(closest("proc.nmae", names.into_iter()), Some("proc.name"));
        assert_eq!(closest("container.id", names.into_iter()), None);
    }
}
