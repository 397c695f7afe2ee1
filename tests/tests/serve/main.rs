//! What the running daemon can be asked: by a real Prometheus over TLS, by its own commands, and by clients that mean it no
//! good.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod ask;
mod hostile;
mod oidc;
mod prometheus;

use std::process::Command;

use taffrail_tests::daemon::{Daemon, taffrail, wait_for};
use taffrail_tests::net::Certificates;

/// The token that is known, and its name.
const TOKEN: &str = "a-token-for-prometheus-0123456789";
const TOKEN_NAME: &str = "prometheus";

/// A daemon that listens on the network, and what it takes to be let in.
struct Served {
    daemon: Daemon,
    certificates: Certificates,
    port: u16,
}

impl Served {
    fn start(more: &[&str]) -> Self {
        Self::start_with(Certificates::new(), more)
    }

    fn start_with(certificates: Certificates, more: &[&str]) -> Self {
        certificates.issue("client", "/CN=scraper/O=ops");
        std::fs::write(certificates.folder.path().join("tokens"), format!("{TOKEN_NAME} {TOKEN}\n")).unwrap();
        let mut settings = vec!["api.listen=127.0.0.1:0".to_owned()];
        for (key, file) in [
            ("cert_file", "server.pem"),
            ("key_file", "server.key"),
            ("client_ca_file", "ca.pem"),
            ("tokens_file", "tokens"),
        ] {
            settings.push(format!("api.{key}={}", certificates.path(file)));
        }
        settings.extend(more.iter().map(|&setting| setting.to_owned()));
        let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
        let daemon = Daemon::start(&settings);
        let said = daemon.said();
        let (_, port) = said.split_once("the API listens at 127.0.0.1:").unwrap();
        let port = port.lines().next().unwrap().parse().unwrap();
        Self { daemon, certificates, port }
    }

    /// Asks by `curl`: HTTP status and body. Who comes too often in a second is not heard, and comes again.
    fn curl(&self, path: &str, more: &[&str]) -> (u16, String) {
        wait_for(|| Some(self.curl_once(path, more)).filter(|(status, _)| *status != 0)).unwrap()
    }

    fn curl_once(&self, path: &str, more: &[&str]) -> (u16, String) {
        let mut command = Command::new("curl");
        command.args(["--silent", "--show-error", "--max-time", "20", "--write-out", "\n%{http_code}"]);
        command.args(["--cacert", &self.certificates.path("ca.pem")]).args(more);
        let output = command.arg(format!("https://localhost:{}{path}", self.port)).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let (body, status) = text.rsplit_once('\n').unwrap();
        (status.parse().unwrap(), body.to_owned())
    }

    fn with_token(&self, path: &str) -> (u16, String) {
        self.curl(path, &["--header", &format!("Authorization: Bearer {TOKEN}")])
    }
}

/// Exit code and standard output of a command about a daemon.
fn command(daemon: &Daemon, arguments: &[&str]) -> (Option<i32>, String) {
    let mut command = taffrail(arguments);
    command.arg("--config").arg(daemon.config());
    command.args(["-o", &format!("log.dir={}", daemon.log().display())]);
    let output = command.output().unwrap();
    (output.status.code(), String::from_utf8(output.stdout).unwrap())
}

/// Waits until a command has that exit code; gives what it says.
#[track_caller]
fn wait_for_code(daemon: &Daemon, arguments: &[&str], wanted: i32) -> String {
    let found = wait_for(|| {
        let (code, said) = command(daemon, arguments);
        (code == Some(wanted)).then_some(said)
    });
    found.unwrap_or_else(|| panic!("{arguments:?}: {:?}; {}", command(daemon, arguments), daemon.said()))
}
