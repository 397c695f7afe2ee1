//! The demo: a real container does five suspicious things, and the daemon tells of them as they happen.

use std::io::{BufRead as _, BufReader, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use crate::container::Container;
use crate::{build, setup};

/// What is done in the container, in words and as a script, and the rule that must tell of it.
const DEEDS: &[(&str, &str, &str)] = &[
    ("read the password hashes", "cat /etc/shadow", "Password hashes read"),
    (
        "put a program into a folder of programs",
        "cp /bin/busybox /usr/bin/evil",
        "Write below a folder of programs",
    ),
    (
        "run a program from /tmp",
        "cp /bin/busybox /tmp/true; /tmp/true",
        "Program started from a folder for temporary data",
    ),
    ("add a user", "echo 'eve::0:0::/:/bin/sh' >> /etc/passwd", "Users or passwords changed"),
    (
        "ask the cloud for credentials",
        "echo | nc -w 1 169.254.169.254 80",
        "Cloud metadata service contacted by hand",
    ),
];

/// How long the daemon may take for anything.
const PATIENCE: Duration = Duration::from_secs(10);

/// Runs the demo.
pub fn run() -> Result<()> {
    setup::run(setup::For::Demo, false)?;
    if let Some(reason) = crate::container::unavailable() {
        bail!("no container can be started here: {reason}");
    }
    let binary = build::release(build::Arch::host())?;
    let folder = Folder(std::env::temp_dir().join(format!("taffrail-demo-{}", std::process::id())));
    let mut daemon = Daemon::start(&binary, &folder.0)?;
    let container = Container::start("demo").context("cannot start a container")?;
    println!("\nA container runs: {}. It is about to misbehave.", container.id());
    let mut seen = Vec::new();
    for (deed, script, rule) in DEEDS {
        println!("\n  in the container: {deed}\n    $ {script}");
        container.sh(script)?;
        let end = Instant::now() + PATIENCE;
        while !seen.iter().any(|name| name == rule) {
            ensure!(Instant::now() < end, "no alert of the rule `{rule}`");
            for record in daemon.new_records()? {
                show(&record);
                seen.extend(record["rule"].as_str().map(str::to_owned));
            }
            std::thread::park_timeout(Duration::from_millis(10));
        }
    }
    drop(container);
    daemon.stop()?;
    daemon.new_records()?.iter().for_each(show);
    println!("\nThe daemon has stopped. Its log:");
    let status = Command::new(&binary).args(["audit", "verify"]).arg(&folder.0).status()?;
    ensure!(status.success(), "the log does not verify");
    println!(
        "\n{} suspicious things done, {} alerts seen, log verified, all cleaned up.",
        DEEDS.len(),
        seen.len()
    );
    Ok(())
}

/// One line for a record.
fn show(record: &Value) {
    let time = record["time"].as_str().and_then(|time| time.get(11..23)).unwrap_or_default();
    let event = &record["event"];
    match record["kind"].as_str().unwrap_or_default() {
        "alert" => {
            let text = |name: &str| record[name].as_str().unwrap_or_default();
            println!("    {time} ALERT {}: {}", text("priority"), text("output"));
        }
        "event" => {
            let name = record["process"]["name"].as_str().unwrap_or_default().escape_debug();
            let what = ["args", "file", "remote_ip", "code"]
                .iter()
                .map(|name| &event[*name])
                .find(|value| !value.is_null());
            println!(
                "    {time} {:<7} {name}: {}",
                event["kind"].as_str().unwrap_or_default(),
                what.unwrap_or(&Value::Null)
            );
        }
        _ => {}
    }
}

/// A folder that goes when the demo ends, however it ends.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

struct Daemon {
    child: Child,
    log: PathBuf,
    read: u64,
}

impl Daemon {
    fn start(binary: &Path, log: &Path) -> Result<Self> {
        let mut child = Command::new(binary)
            .args(["run", "-o", &format!("log.dir={}", log.display()), "-o", "log.commit_interval_ms=10"])
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot start the daemon")?;
        let mut stderr = BufReader::new(child.stderr.take().context("its stderr")?);
        let mut daemon = Self { child, log: log.to_owned(), read: 0 };
        let mut line = String::new();
        while !line.contains("watching") {
            line.clear();
            if stderr.read_line(&mut line)? == 0 {
                let status = daemon.child.wait()?;
                bail!("the daemon did not start: {status}");
            }
            eprint!("{line}");
        }
        std::thread::spawn(move || std::io::copy(&mut stderr, &mut std::io::stderr()));
        Ok(daemon)
    }

    /// Records since the last call.
    fn new_records(&mut self) -> Result<Vec<Value>> {
        let mut file = std::fs::File::open(self.log.join("00000000000000000001.ndjson"))?;
        file.seek(SeekFrom::Start(self.read))?;
        let mut text = String::new();
        file.read_to_string(&mut text)?;
        let whole = text.rfind('\n').map_or(0, |at| at + 1);
        self.read += whole as u64;
        text[..whole].lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
    }

    fn stop(&mut self) -> Result<()> {
        // SAFETY: the child was not waited for, so the id is its own.
        unsafe { libc::kill(self.child.id() as i32, libc::SIGTERM) };
        let status = self.child.wait()?;
        ensure!(status.success(), "the daemon ended with {status}");
        Ok(())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
