//! A real provider of OpenID Connect, over TLS: its tokens are taken, others are not, and nobody is let in while it cannot be
//! asked.

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};
use taffrail_tests::daemon::records;
use taffrail_tests::net::{Certificates, free_port};
use taffrail_tests::{cannot_load, skip};

use crate::Served;

/// Where the setup has put the provider's packages.
fn packages() -> Option<PathBuf> {
    let home = std::env::var_os("HOME").unwrap_or_else(|| "/root".into());
    let packages = PathBuf::from(home).join(".cache/taffrail/tools/oidc");
    let is_there = packages.join("node_modules/oidc-provider/package.json").exists();
    let runs = || Command::new("node").arg("--version").stdout(Stdio::null()).status().is_ok();
    (is_there && runs()).then_some(packages)
}

/// The provider at work, which is ended with this.
struct Provider {
    child: Child,
    port: u16,
}

impl Provider {
    /// With new keys, which are named by that.
    fn start(certificates: &Certificates, port: u16, keys: &str) -> Self {
        let script = "const {generateKeyPairSync: make} = require('crypto');
            const key = (alg, type, options) => Object.assign(
                make(type, options).privateKey.export({format: 'jwk'}), {kid: alg + process.argv[1], alg, use: 'sig'});
            console.log(JSON.stringify({keys: [key('RS256', 'rsa', {modulusLength: 2048}),
                key('ES256', 'ec', {namedCurve: 'P-256'}), key('EdDSA', 'ed25519', {})]}))";
        let made = Command::new("node").args(["-e", script, keys]).output().unwrap();
        assert!(made.status.success(), "{made:?}");
        let set = certificates.path("keys.json");
        std::fs::write(&set, made.stdout).unwrap();
        let mut child = Command::new("node")
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/serve/provider.mjs"))
            .arg(packages().unwrap())
            .args(["server.pem", "server.key"].map(|name| certificates.path(name)))
            .args([set, port.to_string()])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut said = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(said.any(|line| line.unwrap() == "ready"), "the provider has ended");
        Self { child, port }
    }

    /// A token that is signed that way.
    fn token(&self, certificates: &Certificates, algorithm: &str) -> String {
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--max-time", "20", "--user", "scraper:secret"]);
        curl.args(["--cacert", &certificates.path("ca.pem"), "--data", "grant_type=client_credentials"]);
        curl.args(["--data", &format!("resource=https://taffrail/{algorithm}")]);
        let output = curl.arg(format!("https://localhost:{}/token", self.port)).output().unwrap();
        let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
        answer["access_token"].as_str().unwrap().to_owned()
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn tokens_of_a_real_provider_are_taken_by_each_algorithm_and_nobody_is_let_in_without_it() {
    const TEST: &str =
        "tokens_of_a_real_provider_are_taken_by_each_algorithm_and_nobody_is_let_in_without_it";
    if let Some(reason) = cannot_load() {
        skip!(TEST, "{reason}");
    }
    if packages().is_none() {
        skip!(
            TEST,
            "no provider of OpenID Connect: `cargo xtask setup` could not fetch it, or there is no node"
        );
    }
    let port = free_port();
    let start = |groups: &str| {
        let certificates = Certificates::new();
        let settings = [
            format!("api.oidc.issuer=https://localhost:{port}"),
            format!("api.oidc.ca_file={}", certificates.path("ca.pem")),
            "api.oidc.audience=taffrail".to_owned(),
            format!("api.oidc.groups=[{groups}]"),
        ];
        Served::start_with(certificates, &settings.each_ref().map(String::as_str))
    };
    let ask = |served: &Served, token: &str| {
        served.curl("/livez", &["--header", &format!("Authorization: Bearer {token}")]).0
    };
    let served = start("sre, ops");
    let provider = Provider::start(&served.certificates, port, "1");
    let token = provider.token(&served.certificates, "RS256");
    for algorithm in ["RS256", "ES256", "EdDSA"] {
        let token = provider.token(&served.certificates, algorithm);
        assert_eq!(ask(&served, &token), 200, "{algorithm}");
        let (whole, mut changed) = token.rsplit_once('.').unwrap();
        changed = &changed[..changed.len() - 4];
        assert_eq!(ask(&served, &format!("{whole}.{changed}AAAA")), 401, "{algorithm}");
    }
    // Other keys, at the same address: a token by these is asked for once.
    drop(provider);
    let provider = Provider::start(&served.certificates, port, "2");
    let of_new_key = provider.token(&served.certificates, "ES256");
    let taken = taffrail_tests::daemon::wait_for(|| (ask(&served, &of_new_key) == 200).then_some(()));
    assert!(taken.is_some());
    assert_eq!(ask(&served, &token), 401, "a key that the provider has taken back");
    drop(provider);
    let folder = served.daemon.end(libc::SIGTERM);
    let records = records(&folder.path().join("log"));
    let by = |status: u16| {
        records.iter().find(|record| record["by"] == "oidc" && record["status"] == status).cloned()
    };
    assert_eq!(by(200).unwrap()["name"], "scraper");
    let alert = records.iter().find(|record| record["rule"] == "API access refused").unwrap();
    assert_eq!(alert["access"]["refused"], "a token whose signature is wrong");

    // A daemon that has never seen the provider, which is away; and one whose groups are others.
    let served = start("sre");
    let (status, body) = served.curl("/livez", &["--header", &format!("Authorization: Bearer {of_new_key}")]);
    assert_eq!((status, body.contains("cannot be asked")), (503, true), "{body}");
    let provider = Provider::start(&served.certificates, port, "3");
    let token = provider.token(&served.certificates, "EdDSA");
    let refused = taffrail_tests::daemon::wait_for(|| {
        let (status, body) = served.curl("/livez", &["--header", &format!("Authorization: Bearer {token}")]);
        (status == 403).then_some(body)
    });
    assert_eq!(refused.as_deref(), Some("may not ask that\n"));
    let folder = served.daemon.end(libc::SIGTERM);
    let records = taffrail_tests::daemon::records(&folder.path().join("log"));
    let told: Vec<&Value> =
        records.iter().filter(|record| record["kind"] == "degraded" && record["what"] == "oidc").collect();
    assert_eq!(told.iter().map(|record| record["is_over"] == true).collect::<Vec<_>>(), [false, true]);
    let alert = records.iter().find(|record| record["rule"] == "API access refused").unwrap();
    let expected = json!({ "by": "oidc", "name": "scraper", "from": "127.0.0.1", "method": "GET", "path": "/livez",
        "status": 403, "refused": "may not ask that" });
    assert_eq!(alert["access"], expected);
}
