//! OpenTelemetry: a `LogRecord` of OTLP, with attributes named by the semantic conventions where they have a name. Each
//! record has the node besides, so that it needs no resource to be understood.

use opentelemetry_proto::tonic::common::v1::any_value::Value as Kind;
use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, KeyValue, KeyValueList};
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use prost::Message as _;
use serde_json_borrow::Value;

use super::{Format, members};
use crate::export::convert::Out;
use crate::export::cut::Cut;
use crate::export::record::Record;
use crate::export::table::Column;

pub const FORMAT: Format = Format {
    name: "otlp",
    about: "A log record of OpenTelemetry's protocol (protobuf), its attributes named by the semantic conventions.",
    encode,
    is_json: false,
};

fn encode(record: &Record<'_>, cut: &Cut, out: &mut Vec<u8>) {
    // Only fails if a buffer of a fixed size is too small.
    let _ = log_record(record, cut).encode(out);
}

/// A record as OTLP has it.
pub fn log_record(record: &Record<'_>, cut: &Cut) -> LogRecord {
    let mut attributes = vec![
        text_attribute("taffrail.id", record.id()),
        text_attribute("taffrail.record", record.kind().to_owned()),
        text_attribute("host.name", record.node().to_owned()),
    ];
    for member in members(record, Column::Otel, cut, |_| true) {
        attributes.push(KeyValue {
            key: member.name.into_owned(),
            value: Some(any(&member.value, cut)),
            ..Default::default()
        });
    }
    let time = u64::try_from(record.time_ns).unwrap_or_default();
    // OpenTelemetry's mapping of syslog's severities (logs data model, appendix B).
    let severity_number = [21, 19, 18, 17, 13, 10, 9, 5][usize::from(record.severity.syslog() & 7)];
    LogRecord {
        time_unix_nano: time,
        observed_time_unix_nano: time,
        severity_number,
        severity_text: record.severity.name().to_owned(),
        body: Some(text(cut.text(&record.message()).into_owned())),
        event_name: format!("taffrail.{}", record.any_kind()),
        attributes,
        ..LogRecord::default()
    }
}

fn text_attribute(key: &str, value: String) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(text(value)), ..Default::default() }
}

fn text(text: String) -> AnyValue {
    AnyValue { value: Some(Kind::StringValue(text)) }
}

fn list(values: Vec<AnyValue>) -> AnyValue {
    AnyValue { value: Some(Kind::ArrayValue(ArrayValue { values })) }
}

fn any(value: &Out<'_>, cut: &Cut) -> AnyValue {
    match value {
        Out::Json(value) => any_json(value, cut),
        Out::Text(value) => text(cut.text(value).into_owned()),
        Out::Number(number) => AnyValue { value: Some(Kind::IntValue(*number)) },
        Out::Texts(texts) => list(bounded(texts, cut, |value| text(cut.text(value).into_owned()))),
        Out::Objects(objects) => list(bounded(objects, cut, |members| {
            object(members.iter().map(|(name, value)| (*name, *value)), cut)
        })),
    }
}

fn any_json(value: &Value<'_>, cut: &Cut) -> AnyValue {
    match value {
        Value::Null => AnyValue { value: None },
        Value::Bool(yes) => AnyValue { value: Some(Kind::BoolValue(*yes)) },
        // A number that is too large for OTLP is a text there.
        Value::Number(number) => match number.as_i64() {
            Some(number) => AnyValue { value: Some(Kind::IntValue(number)) },
            None => text(number.to_string()),
        },
        Value::Str(value) => text(cut.text(value).into_owned()),
        Value::Array(items) => list(bounded(items, cut, |item| any_json(item, cut))),
        Value::Object(members) => object(members.iter(), cut),
    }
}

fn object<'v>(members: impl Iterator<Item = (&'v str, &'v Value<'v>)>, cut: &Cut) -> AnyValue {
    let member = |(name, value): (&str, &Value<'_>)| KeyValue {
        key: name.to_owned(),
        value: Some(any_json(value, cut)),
        ..Default::default()
    };
    AnyValue { value: Some(Kind::KvlistValue(KeyValueList { values: members.map(member).collect() })) }
}

fn bounded<T>(items: &[T], cut: &Cut, each: impl FnMut(&T) -> AnyValue) -> Vec<AnyValue> {
    let mut values: Vec<AnyValue> = items.iter().take(cut.list_max).map(each).collect();
    if items.len() > cut.list_max {
        values.push(text(format!("…[{} items]", items.len())));
    }
    values
}
