//! Grafana Loki: its push API, in JSON. Labels are few and never chosen by a container: job, node, kind, level.

use std::collections::BTreeMap;
use std::io::Write as _;

use reqwest::header::HeaderMap;

use super::http::{Client, Scheme};
use super::{Batch, Opening, Receiver, Sending, Transport};
use crate::event::text::json_string;
use crate::export::settings::Settings;

pub static HTTPS: Receiver = Receiver {
    scheme: "loki+https",
    about: "`loki+https://HOST:3100`: Grafana Loki's push API, with the labels `job`, `node`, `kind` and `level`; a tenant goes into `headers` (`X-Scope-OrgID: NAME`).",
    format: "json",
    takes: |format| format.name != "otlp",
    port: 3100,
    max_event_bytes: 250_000,
    batch_wait: super::http::WAIT,
    open,
};

pub static HTTP: Receiver =
    Receiver { scheme: "loki+http", about: "`loki+http://HOST:3100`: the same without TLS.", ..HTTPS };

/// Syslog's severities as Loki's readers call them.
const LEVELS: [&str; 8] = ["critical", "critical", "critical", "error", "warn", "info", "info", "debug"];

fn open(settings: &Settings) -> Opening<'_> {
    Box::pin(async move {
        let client = Client::new(settings, Scheme("Bearer")).await?;
        Ok(Box::new(Loki { client }) as Box<dyn Transport>)
    })
}

struct Loki {
    client: Client,
}

impl Transport for Loki {
    fn send<'a>(&'a mut self, batch: &'a Batch) -> Sending<'a> {
        let body = body(batch);
        Box::pin(async move {
            self.client
                .post(self.client.at("/loki/api/v1/push"), "application/json", body, HeaderMap::new())
                .await?;
            Ok(Vec::new())
        })
    }
}

fn body(batch: &Batch) -> Vec<u8> {
    let mut streams: BTreeMap<(&str, &str, u8), Vec<u8>> = BTreeMap::new();
    for (event, bytes) in batch.iter() {
        let values = streams.entry((&event.node, &event.kind, event.severity)).or_default();
        if !values.is_empty() {
            values.push(b',');
        }
        // Writing to memory cannot fail.
        let _ = write!(values, "[\"{}\",", event.time_ns);
        json_string(bytes, values);
        let _ = write!(values, ",{{\"taffrail_id\":\"{}\"}}]", event.id);
    }
    let mut body = b"{\"streams\":[".to_vec();
    for (n, ((node, kind, severity), values)) in streams.into_iter().enumerate() {
        body.extend_from_slice(if n > 0 {
            b",{\"stream\":{\"job\":\"taffrail\",\"node\":"
        } else {
            b"{\"stream\":{\"job\":\"taffrail\",\"node\":"
        });
        json_string(node.as_bytes(), &mut body);
        body.extend_from_slice(b",\"kind\":");
        json_string(kind.as_bytes(), &mut body);
        let _ = write!(body, ",\"level\":\"{}\"}},\"values\":[", LEVELS[usize::from(severity & 7)]);
        body.extend_from_slice(&values);
        body.extend_from_slice(b"]}");
    }
    body.extend_from_slice(b"]}");
    body
}
