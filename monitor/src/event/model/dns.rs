//! `dns`: a question about a name, or its answer.

use std::fmt::Write as _;
use std::net::SocketAddr;

use taffrail_common::event as abi;

use super::udp::direction_name;
use super::{Model, socket_address, write_ends};
use crate::enrich::Subject;
use crate::event::dns::{Data, Message, Name, response_name, type_name};
use crate::event::field::{Inline, Value};
use crate::event::json::Members;
use crate::event::text::escape;

/// Answers of one message that are written, at most: a small message can name the same long name over and over.
const ANSWERS_MAX: usize = 32;

/// A DNS message.
#[derive(Clone, Copy, Debug)]
pub struct Dns<'a> {
    /// Who, with whom.
    pub record: abi::Dns,
    /// The message, as far as it is there.
    pub bytes: &'a [u8],
    /// What it says; `None` if it is no message of DNS.
    pub message: Option<Message>,
}

impl<'a> Dns<'a> {
    /// From a record and its payload.
    pub fn new(record: abi::Dns, bytes: &'a [u8]) -> Self {
        Self { record, bytes, message: Message::parse(bytes) }
    }

    /// The peer's address.
    pub fn remote(&self) -> Option<SocketAddr> {
        let abi::Dns { family, remote_addr, remote_port, .. } = self.record;
        socket_address(family, remote_addr, remote_port)
    }

    /// The own address.
    pub fn local(&self) -> Option<SocketAddr> {
        let abi::Dns { family, local_addr, local_port, .. } = self.record;
        socket_address(family, local_addr, local_port)
    }

    /// `tcp` or `udp`.
    pub fn protocol(&self) -> &'static str {
        if i32::from(self.record.protocol) == libc::IPPROTO_TCP { "tcp" } else { "udp" }
    }

    /// Whether it runs from the server to who asks.
    pub fn is_answer(&self) -> bool {
        self.message.is_some_and(|message| message.is_answer())
    }

    /// Whether this is not the whole message.
    pub fn is_cut(&self) -> bool {
        self.record.message.full_len > self.record.message.len
    }

    /// `query` or `answer`.
    pub fn message_type(&self) -> Option<&'static str> {
        Some(if self.message?.is_answer() { "answer" } else { "query" })
    }

    /// The name that is asked for.
    pub fn question_name(&self) -> Option<&[u8]> {
        self.message.as_ref()?.question.as_ref().map(|(name, ..)| name.as_bytes())
    }

    /// The type of record that is asked for.
    pub fn question_type(&self) -> Option<Inline> {
        self.message?.question.map(|(_, ty, _)| type_text(ty))
    }

    /// How it went, of an answer.
    pub fn response_code(&self) -> Option<Inline> {
        let code = self.message.filter(Message::is_answer)?.response_code();
        Some(match response_name(code) {
            Some(name) => Inline::format(format_args!("{name}")),
            None => Inline::format(format_args!("RCODE{code}")),
        })
    }

    /// Calls `test` with what each answer says until it returns true; returns whether it did.
    pub fn any_answer(&self, test: &mut dyn FnMut(Value<'_>) -> bool) -> bool {
        let Some(message) = self.message else { return false };
        message.answers(self.bytes).any(|answer| match answer.data {
            Data::V4(ip) => test(Value::Inline(Inline::format(format_args!("{ip}")))),
            Data::V6(ip) => test(Value::Inline(Inline::format(format_args!("{ip}")))),
            Data::Name(name) => test(Value::Text(name.as_bytes())),
            Data::Text(raw) => texts(raw).any(|text| test(Value::Text(text))),
            Data::Other(_) => false,
        })
    }
}

/// The parts of a TXT record.
fn texts(mut raw: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (&len, rest) = raw.split_first()?;
        let (text, after) = rest.split_at(rest.len().min(len.into()));
        raw = after;
        Some(text)
    })
}

fn type_text(ty: u16) -> Inline {
    match type_name(ty) {
        Some(name) => Inline::format(format_args!("{name}")),
        None => Inline::format(format_args!("TYPE{ty}")),
    }
}

impl Model for Dns<'_> {
    fn type_name(&self) -> &'static str {
        "dns"
    }

    fn write_json(&self, subject: &Subject<'_>, out: &mut Members<'_>) {
        out.text("protocol", self.protocol().as_bytes());
        out.text("direction", direction_name(self.record.direction).as_bytes());
        write_ends(subject, self.remote(), self.local(), out);
        out.number("message_bytes", self.record.message.full_len.into());
        if self.is_cut() {
            out.number("message_there_bytes", self.record.message.len.into());
        }
        let Some(message) = self.message else {
            out.bool("malformed", true);
            return;
        };
        out.text("message", if message.is_answer() { b"answer" } else { b"query" });
        out.number("id", message.id.into());
        if message.operation() != 0 {
            out.number("operation", message.operation().into());
        }
        if let Some((name, ty, class)) = &message.question {
            out.text("question_name", name.as_bytes());
            out.text("question_type", type_text(*ty).as_bytes());
            // All else than the Internet's.
            if *class != 1 {
                out.number("question_class", (*class).into());
            }
        }
        if message.question_count() != 1 {
            out.number("question_count", message.question_count().into());
        }
        if let Some(code) = self.response_code() {
            out.text("rcode", code.as_bytes());
        }
        if message.is_truncated() {
            out.bool("truncated", true);
        }
        if message.is_answer() || message.answer_count() > 0 {
            out.number("answer_count", message.answer_count().into());
            write_answers(&message, self.bytes, out);
        }
    }

    fn write_line(&self, _subject: &Subject<'_>, out: &mut String) {
        let arrow = if self.record.direction == abi::direction::OUT { "->" } else { "<-" };
        out.push_str(arrow);
        if let Some(remote) = self.remote() {
            let _ = write!(out, " {remote}");
        }
        let Some(message) = self.message else {
            out.push_str(" no message of DNS");
            return;
        };
        let _ = write!(out, " {}", if message.is_answer() { "answer" } else { "query" });
        if let Some((name, ty, _)) = &message.question {
            let _ = write!(out, " {} ", String::from_utf8_lossy(type_text(*ty).as_bytes()));
            escape(name.as_bytes(), out);
        }
        if let Some(code) = self.response_code() {
            let _ = write!(out, " {}", String::from_utf8_lossy(code.as_bytes()));
        }
        let mut left = 4;
        self.any_answer(&mut |value| {
            out.push(' ');
            escape(value.text().unwrap_or_default(), out);
            left -= 1;
            left == 0
        });
    }
}

fn write_answers(message: &Message, bytes: &[u8], out: &mut Members<'_>) {
    let asked = message.question.as_ref().map(|(name, ..)| name.as_bytes());
    out.objects("answers", message.answers(bytes).take(ANSWERS_MAX), |answer, members| {
        let name: &Name = &answer.name;
        if asked != Some(name.as_bytes()) {
            members.text("name", name.as_bytes());
        }
        members.text("type", type_text(answer.ty).as_bytes());
        members.number("ttl_s", answer.ttl_s.into());
        match answer.data {
            Data::V4(ip) => members.raw("data", format_args!("\"{ip}\"")),
            Data::V6(ip) => members.raw("data", format_args!("\"{ip}\"")),
            Data::Name(name) => members.text("data", name.as_bytes()),
            Data::Text(raw) => {
                let joined: Vec<u8> = texts(raw).flatten().copied().collect();
                members.text("data", &joined);
            }
            Data::Other(raw) => members.number("data_bytes", raw.len() as i64),
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_record_is_written_whole_however_long() {
        let part = [&b"\xff"[..], &[b'a'; 255]].concat();
        let data = [&part.repeat(4)[..], b"\x03end"].concat();
        let head = b"\0\x01\x81\x80\0\0\0\x01\0\0\0\0\0\0\x10\0\x01\0\0\0\x3c";
        let bytes = [head, &(data.len() as u16).to_be_bytes()[..], &data].concat();
        let message = Message::parse(&bytes).unwrap();
        let mut out = b"{".to_vec();
        write_answers(&message, &bytes, &mut Members::within(&mut out));
        out.push(b'}');
        let json: serde_json::Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(json["answers"][0]["data"], "a".repeat(4 * 255) + "end");
    }
}
