//! Records of the log as lines for people. All that is in a record is escaped: in a file anybody may have written anything.

use std::fmt::Write as _;

use crate::audit::read::seq_of;
use crate::event::logged::{Json, Object, Record};
use crate::event::text::escape;

/// Appends a line of the log as a line for people, with its newline.
pub fn write_line(line: &[u8], out: &mut String) {
    let Some(record) = Record::parse(line) else {
        out.push_str("no record: ");
        escape(line.get(..200).unwrap_or(line), out);
        out.push('\n');
        return;
    };
    let seq = seq_of(line).unwrap_or_default();
    let _ = write!(out, "{seq} ");
    write_time(&record, out);
    out.push(' ');
    write_where(&record, out);
    match record.kind() {
        "alert" => write_alert(&record, out),
        "event" => write_event(&record, out),
        kind => {
            escape(kind.as_bytes(), out);
            let head = ["seq", "prev", "kind", "time", "boot_ns", "node", "boot_id", "container"];
            write_members(&record.top, &head, out);
        }
    }
    out.push('\n');
}

/// Date and time to the microsecond.
pub fn write_time(record: &Record<'_>, out: &mut String) {
    let time = record.top.text("time").unwrap_or_default();
    escape(time.get(..10).unwrap_or_default(), out);
    out.push(' ');
    escape(time.get(11..26).unwrap_or_default(), out);
}

fn write_where(record: &Record<'_>, out: &mut String) {
    let mut name = String::new();
    match record.container() {
        Some(container) => {
            escape(container.text("name").or(container.text("id")).unwrap_or_default(), &mut name);
        }
        None => name.push_str(if record.top.get("container").is_some() { "host" } else { "-" }),
    }
    let _ = write!(out, "{name:<12.12} ");
}

/// The process and what it did.
pub fn write_event(record: &Record<'_>, out: &mut String) {
    if let Some(process) = record.process() {
        escape(process.text("name").unwrap_or_default(), out);
        let _ = write!(out, "[{}] ", process.number("pid").unwrap_or_default());
    }
    let Some(event) = record.event() else { return };
    escape(event.text("kind").unwrap_or_default(), out);
    match event.list("args") {
        [] => write_members(event, &["kind"], out),
        args => {
            out.push(' ');
            escape(event.text("exe").unwrap_or_default(), out);
            for arg in args {
                out.push(' ');
                write_value(arg, out);
            }
        }
    }
    if let Some(target) = record.target() {
        out.push_str(" → ");
        escape(target.text("name").unwrap_or_default(), out);
        let _ = write!(out, "[{}]", target.number("pid").or(target.number("vpid")).unwrap_or_default());
    }
}

fn write_alert(record: &Record<'_>, out: &mut String) {
    let text = |name| record.top.text(name).unwrap_or_default();
    escape(text("priority"), out);
    out.push(' ');
    escape(text("rule"), out);
    out.push_str(": ");
    escape(text("output"), out);
}

/// Members as `name=value`; of a number that has names only these, of a path nothing but itself.
fn write_members(object: &Object<'_>, without: &[&str], out: &mut String) {
    for (name, value) in object.members() {
        let has = |suffix: &str| object.get(&[name, suffix].concat()).is_some();
        let is_aside = ["_ino", "_dev", "_hex", "_full_bytes"].iter().any(|suffix| name.ends_with(suffix));
        if without.contains(&name) || is_aside || has("_names") || has("_name") {
            continue;
        }
        let shown = name.strip_suffix("_names").or(name.strip_suffix("_name")).unwrap_or(name);
        match value {
            Json::Object(inner) => write_members(inner, &[], out),
            value => {
                out.push(' ');
                escape(shown.as_bytes(), out);
                out.push('=');
                write_value(value, out);
            }
        }
    }
}

fn write_value(value: &Json<'_>, out: &mut String) {
    match value {
        Json::Null => out.push('-'),
        Json::Bool(bool) => {
            let _ = write!(out, "{bool}");
        }
        Json::Number(number) => {
            let _ = write!(out, "{number}");
        }
        Json::Text(text) if text.contains(&b' ') => {
            out.push('"');
            escape(text, out);
            out.push('"');
        }
        Json::Text(text) => escape(text, out),
        Json::List(items) => {
            for (n, item) in items.iter().enumerate() {
                out.push_str(if n > 0 { "," } else { "" });
                write_value(item, out);
            }
        }
        Json::Object(object) => {
            out.push('{');
            write_members(object, &[], out);
            out.push_str(" }");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(line: &str) -> String {
        let mut out = String::new();
        write_line(line.as_bytes(), &mut out);
        out
    }

    #[test]
    fn record_is_one_line_that_hides_nothing() {
        let head = r#"{"seq":7,"prev":"","kind":"event","time":"2026-11-25T15:54:05.617944851Z","boot_ns":1,"node":"n","#;
        let process = r#""process":{"name":"a\u001b[2J","pid":9},"container":{"id":"0123456789abcdef"}"#;
        let open = r#""event":{"kind":"open","type":"openat","result":3,"file":"/a b","file_ino":4,"flags":2,"flags_names":["O_RDWR"]},"#;
        assert_eq!(
            shown(&[head, open, process, "}"].concat()),
            "7 2026-11-25 15:54:05.617944 0123456789ab a\\x1b[2J[9] open type=openat result=3 file=\"/a b\" flags=O_RDWR\n"
        );
        let exec = r#""event":{"kind":"exec","exe":"/bin/sh","args":["sh","-c","x\ny"]},"#;
        assert!(shown(&[head, exec, process, "}"].concat()).ends_with("exec /bin/sh sh -c x\\ny\n"));
        let gap = head.replace("event", "gap") + r#""where":"ring","count":3}"#;
        assert_eq!(shown(&gap), "7 2026-11-25 15:54:05.617944 -            gap where=ring count=3\n");
        let alert = head.replace("event", "alert")
            + r#""priority":"Warning","rule":"R","output":"o\u202e","container":null}"#;
        assert!(shown(&alert).ends_with("host         Warning R: o\\u{202e}\n"));
        assert_eq!(shown("\u{1b}"), "no record: \\x1b\n");
    }
}
