//! Tokens of service accounts, real ones, let in to the daemon's metrics whom Kubernetes lets.

use std::process::Command;

use serde_json::{Value, json};
use taffrail_tests::daemon::{Daemon, records, wait_for};
use taffrail_tests::skip;

use crate::cluster::{Cluster, unavailable};

/// A daemon of which the API listens, and its port.
fn served(cluster: &Cluster, more: &[&str]) -> (Daemon, u16) {
    let path = |name: &str| cluster.certificates.path(name);
    let mut settings = vec![
        "api.listen=[::]:0".to_owned(),
        format!("api.cert_file={}", path("server.pem")),
        format!("api.key_file={}", path("server.key")),
        "api.kubernetes.tokens=true".to_owned(),
        format!("kubernetes.server={}", cluster.url()),
        format!("kubernetes.ca_file={}", path("ca.pem")),
        format!("kubernetes.token_file={}", path("token")),
    ];
    settings.extend(more.iter().map(|&setting| setting.to_owned()));
    let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
    let daemon = Daemon::start(&settings);
    let status = wait_for(|| {
        let mut command = taffrail_tests::daemon::taffrail(&["status", "--json", "--config"]);
        command.arg(daemon.config()).args(["-o", &format!("log.dir={}", daemon.log().display())]);
        let status: Value = serde_json::from_slice(&command.output().unwrap().stdout).ok()?;
        status["api"]["listen"].as_str().map(str::to_owned)
    });
    // What is told is where it is in fact.
    let port = status.unwrap().rsplit_once(':').unwrap().1.parse().unwrap();
    (daemon, port)
}

/// What the daemon says to who has that token. Who comes too often in a second is not heard, and comes again.
fn ask(cluster: &Cluster, port: u16, path: &str, token: &str) -> (u16, String) {
    wait_for(|| Some(ask_once(cluster, port, path, token)).filter(|(status, _)| *status != 0)).unwrap()
}

fn ask_once(cluster: &Cluster, port: u16, path: &str, token: &str) -> (u16, String) {
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--max-time", "20", "--write-out", "\n%{http_code}"]);
    curl.args(["--cacert", &cluster.certificates.path("ca.pem")]);
    curl.args(["--header", &format!("Authorization: Bearer {token}")]);
    let output = curl.arg(format!("https://localhost:{port}{path}")).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let (body, status) = text.rsplit_once('\n').unwrap();
    (status.parse().unwrap(), body.to_owned())
}

#[test]
fn real_api_server_tells_whose_tokens_are_and_who_may_ask() {
    const TEST: &str = "real_api_server_tells_whose_tokens_are_and_who_may_ask";
    if let Some(reason) = unavailable() {
        skip!(TEST, "{reason}");
    }
    let mut cluster = Cluster::start();
    let review = json!([
        { "apiGroups": ["authentication.k8s.io"], "resources": ["tokenreviews"], "verbs": ["create"] },
        { "apiGroups": ["authorization.k8s.io"], "resources": ["subjectaccessreviews"], "verbs": ["create"] },
    ]);
    cluster.account("taffrail", review);
    cluster.account("prometheus", json!([{ "nonResourceURLs": ["/metrics"], "verbs": ["get"] }]));
    cluster.account("other", json!([]));
    let [ours, prometheus, other] = ["taffrail", "prometheus", "other"].map(|name| cluster.token(name, None));
    let token_file = cluster.certificates.path("token");
    // As the daemon has no rights at first: nobody is let in.
    std::fs::write(&token_file, &other).unwrap();
    let (daemon, port) = served(&cluster, &[]);
    assert_eq!(ask(&cluster, port, "/metrics", &prometheus).0, 503);
    // The kubelet would put the new token there.
    std::fs::write(&token_file, &ours).unwrap();
    let taken =
        wait_for(|| Some(ask(&cluster, port, "/metrics", &prometheus)).filter(|(status, _)| *status == 200));
    assert!(taken.unwrap().1.contains("taffrail_server_failing{server=\"kubernetes\"} 0"));
    for (path, token, status) in [
        ("/status", &prometheus, 403),
        ("/metrics", &other, 403),
        ("/metrics", &"no token at all".to_owned(), 401),
        ("/metrics", &cluster.token("prometheus", Some("another")), 401),
    ] {
        assert_eq!(ask(&cluster, port, path, token).0, status, "{path}");
    }
    let folder = daemon.end(libc::SIGTERM);
    let records = records(&folder.path().join("log"));
    let name = "system:serviceaccount:default:prometheus";
    let call = records.iter().find(|record| record["by"] == "kubernetes" && record["status"] == 200);
    assert_eq!(call.unwrap()["name"], name);
    let alert = records.iter().find(|record| record["rule"] == "API access refused").unwrap();
    assert_eq!(
        (&alert["access"]["name"], &alert["access"]["refused"]),
        (&name.into(), &"may not ask that".into())
    );
    let told = |record: &&Value| record["kind"] == "degraded" && record["what"] == "kubernetes";
    let told: Vec<bool> = records.iter().filter(told).map(|record| record["is_over"] == true).collect();
    assert_eq!(told, [false, true]);

    // By name, and for an audience: the API server need not be asked who may.
    let (daemon, port) = served(
        &cluster,
        &["api.kubernetes.audiences=[taffrail]", "api.kubernetes.groups=['system:serviceaccounts:default']"],
    );
    let for_us = cluster.token("other", Some("taffrail"));
    assert_eq!(ask(&cluster, port, "/livez", &for_us).0, 200);
    assert_eq!(ask(&cluster, port, "/livez", &prometheus).0, 401);
    // What is known stays known for a while without the server, and nothing else is.
    cluster.stop_api_server();
    assert_eq!(ask(&cluster, port, "/livez", &for_us).0, 200);
    assert_eq!(ask(&cluster, port, "/livez", &ours).0, 503);
    drop(daemon);
}
