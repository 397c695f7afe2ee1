//! `taffrail export`: what a person is told.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;
use taffrail::audit::{Entry, Log, Options, RecordKind};
use taffrail_tests::daemon::taffrail;
use taffrail_tests::net::{Certificates, free_port};

/// Exit code, and what was said to whom: standard output, standard error.
fn said(command: &mut Command) -> (Option<i32>, String, String) {
    let output = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

fn test(to: &str, more: &str) -> (Option<i32>, String, String) {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("config.yaml");
    std::fs::write(&config, format!("export: {{siem: {{to: '{to}', timeout_ms: 2000{more}}}}}")).unwrap();
    said(taffrail(&["export", "test", "siem", "--config"]).arg(&config))
}

/// A server that answers each request with this.
fn serve(answer: &'static str) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            std::thread::spawn(move || {
                let mut request = [0; 65_536];
                // Who only looks whether somebody is there sends nothing.
                if stream.read(&mut request).is_ok_and(|read| read > 0) {
                    let _ = stream.write_all(answer.as_bytes());
                }
            });
        }
    });
    port
}

#[test]
fn test_says_how_far_it_came() {
    let (code, out, _) = test("syslog+tcp://nowhere.invalid", "");
    assert_eq!(code, Some(1));
    assert!(out.starts_with("DNS: no: nowhere.invalid"), "{out}");

    let (code, out, hint) = test(&format!("syslog+tcp://127.0.0.1:{}", free_port()), "");
    assert_eq!(code, Some(1));
    assert!(out.starts_with("DNS: 127.0.0.1\nTCP: no: ") && out.contains("refused"), "{out}");
    assert!(hint.contains("hint: check the port"), "{hint}");

    let certificates = Certificates::new();
    let port = serve("what?");
    let ca = format!(", ca_file: '{}'", certificates.path("ca.pem"));
    let (code, out, _) = test(&format!("syslog+tls://127.0.0.1:{port}"), &ca);
    assert_eq!(code, Some(1));
    assert!(out.contains("TCP: connected") && out.contains("TLS: no: "), "{out}");

    let (code, out, _) = test(&format!("syslog+tls://127.0.0.1:{port}"), ", ca_file: /nowhere.pem");
    assert_eq!(code, Some(1));
    assert!(out.contains("settings: no: /nowhere.pem"), "{out}");

    let refusing = serve("HTTP/1.1 401 x\r\ncontent-length: 9\r\n\r\nwho \u{1b}are?");
    let (code, out, _) = test(&format!("webhook+http://127.0.0.1:{refusing}"), "");
    assert_eq!(code, Some(1));
    assert!(
        out.contains("authentication: no: 401") && out.contains("\\x1b") && !out.contains('\u{1b}'),
        "{out}"
    );

    let taking = serve("HTTP/1.1 200 x\r\ncontent-length: 0\r\n\r\n");
    let (code, out, _) = test(&format!("webhook+http://127.0.0.1:{taking}"), "");
    assert_eq!(code, Some(0));
    let last = out.lines().last().unwrap();
    assert!(last.starts_with("accepted: the event ") && last.ends_with("-0 was taken"), "{out}");
}

/// A server with TLS that takes any request of whoever has a certificate.
const SERVER: &str = "
import http.server, ssl, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers['content-length']))
        self.send_response(200)
        self.send_header('content-length', '0')
        self.end_headers()
    def log_message(self, *_):
        pass
server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain('server.pem', 'server.key')
context.load_verify_locations('ca.pem')
context.verify_mode = ssl.CERT_REQUIRED
server.socket = context.wrap_socket(server.socket, server_side=True)
print(server.server_port, flush=True)
server.serve_forever()
";

#[test]
fn https_needs_the_right_authority_name_and_certificate() {
    let certificates = Certificates::new();
    let mut server = Command::new("python3")
        .args(["-c", SERVER])
        .current_dir(certificates.folder.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut port = String::new();
    BufReader::new(server.stdout.take().unwrap()).read_line(&mut port).unwrap();
    let to = |host: &str| format!("webhook+https://{host}:{}", port.trim());
    let path = |name| certificates.path(name);
    let ca = format!(", ca_file: '{}'", path("ca.pem"));
    let identity = format!("{ca}, cert_file: '{}', key_file: '{}'", path("server.pem"), path("server.key"));

    let (code, out, _) = test(&to("localhost"), &identity);
    assert_eq!(code, Some(0), "{out}");
    assert!(out.contains("TLS: TLSv1_3") && out.contains("was taken"), "{out}");
    let (code, out, _) = test(&to("127.0.0.1"), &format!("{identity}, server_name: localhost"));
    assert_eq!(code, Some(0), "{out}");
    for (host, more) in [
        ("localhost", ca.clone()),
        ("localhost", identity.replace("ca.pem", "server.pem")),
        ("localhost", format!("{identity}, server_name: elsewhere")),
    ] {
        let (code, out, _) = test(&to(host), &more);
        assert_eq!(code, Some(1), "{more}: {out}");
        assert!(!out.contains("was taken"), "{out}");
    }
    server.kill().unwrap();
    server.wait().unwrap();
}

#[test]
fn test_of_a_file_leaves_one_marked_event_there() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let (code, ..) = test(&format!("file://{}", out.display()), ", format: ecs");
    assert_eq!(code, Some(0));
    let text = std::fs::read_to_string(&out).unwrap();
    let event: Value = serde_json::from_str(text.trim_end()).unwrap();
    assert_eq!(event["taffrail"]["state"], "test");
}

/// A log with ten events of the year 2100, and what the log has of its own: its first record is no event.
fn log(folder: &Path) {
    let boot_id = "5c3b2a10-0000-4000-8000-000000000001".to_owned();
    let log = Log::open(Options::new(folder.to_owned(), "node-1".to_owned(), boot_id)).unwrap();
    for n in 1..=10 {
        log.append(Entry {
            kind: RecordKind::Event,
            time_ns: 4_102_444_800_000_000_000 + n * 1_000_000_000,
            boot_ns: n,
            body: b"",
        });
    }
    log.close().unwrap();
}

#[test]
fn list_status_and_replay_tell_of_exporters_without_a_daemon() {
    let folder = tempfile::tempdir().unwrap();
    let logs = folder.path().join("log");
    log(&logs);
    let config = folder.path().join("config.yaml");
    std::fs::write(
        &config,
        format!("log: {{dir: '{}'}}\nexport: {{siem: {{to: 'stdout:'}}}}", logs.display()),
    )
    .unwrap();
    let run = |arguments: &[&str]| said(taffrail(arguments).arg("--config").arg(&config));
    assert_eq!(run(&["export", "list"]), (Some(0), "siem\tstdout:\tjson\n".into(), String::new()));
    let (code, out, _) = run(&["export", "status"]);
    let last = taffrail::audit::read::last_seq(&logs).unwrap().unwrap();
    assert!(last > 10);
    let expected = format!("siem: sent 0, behind by {last} records, at record 0\n");
    assert_eq!((code, out), (Some(0), expected));

    let position = format!(
        r#"{{"seq":{},"sent":9,"failed":2,"error":"TCP: \u001b[2J","failing_since":"2026"}}"#,
        last - 1
    );
    std::fs::create_dir(logs.join("export")).unwrap();
    std::fs::write(logs.join("export/siem.json"), position).unwrap();
    let (code, out, _) = run(&["export", "status"]);
    assert_eq!(code, Some(1));
    assert!(
        out.contains("behind by 1 records") && out.contains("failing since 2026: TCP: \\x1b[2J"),
        "{out}"
    );
    let (_, out, _) = run(&["export", "status", "--json"]);
    let status: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((&status[0]["lag"], &status[0]["failed"]), (&1.into(), &2.into()));

    let (code, out, _) = run(&["export", "replay", "siem", "--since", "2100-01-01T00:00:07Z"]);
    assert_eq!(code, Some(0));
    // The log's first two records are its own.
    assert!(out.contains("from record 9 on"), "{out}");
    assert_eq!(std::fs::read_to_string(logs.join("export/siem.replay")).unwrap(), "9");
    assert_eq!(run(&["export", "replay", "siem", "--since", "2200-01-01T00:00:00Z"]).0, Some(1));
    let (code, _, hint) = run(&["export", "test", "siam"]);
    assert_eq!(code, Some(2));
    assert!(hint.contains("the configuration has siem"), "{hint}");
}
