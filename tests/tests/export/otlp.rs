//! OpenTelemetry's protocol: over HTTP to a stub, and over gRPC to a collector of others, `rotel`, which hands on to the
//! stub. It takes no TLS, which a program before it (`tls.py`) ends, therefore.

use std::io::{BufRead as _, BufReader};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Kind;
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use prost::Message as _;
use serde_json::Value;
use taffrail_tests::net::{Certificates, free_port};
use taffrail_tests::skip;

use crate::http::{Request, Store, Stub, unpacked};
use crate::stage::{Receiver, play, wait_for};

fn take(store: &mut Store, request: &Request) -> (u16, String) {
    let request = ExportLogsServiceRequest::decode(&*unpacked(request)).unwrap();
    let scopes = request.resource_logs.iter().flat_map(|logs| &logs.scope_logs);
    store.lines.extend(scopes.flat_map(|scope| &scope.log_records).map(in_short));
    (200, String::new())
}

/// What is compared: number, kind, time, and what a container has chosen.
fn in_short(record: &LogRecord) -> String {
    let value = |key: &str| {
        let attribute = record.attributes.iter().find(|attribute| attribute.key == key)?;
        Some(match attribute.value.as_ref()?.value.as_ref()? {
            Kind::StringValue(text) => text.clone(),
            Kind::IntValue(number) => number.to_string(),
            _ => String::new(),
        })
    };
    let text = |key| value(key).unwrap_or_default();
    let time = jiff::Timestamp::from_nanosecond(record.time_unix_nano.into()).unwrap();
    let names = ["taffrail.seq", "taffrail.kind", "process.pid", "process.executable.name", "container.name"]
        .map(text);
    format!("{} {time:.9}", names.join(" "))
}

/// The same of a line of the log.
fn form(line: &str) -> String {
    let record: Value = serde_json::from_str(line).unwrap();
    let text = |value: &Value| match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        _ => String::new(),
    };
    let (process, container) = (&record["process"], &record["container"]);
    let names =
        [&record["seq"], &record["kind"], &process["pid"], &process["name"], &container["name"]].map(text);
    format!("{} {}", names.join(" "), text(&record["time"]))
}

#[test]
fn otlp_over_http_has_every_record() {
    let mut stub = Stub::new(take);
    let port = stub.port;
    play(&mut stub, port, form, |port| {
        format!(
            "export: {{x: {{to: 'otlp+http://127.0.0.1:{port}', timeout_ms: 3000, compression: gzip, batch_wait_ms: 20}}}}"
        )
    });
}

/// The collector. It keeps what it has taken in memory for a moment: it is ended in good order, then.
struct Rotel {
    program: PathBuf,
    port: u16,
    child: Option<Child>,
    behind: Stub,
}

impl Rotel {
    /// `None` if it is not there.
    fn new() -> Option<Self> {
        let program = crate::receiver::unpacked()?.join("rotel/rotel-agent");
        let mut behind = Stub::new(take);
        behind.start();
        program.exists().then(|| Self { program, port: free_port(), child: None, behind })
    }
}

impl Receiver for Rotel {
    fn start(&mut self) {
        let child = Command::new(&self.program)
            .args(["start", "--otlp-grpc-endpoint", &format!("127.0.0.1:{}", self.port)])
            .args(["--otlp-http-endpoint", &format!("127.0.0.1:{}", free_port())])
            .args(["--exporter", "otlp", "--otlp-exporter-protocol", "http"])
            .args(["--otlp-exporter-endpoint", &format!("http://127.0.0.1:{}", self.behind.port)])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        self.child = Some(child.unwrap_or_else(|error| panic!("{}: {error}", self.program.display())));
        wait_for("the collector listens", || TcpStream::connect(("127.0.0.1", self.port)).is_ok());
    }

    fn kill(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        // SAFETY: no memory is involved, and the process is our child.
        unsafe { libc::kill(child.id() as i32, libc::SIGTERM) };
        child.wait().unwrap();
    }

    fn streams(&self) -> Vec<Vec<String>> {
        self.behind.streams()
    }

    fn count(&self) -> usize {
        self.behind.count()
    }
}

impl Drop for Rotel {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

#[test]
fn collector_over_grpc_has_every_record() {
    let Some(mut rotel) = Rotel::new() else {
        skip!("collector_over_grpc_has_every_record", "rotel is not unpacked: run `cargo xtask setup`");
    };
    let port = rotel.port;
    play(&mut rotel, port, form, |port| {
        format!("export: {{x: {{to: 'otlp+grpc://127.0.0.1:{port}', timeout_ms: 3000, batch_wait_ms: 20}}}}")
    });
}

#[test]
fn collector_over_grpc_with_tls_has_every_record() {
    let Some(mut rotel) = Rotel::new() else {
        skip!(
            "collector_over_grpc_with_tls_has_every_record",
            "rotel is not unpacked: run `cargo xtask setup`"
        );
    };
    let (certificates, port) = (Certificates::new(), free_port());
    let mut tls = Command::new("python3")
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/export/tls.py"))
        .args([port, rotel.port].map(|port| port.to_string()))
        .current_dir(certificates.folder.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut up = String::new();
    BufReader::new(tls.stdout.take().unwrap()).read_line(&mut up).unwrap();
    assert_eq!(up, "up\n");
    let path = |name| certificates.path(name);
    let identity = format!("cert_file: '{}', key_file: '{}'", path("server.pem"), path("server.key"));
    play(&mut rotel, port, form, |port| {
        format!(
            "export: {{x: {{to: 'otlp+grpcs://localhost:{port}', ca_file: '{}', {identity}, timeout_ms: 3000, batch_wait_ms: 20}}}}",
            path("ca.pem")
        )
    });
    tls.kill().unwrap();
    tls.wait().unwrap();
}
