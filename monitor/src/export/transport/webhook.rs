//! A webhook: each batch is one POST, a JSON array of events, or of formats that are lines of text the lines. With
//! `batch_events: 1` the event itself is the body, as Falco's side-car wants it.

use reqwest::header::HeaderMap;

use super::http::{Client, Scheme};
use super::{Batch, Opening, Receiver, Sending, Transport};
use crate::export::settings::Settings;

pub static HTTPS: Receiver = Receiver {
    scheme: "webhook+https",
    about: "`webhook+https://HOST/PATH`: a POST of a JSON array (`application/json`), with `batch_events: 1` of the event itself, or of lines if the format is text. Any 2xx is a yes.",
    format: "json",
    takes: |format| format.name != "otlp",
    port: 443,
    max_event_bytes: crate::audit::LINE_MAX,
    batch_wait: super::http::WAIT,
    open,
};

pub static HTTP: Receiver = Receiver {
    scheme: "webhook+http",
    about: "`webhook+http://HOST/PATH`: the same without TLS.",
    port: 80,
    ..HTTPS
};

fn open(settings: &Settings) -> Opening<'_> {
    Box::pin(async move {
        let client = Client::new(settings, Scheme("Bearer")).await?;
        Ok(Box::new(Webhook { client, is_json: settings.format.is_json, is_list: settings.batch_events > 1 })
            as Box<dyn Transport>)
    })
}

struct Webhook {
    client: Client,
    is_json: bool,
    /// Whether there is a list around events in JSON.
    is_list: bool,
}

impl Transport for Webhook {
    fn send<'a>(&'a mut self, batch: &'a Batch) -> Sending<'a> {
        let (content_type, separator) =
            if self.is_json { ("application/json", b',') } else { ("text/plain; charset=utf-8", b'\n') };
        let mut body = Vec::with_capacity(batch.bytes.len() + batch.events.len() + 2);
        let is_list = self.is_json && self.is_list;
        if is_list {
            body.push(b'[');
        }
        for (n, (_, bytes)) in batch.iter().enumerate() {
            if n > 0 {
                body.push(separator);
            }
            body.extend_from_slice(bytes);
        }
        body.push(if is_list { b']' } else { b'\n' });
        Box::pin(async move {
            self.client.post(self.client.at("/"), content_type, body, HeaderMap::new()).await?;
            Ok(Vec::new())
        })
    }
}
