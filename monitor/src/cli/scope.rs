//! Options that choose what is watched, of `run` and `trace`.

use std::sync::Arc;

use crate::diagnostic::{Diagnostic, Source};
use crate::scope::{Scope, Selector};
use crate::yaml::Node;

/// What is watched. Patterns have `*` and `?`, and each option can be given again: of each that is given one has to be
/// met.
#[derive(clap::Args)]
#[command(next_help_heading = "What is watched (`*` and `?` stand for anything; each can be given again)")]
pub struct Choice {
    /// Only containers of this name or id; 12 digits of the id do.
    #[arg(long, value_name = "PATTERN")]
    container: Vec<String>,
    /// Only containers of this image, named with or without its tag.
    #[arg(long, value_name = "PATTERN")]
    image: Vec<String>,
    /// Only containers in this pod, by name or uid.
    #[arg(long, value_name = "PATTERN")]
    pod: Vec<String>,
    /// Only containers in pods of this namespace.
    #[arg(long, value_name = "PATTERN")]
    namespace: Vec<String>,
    /// Only containers that have this label, or whose pod has it.
    #[arg(long, value_name = "KEY[=PATTERN]")]
    label: Vec<String>,
    /// Only containers of this runtime: docker, podman, containerd, cri-o, kubernetes, oci.
    #[arg(long, value_name = "PATTERN")]
    runtime: Vec<String>,
    /// No containers like this, such as `image=shop/*`.
    #[arg(long, value_name = "KEY=PATTERN")]
    exclude: Vec<String>,
    /// The host's own processes too.
    #[arg(long)]
    host: bool,
}

impl Choice {
    /// Adds to what is watched, or says all that is wrong.
    pub fn add_to(&self, scope: &mut Scope) -> Result<(), Vec<Diagnostic>> {
        let Self { container, image, pod, namespace, label, runtime, exclude, host } = self;
        let mut wrong = Vec::new();
        let mut take = |option: &str, text: String, place: &mut Vec<Selector>| match parse(option, text) {
            Ok(selector) => place.push(selector),
            Err(diagnostic) => wrong.push(diagnostic),
        };
        for (key, patterns) in [
            ("container", container),
            ("image", image),
            ("pod", pod),
            ("namespace", namespace),
            ("label", label),
            ("runtime", runtime),
        ] {
            for pattern in patterns {
                take(&format!("--{key}"), format!("{key}={pattern}"), &mut scope.include);
            }
        }
        for text in exclude {
            take("--exclude", text.clone(), &mut scope.exclude);
        }
        scope.host |= host;
        if wrong.is_empty() { Ok(()) } else { Err(wrong) }
    }
}

fn parse(option: &str, text: String) -> Result<Selector, Diagnostic> {
    let source = Arc::new(Source { name: option.to_owned(), text });
    Selector::parse(&Node::whole(&source))
}
