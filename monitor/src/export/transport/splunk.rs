//! Splunk's HTTP Event Collector. With `acknowledge`, a batch counts as taken when the indexer says that it is safe.

use std::io::Write as _;
use std::time::Duration;

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Value, json};

use super::http::{Client, Scheme, excerpt};
use super::{Batch, Failure, Opening, Receiver, Sending, Stage, Transport};
use crate::event::text::json_string;
use crate::export::settings::Settings;

pub static HTTPS: Receiver = Receiver {
    scheme: "splunk+https",
    about: "`splunk+https://HOST:8088`: Splunk's HTTP Event Collector; the token is its own. With `acknowledge: true` the indexer is asked when events are safe. `?index=NAME` chooses an index.",
    format: "json",
    takes: |format| format.name != "otlp",
    port: 8088,
    max_event_bytes: 512 << 10,
    batch_wait: super::http::WAIT,
    open,
};

pub static HTTP: Receiver =
    Receiver { scheme: "splunk+http", about: "`splunk+http://HOST:8088`: the same without TLS.", ..HTTPS };

/// How long the indexer may take to make a batch safe, and how often it is asked.
const ACKNOWLEDGED_WITHIN: Duration = Duration::from_secs(120);
const ASK_EVERY: Duration = Duration::from_millis(200);

fn open(settings: &Settings) -> Opening<'_> {
    Box::pin(async move {
        let client = Client::new(settings, Scheme("Splunk")).await?;
        let index =
            settings.to.query_pairs().find(|(name, _)| name == "index").map(|(_, index)| index.into_owned());
        let (name, is_json) = (settings.format.name, settings.format.is_json);
        // Any GUID; the indexer keeps its answers apart by it.
        let channel = settings.acknowledge.then(guid).transpose()?;
        Ok(Box::new(Collector { client, index, name, is_json, channel }) as Box<dyn Transport>)
    })
}

fn guid() -> Result<String, Failure> {
    let guid = std::fs::read_to_string("/proc/sys/kernel/random/uuid");
    guid.map(|guid| guid.trim().to_owned()).map_err(|error| Failure::new(Stage::Settings, error))
}

struct Collector {
    client: Client,
    index: Option<String>,
    name: &'static str,
    is_json: bool,
    channel: Option<String>,
}

impl Transport for Collector {
    fn send<'a>(&'a mut self, batch: &'a Batch) -> Sending<'a> {
        Box::pin(async move {
            let url = self.client.at("/services/collector/event");
            let answer = self.client.post(url, "application/json", self.body(batch), self.headers()?).await?;
            let Some(channel) = &self.channel else { return Ok(Vec::new()) };
            let answer: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
            let id = answer["ackId"].as_u64();
            let id = id.ok_or_else(|| Failure::new(Stage::Settings, "the collector gives no `ackId`: its token has no indexer acknowledgement; leave `acknowledge` out"))?;
            self.wait_until_safe(channel, id).await?;
            Ok(Vec::new())
        })
    }
}

impl Collector {
    fn headers(&self) -> Result<HeaderMap, Failure> {
        let mut headers = HeaderMap::new();
        if let Some(channel) = &self.channel {
            let value =
                HeaderValue::try_from(channel).map_err(|error| Failure::new(Stage::Settings, error))?;
            headers.insert(HeaderName::from_static("x-splunk-request-channel"), value);
        }
        Ok(headers)
    }

    fn body(&self, batch: &Batch) -> Vec<u8> {
        let mut body = Vec::with_capacity(batch.bytes.len() + 200 * batch.events.len());
        for (event, bytes) in batch.iter() {
            let (seconds, ns) =
                (event.time_ns.div_euclid(1_000_000_000), event.time_ns.rem_euclid(1_000_000_000));
            // Writing to memory cannot fail.
            let _ = write!(
                body,
                "{{\"time\":{seconds}.{:06},\"source\":\"taffrail\",\"sourcetype\":\"taffrail:{}\",\"host\":",
                ns / 1000,
                self.name
            );
            json_string(event.node.as_bytes(), &mut body);
            if let Some(index) = &self.index {
                body.extend_from_slice(b",\"index\":");
                json_string(index.as_bytes(), &mut body);
            }
            let _ = write!(body, ",\"fields\":{{\"taffrail_id\":\"{}\"}},\"event\":", event.id);
            if self.is_json {
                body.extend_from_slice(bytes);
            } else {
                json_string(bytes, &mut body);
            }
            body.extend_from_slice(b"}\n");
        }
        body
    }

    async fn wait_until_safe(&self, channel: &str, id: u64) -> Result<(), Failure> {
        let deadline = tokio::time::Instant::now() + ACKNOWLEDGED_WITHIN;
        let mut url = self.client.at("/services/collector/ack");
        url.set_path("/services/collector/ack");
        url.set_query(Some(&format!("channel={channel}")));
        loop {
            let body = json!({ "acks": [id] }).to_string().into_bytes();
            let answer = self.client.post(url.clone(), "application/json", body, self.headers()?).await?;
            let found: Value = serde_json::from_slice(&answer.body).map_err(|_| {
                Failure::new(Stage::Accepted, format_args!("no acknowledgement: {}", excerpt(&answer.body)))
            })?;
            if found["acks"][id.to_string()] == true {
                return Ok(());
            }
            if tokio::time::Instant::now() > deadline {
                return Err(Failure::new(Stage::Accepted, "the indexer does not acknowledge"));
            }
            tokio::time::sleep(ASK_EVERY).await;
        }
    }
}
