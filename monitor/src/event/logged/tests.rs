//! A record of the log answers as the event did that it was made of.

use std::collections::{BTreeMap, BTreeSet};

use super::super::field::{FIELDS, Get, Value, Values};
use super::super::json::write_subject;
use super::super::table::tests::subjects;
use super::super::text::escaped;
use super::*;
use crate::enrich::Subject;
use crate::testing::{self, with_subject};

/// The line that an event of the log has.
fn line(subject: &Subject<'_>) -> Vec<u8> {
    let time = crate::clock::rfc3339(subject.time_ns);
    let mut line = b"{\"seq\":1,\"prev\":\"\",\"kind\":\"event\",\"time\":\"".to_vec();
    line.extend_from_slice(time.as_bytes());
    line.extend_from_slice(
        format!("\",\"boot_ns\":{},\"node\":\"n\",", subject.event.header().boot_ns).as_bytes(),
    );
    write_subject(subject, &mut line);
    line.push(b'}');
    line
}

fn shown(value: &Value<'_>) -> String {
    match value {
        Value::Number(number) => number.to_string(),
        Value::Bool(bool) => bool.to_string(),
        Value::Address(address) => address.to_string(),
        Value::Text(_) | Value::Inline(_) => escaped(value.text().unwrap_or_default()),
    }
}

fn all(values: &impl Values, field: &'static Field) -> Vec<String> {
    let mut all = Vec::new();
    values.any(field, None, &mut |value| {
        all.push(shown(&value));
        false
    });
    all
}

#[test]
fn each_field_of_the_log_has_the_values_that_the_event_had() {
    let mut wrong = BTreeMap::new();
    let mut seen = BTreeSet::new();
    for records in subjects() {
        with_subject(&records, |subject| {
            let line = line(subject);
            let record = Record::parse(&line).unwrap();
            for field in FIELDS {
                let Some(Logged { place, .. }) = of_field(field.name) else { continue };
                let (was, is) = (all(subject, field), all(&record, field));
                let is_there = match place {
                    Where::Everywhere => true,
                    Where::Kinds(kinds) => kinds.split(", ").any(|kind| kind == subject.event.kind()),
                    Where::Containers => false,
                };
                // The machine that the test runs on is not the log's.
                if is_there && was != is && field.name != "evt.hostname" {
                    wrong.entry(field.name).or_insert_with(|| {
                        format!(
                            "{} {}: {was:?} {is:?}",
                            subject.event.kind(),
                            subject.event.model().type_name()
                        )
                    });
                }
                if is_there && !is.is_empty() {
                    seen.insert(field.name);
                }
            }
        });
    }
    assert_eq!(wrong, BTreeMap::new());
    let unseen: Vec<_> = FIELDS
        .iter()
        .filter(|field| {
            of_field(field.name).is_some_and(|logged| logged.place != Where::Containers)
                && !field.name.starts_with("evt.arg.")
                && !field.name.starts_with("evt.rawarg.")
                && !seen.contains(field.name)
        })
        .map(|field| field.name)
        .collect();
    // What no sample has.
    assert_eq!(
        unseen,
        ["proc.exe_sha256_missing", "proc.exec_session", "thread.cap_inheritable", "user.loginname"]
    );
}

#[test]
fn each_name_in_the_table_is_that_of_a_field() {
    let names: BTreeSet<_> =
        FIELDS.iter().filter(|field| !matches!(field.get, Get::Nothing)).map(|field| field.name).collect();
    let unknown: Vec<_> = fields::names().filter(|name| !names.contains(name)).collect();
    assert_eq!(unknown, [""; 0]);
}

#[test]
fn container_record_has_what_the_container_was_given() {
    use crate::enrich::container::{Container, Runtime};
    let container = Container::new("c".repeat(64), Runtime::Docker, None, "/web".into());
    assert!(container.metadata.set(testing::metadata()));
    let mut line = b"{\"seq\":1,\"prev\":\"\",\"kind\":\"container\",".to_vec();
    super::super::json::write_whole_container(&container, &[], &mut line);
    line.push(b'}');
    let record = Record::parse(&line).unwrap();
    let value = |name: &str| {
        let (name, key) = name.strip_suffix(']').and_then(|name| name.split_once('[')).unwrap_or((name, ""));
        let field = super::super::field::find(name).unwrap();
        if key.is_empty() {
            all(&record, field).join(" ")
        } else {
            shown(&record.keyed(field, key.as_bytes()).unwrap())
        }
    };
    for (name, expected) in [
        ("container.id", "cccccccccccc"),
        ("container.image.id", "eeeeeeeeeeee"),
        ("container.image.tag", "1.2"),
        ("container.privileged", "false"),
        ("container.label[app]", "web"),
        ("container.annotation[note]", "a"),
        ("container.mount.dest[/srv/*]", "/data"),
        ("container.mount.source[0]", "/srv/data"),
        ("container.capabilities", "CAP_CHOWN"),
        ("k8s.pod.label[app.kubernetes.io/name]", "web"),
        ("k8s.pod.sandbox_id", "ffffffffffff"),
        ("k8s.pod.is_sandbox", "false"),
        ("proc.name", ""),
    ] {
        assert_eq!(value(name), expected, "{name}");
    }
}

#[test]
fn line_that_is_no_record_has_no_values_and_does_no_harm() {
    let deep = "[".repeat(100_000);
    let wide = format!("{{\"event\":[{}0]}}", "0,".repeat(100_000));
    for line in ["", "null", "7", "[]", "{", "{\"a\":1e400}", &deep, "{\"event\":7}", &wide, "\u{0}"] {
        if let Some(record) = Record::parse(line.as_bytes()) {
            assert!(FIELDS.iter().all(|field| all(&record, field).is_empty()), "{:.40}", line);
        }
    }
    let odd = Record::parse(br#"{"event":{"kind":"exec","exe_hex":"zz","args":7,"args_hex":"61"},"process":{},"container":{"id":9},"time":"-"}"#);
    let odd = odd.unwrap();
    assert!(FIELDS.iter().all(|field| all(&odd, field).iter().all(|value| value.len() < 20)));
}

#[test]
fn label_cannot_pass_for_the_exact_bytes_of_another() {
    let line = br#"{"container":{"name":"a","name_hex":"62","labels":{"app":"web","app_hex":"6576696c"}}}"#;
    let record = Record::parse(line).unwrap();
    let container = record.container().unwrap();
    assert_eq!(container.text("name"), Some(&b"b"[..]));
    assert_eq!(container.object("labels").unwrap().text("app"), Some(&b"web"[..]));
}

#[test]
fn object_of_too_many_members_is_no_record() {
    let members: Vec<String> = (0..100_000).map(|n| format!("\"{n}_hex\":\"\"")).collect();
    assert_eq!(Record::parse(format!("{{{}}}", members.join(",")).as_bytes()), None);
}

#[test]
fn page_of_fields_that_a_search_can_use_is_fresh() {
    let names = |is_wanted: &dyn Fn(Option<Where>) -> bool| -> String {
        let with_values = FIELDS.iter().filter(|field| !matches!(field.get, Get::Nothing));
        let wanted = with_values.filter(|field| is_wanted(of_field(field.name).map(|logged| logged.place)));
        wanted.map(|field| format!("`{}`", field.name)).collect::<Vec<_>>().join(", ")
    };
    let mut page = String::from(
        "# Fields in the log\n\nWhich [fields](fields.md) a [search of the log](../audit-search.md) can use. All but those that are \
         named here.\n\n## Not in the log\n\nA condition with one of them is an error.\n\n",
    );
    page.push_str(&names(&|place| place.is_none()));
    page.push_str("\n\n## Only in some records\n\nA condition with one of them finds fewer records than a rule would match, and warns.\n");
    for (title, place) in [
        ("`exec` events", Where::Kinds("exec")),
        ("`exec` and `cred` events", Where::Kinds("exec, cred")),
        ("`exit` events", Where::Kinds("exit")),
        ("`container` records", Where::Containers),
    ] {
        page.push_str(&format!("\nOnly in {title}: {}.\n", names(&|of| of == Some(place))));
    }
    testing::assert_fresh("docs/reference/log-fields.md", &page);
}
