//! Programs of others as receivers: unpacked by the setup, run in the foreground with files of their own.

use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use taffrail_tests::net::{Certificates, free_port};
use tempfile::TempDir;

use crate::stage::{Receiver, wait_for};

/// Where the setup has unpacked receivers; `None` if it has not.
pub fn unpacked() -> Option<PathBuf> {
    let home = std::env::var_os("HOME").unwrap_or_else(|| "/root".into());
    let folder = PathBuf::from(home).join(".cache/taffrail/receivers");
    folder.join("usr/sbin").exists().then_some(folder)
}

/// A program that writes what it takes into a file.
pub struct Program {
    pub folder: TempDir,
    pub port: u16,
    program: PathBuf,
    arguments: Vec<String>,
    libraries: String,
    child: Option<Child>,
}

/// rsyslog, which takes records over TLS and writes them into a file.
pub fn rsyslog(certificates: &Certificates) -> Program {
    let (folder, port) = (tempfile::tempdir().unwrap(), free_port());
    let file = |name: &str| certificates.path(name);
    let config = format!(
        r#"global(workDirectory="{0}" maxMessageSize="64k" DefaultNetstreamDriver="ossl" DefaultNetstreamDriverCAFile="{1}"
 DefaultNetstreamDriverCertFile="{2}" DefaultNetstreamDriverKeyFile="{3}")
module(load="imtcp" StreamDriver.Name="ossl" StreamDriver.Mode="1" StreamDriver.AuthMode="anon")
input(type="imtcp" address="127.0.0.1" port="{port}")
template(name="raw" type="string" string="%msg%\n")
if $app-name == "taffrail" then {{ action(type="omfile" file="{0}/out" template="raw") }}
"#,
        folder.path().display(),
        file("ca.pem"),
        file("server.pem"),
        file("server.key")
    );
    std::fs::write(folder.path().join("rsyslog.conf"), config).unwrap();
    let arguments = ["-n", "-i", "NONE", "-f", "rsyslog.conf", "-M", "ROOT/usr/lib/x86_64-linux-gnu/rsyslog"];
    Program::new(folder, port, "usr/sbin/rsyslogd", &arguments)
}

impl Program {
    /// It is started in `folder`, in which it writes `out`.
    pub fn new(folder: TempDir, port: u16, program: &str, arguments: &[&str]) -> Self {
        let root = unpacked().unwrap_or_default();
        let arguments =
            arguments.iter().map(|text| text.replace("ROOT", &root.display().to_string())).collect();
        let libraries = ["usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu", "usr/lib/syslog-ng"];
        let libraries = libraries.map(|part| root.join(part).display().to_string()).join(":");
        Self { folder, port, program: root.join(program), arguments, libraries, child: None }
    }

    fn out(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(self.folder.path().join("out")).unwrap_or_default())
            .into_owned()
    }
}

impl Receiver for Program {
    fn start(&mut self) {
        let child = Command::new(&self.program)
            .args(&self.arguments)
            .current_dir(self.folder.path())
            .env("LD_LIBRARY_PATH", &self.libraries)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        self.child = Some(child.unwrap_or_else(|error| panic!("{}: {error}", self.program.display())));
        wait_for("the receiver listens", || TcpStream::connect(("127.0.0.1", self.port)).is_ok());
    }

    fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
        // What it was writing is half a line.
        let out = self.out();
        if !out.is_empty() && !out.ends_with('\n') {
            let whole = out.rfind('\n').map_or(0, |end| end + 1);
            std::fs::write(self.folder.path().join("out"), &out[..whole]).unwrap();
        }
    }

    fn streams(&self) -> Vec<Vec<String>> {
        let out = self.out();
        let whole = out.rfind('\n').map_or("", |end| &out[..end]);
        vec![whole.lines().map(str::to_owned).collect()]
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.kill();
    }
}
