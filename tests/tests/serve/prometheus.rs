//! A real Prometheus: it scrapes over TLS with a token and with a certificate, and finds nothing wrong with what it reads.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use taffrail_tests::daemon::{records, taffrail, wait_for};
use taffrail_tests::net::free_port;
use taffrail_tests::{cannot_load, skip};
use tempfile::TempDir;

use crate::{Served, TOKEN, TOKEN_NAME};

/// Programs of Prometheus, where the setup has unpacked them.
fn unpacked(name: &str) -> Option<PathBuf> {
    let home = std::env::var_os("HOME").unwrap_or_else(|| "/root".into());
    let program = PathBuf::from(home).join(".cache/taffrail/prometheus/usr/bin").join(name);
    program.exists().then_some(program)
}

/// Prometheus at work, which is ended with this.
struct Prometheus {
    child: Child,
    port: u16,
    _folder: TempDir,
}

impl Prometheus {
    /// With these scrape configurations, YAML.
    fn start(jobs: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("prometheus.yml");
        std::fs::write(&config, format!("global: {{scrape_interval: 1s}}\nscrape_configs:\n{jobs}")).unwrap();
        let port = free_port();
        let child = Command::new(unpacked("prometheus").unwrap())
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self { child, port, _folder: folder }
    }

    fn get(&self, path: &str) -> Option<Value> {
        let url = format!("http://127.0.0.1:{}/api/v1/{path}", self.port);
        let output = Command::new("curl").args(["--silent", "--max-time", "5", &url]).output().unwrap();
        serde_json::from_slice::<Value>(&output.stdout).ok()
    }

    /// The job's target.
    fn target(&self, job: &str) -> Option<Value> {
        let targets = self.get("targets")?;
        targets["data"]["activeTargets"]
            .as_array()?
            .iter()
            .find(|target| target["labels"]["job"] == job)
            .cloned()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn prometheus_scrapes_with_a_token_and_with_a_certificate_and_not_with_a_wrong_token() {
    const TEST: &str = "prometheus_scrapes_with_a_token_and_with_a_certificate_and_not_with_a_wrong_token";
    if let Some(reason) = cannot_load() {
        skip!(TEST, "{reason}");
    }
    if unpacked("prometheus").is_none() {
        skip!(TEST, "no Prometheus: `cargo xtask setup` could not fetch it");
    }
    let served = Served::start(&[]);
    let file = |name: &str| served.certificates.path(name);
    let job = |name: &str, more: &str, tls: &str| {
        format!(
            "- {{job_name: {name}, scheme: https, {more} tls_config: {{ca_file: {}, {tls}}}, \
             static_configs: [{{targets: ['localhost:{}']}}]}}\n",
            file("ca.pem"),
            served.port
        )
    };
    let pair = format!("cert_file: {}, key_file: {}", file("client.pem"), file("client.key"));
    let prometheus = Prometheus::start(
        &[
            job("token", &format!("authorization: {{credentials: {TOKEN}}},"), ""),
            job("certificate", "", &pair),
            job("wrong", "authorization: {credentials: not-the-token-0123456789},", ""),
        ]
        .concat(),
    );
    for name in ["token", "certificate"] {
        let up = wait_for(|| prometheus.target(name).filter(|target| target["health"] == "up"));
        assert!(up.is_some(), "{name}: {:?}", prometheus.target(name));
    }
    let wrong = wait_for(|| prometheus.target("wrong").filter(|target| target["health"] == "down"));
    assert!(wrong.unwrap()["lastError"].as_str().unwrap().contains("401"));
    let series = wait_for(|| {
        let found = prometheus.get("query?query=count(taffrail_events_total)")?;
        found["data"]["result"][0]["value"][1].as_str().map(str::to_owned)
    });
    // 31 kinds, by two jobs.
    assert_eq!(series.as_deref(), Some("62"));
    drop(prometheus);

    let folder = served.daemon.end(libc::SIGTERM);
    let log = folder.path().join("log");
    let records = records(&log);
    let calls = |by: &str, name: &str| {
        records.iter().any(|record| {
            record["kind"] == "api" && record["by"] == by && record["name"] == name && record["status"] == 200
        })
    };
    assert!(calls("token", TOKEN_NAME) && calls("certificate", "CN=scraper,O=ops"));
    // The machine may have containers, which may do things.
    let alert = records.iter().find(|record| record["rule"] == "API access refused").unwrap();
    assert_eq!(alert["access"]["refused"], "unknown token");
    // A log with these records is whole, also to who knows the specification only.
    let oracle = concat!(env!("CARGO_MANIFEST_DIR"), "/oracle/verify_log.py");
    for mut verifier in [Command::new("python3"), taffrail(&["audit", "verify"])] {
        let is_python = verifier.get_program() == "python3";
        let output = verifier.args(is_python.then_some(oracle)).arg(&log).output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }
}

#[test]
fn promtool_finds_nothing_wrong_with_the_alerts() {
    let Some(promtool) = unpacked("promtool") else {
        skip!(
            "promtool_finds_nothing_wrong_with_the_alerts",
            "no promtool: `cargo xtask setup` could not fetch it"
        );
    };
    let alerts = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/chart/files/alerts.yaml");
    let output = Command::new(promtool).args(["check", "rules", alerts]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn promtool_finds_nothing_wrong_with_the_page() {
    if let Some(reason) = cannot_load() {
        skip!("promtool_finds_nothing_wrong_with_the_page", "{reason}");
    }
    let Some(promtool) = unpacked("promtool") else {
        skip!(
            "promtool_finds_nothing_wrong_with_the_page",
            "no promtool: `cargo xtask setup` could not fetch it"
        );
    };
    let served = Served::start(&["export.x.to=file:///dev/null"]);
    let (status, page) = served.with_token("/metrics");
    assert_eq!(status, 200);
    let mut check = Command::new(promtool);
    let check =
        check.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut check = check.spawn().unwrap();
    check.stdin.take().unwrap().write_all(page.as_bytes()).unwrap();
    let output = check.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{said}\n{page}");
    // What the kernel and the threads say is there.
    for sample in [
        "taffrail_probe_state{",
        "taffrail_ring_size_bytes{ring=\"urgent\"} 1048576",
        "taffrail_export_lag_records{exporter=\"x\"}",
    ] {
        assert!(page.contains(sample), "{sample} in {page}");
    }
}
