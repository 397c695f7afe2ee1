//! `taffrail rules list`: one line a rule.

use std::process::ExitCode;

use serde_json::json;

use super::Files;
use crate::event::field::kind_names;

#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    files: Files,
    /// Print JSON, one object a line, instead of text.
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args) -> Result<(), ExitCode> {
    for rule in &args.files.valid()?.rules {
        let kinds = kind_names(rule.all_kinds());
        if args.json {
            let (matching, other) = rule.example_counts();
            let line = json!({
                "rule": rule.name, "priority": rule.priority.name(), "enabled": rule.enabled, "desc": rule.desc,
                "response": rule.response,
                "kinds": kinds, "remembers": rule.stateful.name(), "tags": rule.tags, "techniques": rule.techniques().collect::<Vec<_>>(),
                "file": rule.source.name, "examples": { "matching": matching, "other": other },
            });
            println!("{line}");
        } else {
            let off = if rule.enabled { "" } else { " (off)" };
            println!(
                "{:<14} {}{off}  [{}]  {}  {}",
                rule.priority.name(),
                rule.name,
                kinds.join(","),
                rule.tags.join(" "),
                rule.source.name,
            );
        }
    }
    Ok(())
}
