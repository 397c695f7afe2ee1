//! rsyslog and syslog-ng, over TLS.

use taffrail_tests::net::{Certificates, free_port};
use taffrail_tests::skip;

use crate::receiver::{Program, rsyslog, unpacked};
use crate::stage::play;

fn settings(certificates: &Certificates, port: u16) -> String {
    format!(
        "export:\n  x:\n    to: syslog+tls://localhost:{port}\n    ca_file: {}\n    timeout_ms: 3000\n",
        certificates.path("ca.pem")
    )
}

#[test]
fn rsyslog_over_tls_has_every_record() {
    if unpacked().is_none() {
        skip!("rsyslog_over_tls_has_every_record", "rsyslog is not unpacked: run `cargo xtask setup`");
    }
    let certificates = Certificates::new();
    let mut rsyslog = rsyslog(&certificates);
    let port = rsyslog.port;
    play(&mut rsyslog, port, str::to_owned, |port| settings(&certificates, port));
}

#[test]
fn syslog_ng_over_tls_has_every_record() {
    if unpacked().is_none() {
        skip!("syslog_ng_over_tls_has_every_record", "syslog-ng is not unpacked: run `cargo xtask setup`");
    }
    let (certificates, port) = (Certificates::new(), free_port());
    let folder = tempfile::tempdir().unwrap();
    let (certificate, key) = (certificates.path("server.pem"), certificates.path("server.key"));
    let config = format!(
        r#"@version: 3.38
options {{ use-dns(no); keep-hostname(yes); log-msg-size(65536); stats-freq(0); }};
source s {{ syslog(ip("127.0.0.1") port({port}) transport("tls")
  tls(key-file("{key}") cert-file("{certificate}") peer-verify(optional-untrusted))); }};
destination d {{ file("{}/out" template("${{MSG}}\n")); }};
log {{ source(s); destination(d); }};
"#,
        folder.path().display()
    );
    std::fs::write(folder.path().join("syslog-ng.conf"), config).unwrap();
    let arguments = [
        "-F",
        "--no-caps",
        "-f",
        "syslog-ng.conf",
        "-R",
        "persist",
        "-p",
        "pid",
        "-c",
        "control",
        "--module-path",
        "ROOT/usr/lib/syslog-ng/3.38",
    ];
    let mut syslog_ng = Program::new(folder, port, "usr/sbin/syslog-ng", &arguments);
    play(&mut syslog_ng, port, str::to_owned, |port| settings(&certificates, port));
}
