//! `taffrail rules fields`: the schema.

use std::process::ExitCode;

use serde_json::json;

use crate::cli::NO;
use crate::event::field::{FIELDS, kind_names};
use crate::probe::hook::ALL_KINDS;

#[derive(clap::Args)]
pub struct Args {
    /// Only fields that have this in their name.
    part: Option<String>,
    /// Print JSON, one object a line, instead of text.
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args) -> Result<(), ExitCode> {
    let part = args.part.as_deref().unwrap_or_default();
    let mut any = false;
    for field in FIELDS.iter().filter(|field| field.name.contains(part)) {
        any = true;
        let (name, ty, doc) = (field.name, field.ty.name(), field.doc);
        if args.json {
            println!(
                "{}",
                json!({ "field": name, "type": ty, "kinds": kind_names(field.kinds), "doc": doc })
            );
        } else {
            let kinds =
                if field.kinds == ALL_KINDS { "all".to_owned() } else { kind_names(field.kinds).join(",") };
            println!("{name:<24} {ty:<13} [{kinds}]  {doc}");
        }
    }
    if any { Ok(()) } else { Err(ExitCode::from(NO)) }
}
