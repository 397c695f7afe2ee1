//! Prints the board of the evasion suite from a file of scores, and keeps `docs/evasion.md` true: with
//! `TAFFRAIL_BLESS=1` it writes the tables anew, else a page that says otherwise is an error.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use taffrail_tests::score;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> anyhow::Result<()> {
    let file = std::env::args().nth(1).context("usage: scores FILE")?;
    let scores = score::parse(&std::fs::read_to_string(&file).with_context(|| file.clone())?)?;
    print!("{}", score::board(&scores));
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/evasion.md");
    let page = std::fs::read_to_string(&path)?;
    if std::env::var_os("TAFFRAIL_BLESS").is_some() {
        return Ok(std::fs::write(&path, score::with_tables(&page, &scores))?);
    }
    let stale = score::stale(&page, &scores);
    if !stale.is_empty() {
        bail!(
            "docs/evasion.md is stale: {}\nhint: look at it, then run `TAFFRAIL_BLESS=1 cargo xtask test evasion`",
            stale.join("; ")
        );
    }
    Ok(())
}
