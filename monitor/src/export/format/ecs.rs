//! Elastic Common Schema 9.4: one document, nested. What ECS has no field for is below `taffrail`.

use super::{Format, Member, members, nest};
use crate::export::convert::Out;
use crate::export::cut::Cut;
use crate::export::record::Record;
use crate::export::table::Column;

/// The version that the fields are from.
const VERSION: &str = "9.4.0";

pub const FORMAT: Format = Format {
    name: "ecs",
    about: "Elastic Common Schema 9.4.0, one nested document; all else is below `taffrail`.",
    encode,
    is_json: true,
};

fn encode(record: &Record<'_>, cut: &Cut, out: &mut Vec<u8>) {
    let mut members = members(record, Column::Ecs, cut, |_| true);
    let (category, types) = class(record);
    let outcome = record.outcome().name();
    let list = |texts: &[&'static str]| Out::Texts(texts.iter().map(|text| (*text).into()).collect());
    let is_alert = record.kind() == "alert";
    members.extend([
        Member::new("@timestamp", record.text("", "time").unwrap_or_default()),
        Member::new("ecs.version", VERSION),
        Member::new("message", record.message().into_owned()),
        Member::new("event.id", record.id()),
        Member::new("event.kind", if is_alert { "alert" } else { "event" }),
        Member::new("event.category", list(category)),
        Member::new("event.type", list(types)),
        Member::new("event.action", record.action()),
        Member::new("event.outcome", outcome),
        Member::new("event.severity", i64::from(record.severity.of_ten())),
        Member::new("event.module", "taffrail"),
        Member::new("event.dataset", format!("taffrail.{}", record.kind())),
        Member::new("event.provider", "taffrail"),
        Member::new("host.name", record.node()),
        Member::new("host.hostname", record.node()),
        Member::new("host.os.type", "linux"),
        Member::new("agent.type", "taffrail"),
        Member::new("agent.version", env!("CARGO_PKG_VERSION")),
    ]);
    if let Some(error) = record.error() {
        members.push(Member::new("error.code", error));
    }
    out.push(b'{');
    nest::write(&members, cut, out);
    out.push(b'}');
}

/// `event.category` and `event.type`, of the values that ECS allows.
fn class(record: &Record<'_>) -> (&'static [&'static str], &'static [&'static str]) {
    let action = record.action();
    match record.event_kind() {
        "exec" | "fork" => (&["process"], &["start"]),
        "exit" => (&["process"], &["end"]),
        "open" => (&["file"], &["access"]),
        "write" => (&["file"], &["change"]),
        "change" if action.starts_with("unlink") || action == "rmdir" => (&["file"], &["deletion"]),
        "change" if ["mk", "link", "symlink"].iter().any(|start| action.starts_with(start)) => {
            (&["file"], &["creation"])
        }
        "change" | "mount" => (&["file"], &["change"]),
        "connect" | "accept" => (&["network"], &["connection", "start"]),
        "flow" => (&["network"], &["connection", "end"]),
        "udp" => (&["network"], &["connection"]),
        "dns" => (&["network"], &["protocol"]),
        "bind" | "listen" | "socket" => (&["network"], &["info"]),
        "module" => (&["driver"], &["change"]),
        "access" => (&["process"], &["access"]),
        "" => (&["host"], &["info"]),
        _ => (&["process"], &["change"]),
    }
}
