//! Elasticsearch and OpenSearch: `_bulk` with `create`, each document under the event's own id. A document that is
//! there already is no error, so an event that is sent twice is there once.

use std::io::Write as _;

use reqwest::header::HeaderMap;
use serde_json::Value;

use super::http::{Client, Scheme, excerpt};
use super::{Batch, Failure, Opening, Receiver, Refused, Sending, Stage, Transport};
use crate::event::text::json_string;
use crate::export::settings::Settings;

pub static HTTPS: Receiver = Receiver {
    scheme: "elastic+https",
    about: "`elastic+https://HOST:9200/INDEX`: `_bulk` of Elasticsearch or OpenSearch, into an index or data stream (`logs-taffrail-default`). The token is an API key, or a login.",
    format: "ecs",
    takes: |format| format.is_json,
    port: 9200,
    max_event_bytes: 1 << 20,
    batch_wait: super::http::WAIT,
    open,
};

pub static HTTP: Receiver = Receiver {
    scheme: "elastic+http",
    about: "`elastic+http://HOST:9200/INDEX`: the same without TLS.",
    ..HTTPS
};

const DEFAULT_INDEX: &str = "logs-taffrail-default";

fn open(settings: &Settings) -> Opening<'_> {
    Box::pin(async move {
        let client = Client::new(settings, Scheme("ApiKey")).await?;
        let index = settings.to.path().trim_matches('/');
        let index = if index.is_empty() { DEFAULT_INDEX } else { index }.to_owned();
        Ok(Box::new(Bulk { client, index }) as Box<dyn Transport>)
    })
}

struct Bulk {
    client: Client,
    index: String,
}

impl Transport for Bulk {
    fn send<'a>(&'a mut self, batch: &'a Batch) -> Sending<'a> {
        let mut body = Vec::with_capacity(batch.bytes.len() + 100 * batch.events.len());
        for (event, bytes) in batch.iter() {
            body.extend_from_slice(b"{\"create\":{\"_index\":");
            json_string(self.index.as_bytes(), &mut body);
            // Writing to memory cannot fail.
            let _ = writeln!(body, ",\"_id\":\"{}\"}}}}", event.id);
            body.extend_from_slice(bytes);
            body.push(b'\n');
        }
        Box::pin(async move {
            let mut url = self.client.at("/");
            url.set_path("/_bulk");
            let answer = self.client.post(url, "application/x-ndjson", body, HeaderMap::new()).await?;
            judge(&answer.body, batch.events.len())
        })
    }
}

/// What the answer says of each document.
fn judge(body: &[u8], count: usize) -> Result<Vec<Refused>, Failure> {
    let answer: Value = serde_json::from_slice(body).unwrap_or_default();
    let items = answer["items"].as_array().filter(|items| items.len() == count);
    let items = items.ok_or_else(|| {
        Failure::new(Stage::Accepted, format_args!("not an answer of `_bulk`: {}", excerpt(body)))
    })?;
    let mut refused = Vec::new();
    for (index, item) in items.iter().enumerate() {
        let item = &item["create"];
        let reason = || {
            let part = |name: &str| item["error"][name].as_str().unwrap_or_default();
            excerpt(format!("{}: {}", part("type"), part("reason")).as_bytes())
        };
        match item["status"].as_u64().unwrap_or_default() {
            // 409: it is there already.
            200..=299 | 409 => {}
            401 | 403 => return Err(Failure::new(Stage::Authentication, reason())),
            400 | 413 | 422 => refused.push(Refused { index, reason: reason() }),
            // Too busy, or broken: all of it again; what is there already stays as it is.
            status => return Err(Failure::new(Stage::Accepted, format_args!("{status}: {}", reason()))),
        }
    }
    Ok(refused)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_item_of_an_answer_is_judged_by_itself() {
        let judged = |statuses: &[u64], count| {
            let items: Vec<Value> = statuses
                .iter()
                .map(|status| json!({ "create": { "status": status, "error": { "type": "t", "reason": "r" } } }))
                .collect();
            judge(json!({ "errors": true, "items": items }).to_string().as_bytes(), count)
        };
        assert_eq!(judged(&[201, 409, 200], 3), Ok(vec![]));
        assert_eq!(judged(&[201, 400], 2), Ok(vec![Refused { index: 1, reason: "t: r".into() }]));
        assert_eq!(judged(&[400, 429], 2).unwrap_err().stage, Stage::Accepted);
        assert!(!judged(&[400, 429], 2).unwrap_err().is_refusal);
        assert_eq!(judged(&[403], 1).unwrap_err().stage, Stage::Authentication);
        assert!(judged(&[201], 2).is_err());
        assert!(judge(b"<html>", 1).is_err());
    }
}
