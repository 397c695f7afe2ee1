//! The verifier that was written from the specification alone, beside ours: both must say the same of all that tests do to a
//! log.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use super::*;
use crate::rules::hex;

/// Asks both.
pub struct Judge {
    oracle: Option<(Child, ChildStdin, BufReader<ChildStdout>)>,
}

impl Judge {
    /// For a test; one without Python has ours alone, and says so.
    pub fn new(test: &str) -> Self {
        let program = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/oracle/verify_log.py");
        let mut python = Command::new("python3");
        let spawned = python.arg(program).arg("--stdin").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let oracle = match spawned {
            Ok(mut child) => {
                let (input, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
                Some((child, input, BufReader::new(output)))
            }
            Err(error) => {
                crate::testing::skipped(test, format_args!("part of it: python3: {error}"));
                None
            }
        };
        Self { oracle }
    }

    /// The exit code that both have for a log.
    pub fn code(&mut self, folder: &Path, wanted: &Wanted, what: &str) -> u8 {
        let report = verify_with(folder, wanted);
        let code = code(&report);
        if let Some((_, input, output)) = &mut self.oracle {
            let mut arguments = vec![folder.to_str().unwrap().to_owned()];
            if let Some(key) = wanted.key {
                arguments.extend(["--key".to_owned(), hex(&key)]);
            }
            if let Some(against) = &wanted.against {
                arguments.extend(["--against".to_owned(), against.to_str().unwrap().to_owned()]);
            }
            writeln!(input, "{}", serde_json::to_string(&arguments).unwrap()).unwrap();
            let mut line = String::new();
            output.read_line(&mut line).unwrap();
            assert_eq!(line.trim(), code.to_string(), "{what}: {report:#?}");
        }
        code
    }

    /// The same with nothing wanted.
    pub fn plain(&mut self, folder: &Path, what: &str) -> u8 {
        self.code(folder, &Wanted::default(), what)
    }
}

impl Drop for Judge {
    fn drop(&mut self) {
        if let Some((mut child, input, _)) = self.oracle.take() {
            drop(input);
            let _ = child.wait();
        }
    }
}

/// The exit code of `audit verify`.
pub fn code(report: &Report) -> u8 {
    match (report.tampered.is_empty(), report.incomplete.is_empty()) {
        (true, true) => 0,
        (false, _) => 1,
        (true, false) => 2,
    }
}
