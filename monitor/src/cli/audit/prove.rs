//! `taffrail audit prove` and `audit verify-proof`: that one record is in a log, told to somebody who does not have the log.

use std::io::Read as _;
use std::path::PathBuf;
use std::process::ExitCode;

use crate::audit::prove::{self, Proof, ProveError};
use crate::audit::witness::Witness;
use crate::cli::complain;
use crate::event::text::escaped;
use crate::rules::hex;

/// What to prove.
#[derive(clap::Args)]
pub struct ProveArgs {
    /// Number of the record (its `seq`).
    seq: u64,
    /// Folder of the log.
    #[arg(default_value = super::DEFAULT_FOLDER)]
    folder: PathBuf,
    /// Public key that whoever checks the proof has noted: the keys that lead from it are put into the proof.
    #[arg(long, value_name = "HEX", value_parser = super::digits)]
    key: Option<[u8; 32]>,
}

/// What to check.
#[derive(clap::Args)]
pub struct VerifyArgs {
    /// The proof, as `audit prove` has written it; `-` for stdin.
    file: PathBuf,
    /// Public key that the signature must go back to.
    #[arg(long, value_name = "HEX", value_parser = super::digits)]
    key: Option<[u8; 32]>,
    /// File with checkpoints that were kept elsewhere, that of the proof among them.
    #[arg(long, value_name = "FILE")]
    against: Option<PathBuf>,
}

/// A proof is not as long as that.
const PROOF_MAX: u64 = 64 << 20;

/// Writes the proof to stdout.
pub fn prove(args: ProveArgs) -> ExitCode {
    let ProveArgs { seq, folder, key } = args;
    let error = match prove::prove(&folder, seq, key) {
        Ok(proof) => {
            println!("{}", serde_json::to_string(&proof).unwrap_or_default());
            return ExitCode::SUCCESS;
        }
        Err(error) => error,
    };
    let (hint, code) = match &error {
        ProveError::Unreadable { .. } => {
            ("name the log's folder: `taffrail audit prove SEQ FOLDER`", super::UNREADABLE)
        }
        ProveError::NoRecord(_) => ("`taffrail audit verify` tells which records there are", super::MISSING),
        ProveError::NoCheckpoint(_) => (
            "the next checkpoint comes within `log.checkpoint_interval_s`; one that ends its segment proves itself by its signature",
            super::MISSING,
        ),
        ProveError::Damaged(_) => ("`taffrail audit verify` tells what was changed", super::CHANGED),
    };
    complain(&error, Some(hint));
    ExitCode::from(code)
}

/// Tells whether a proof holds.
pub fn verify(args: VerifyArgs) -> ExitCode {
    let VerifyArgs { file, key, against } = args;
    let read = || {
        let mut text = String::new();
        let mut input: Box<dyn std::io::Read> = if file.as_os_str() == "-" {
            Box::new(std::io::stdin())
        } else {
            Box::new(std::fs::File::open(&file)?)
        };
        input.as_mut().take(PROOF_MAX).read_to_string(&mut text)?;
        let proof: Proof = serde_json::from_str(&text)?;
        Ok::<_, std::io::Error>((proof, against.as_deref().map(Witness::read).transpose()?))
    };
    let (proof, kept) = match read() {
        Ok(read) => read,
        Err(error) => {
            complain(&error, Some("name a file that `taffrail audit prove` has written"));
            return ExitCode::from(super::UNREADABLE);
        }
    };
    let checked = prove::check(&proof).and_then(|(signer, epoch)| {
        key.map_or(Ok(()), |key| prove::check_key(&proof, signer, key))?;
        kept.as_ref().map_or(Ok(()), |kept| prove::check_kept(&proof, kept))?;
        Ok((signer, epoch))
    });
    match checked {
        Ok((signer, epoch)) => {
            println!("{}", escaped(proof.record.as_bytes()));
            println!("signed    by {} of epoch {epoch}", hex(&signer));
            if key.is_none() && kept.is_none() {
                println!("note      nobody vouches for that key: compare it, or give `--key` or `--against`");
            }
            println!("verdict   the proof holds");
            ExitCode::SUCCESS
        }
        Err(error) => {
            complain(&error, None);
            ExitCode::from(super::CHANGED)
        }
    }
}
