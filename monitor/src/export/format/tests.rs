//! Formats against their published definitions (`definition/`), and read back by parsers of the tests' own whatever the
//! texts are.

use std::collections::BTreeMap;

use opentelemetry_proto::tonic::common::v1::any_value;
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use prost::Message as _;
use serde_json::{Map, Value, json};

use super::*;
use crate::event::text::escaped;
use crate::export::cut::Cut;

/// One event of each kind, whole, from the page of examples.
fn events() -> Vec<Map<String, Value>> {
    let page = include_str!("../../../../docs/reference/examples.md");
    let blocks = page.split("```json\n").skip(1).filter_map(|rest| rest.split("```").next());
    let mut events: Vec<Map<String, Value>> =
        blocks.map(|block| serde_json::from_str(block).unwrap()).collect();
    let first = events[0].clone();
    for event in &mut events {
        for (name, value) in &first {
            event.entry(name).or_insert_with(|| value.clone());
        }
        if event["event"]["kind"] != "exec" {
            event["process"]["cmdline"] = json!("sh -c true");
        }
    }
    assert!(events.len() > 25);
    events
}

/// A record as the log has it.
fn record(seq: u64, kind: &str, members: Map<String, Value>) -> Value {
    let mut whole = json!({
        "seq": seq, "prev": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08", "kind": kind,
        "time": "2026-11-24T12:00:00.123456789Z", "boot_ns": 5_000_000_000u64, "node": "node-1",
        "boot_id": "5c3b2a10-0000-4000-8000-000000000001",
    });
    whole.as_object_mut().unwrap().extend(members);
    whole
}

fn alert(event: &Map<String, Value>) -> Value {
    let mut members = event.clone();
    let alert = json!({
        "rule": "Shell in a container", "priority": "Warning", "output": "a shell (user=root)",
        "tags": ["container", "mitre_execution", "T1059.004", "T1609"], "suppressed": 3,
        "evidence": { "by": { "container.id": "x" }, "count": 3, "first_boot_ns": 1, "last_boot_ns": 2 },
    });
    members.extend(alert.as_object().unwrap().clone());
    record(8, "alert", members)
}

/// Records of all kinds: each kind of event, each as an alert, and what the log says about itself.
fn records() -> Vec<Value> {
    let mut all: Vec<Value> = events().into_iter().map(|event| record(7, "event", event)).collect();
    all.extend(events().iter().map(alert));
    let container = events()[0]["container"].clone();
    let of = |value: Value| value.as_object().unwrap().clone();
    let labelled = {
        let mut container = of(container.clone());
        container.insert("labels".into(), json!({ "app": "web", "a.b/c": "d" }));
        container.insert("image_digest".into(), json!("sha256:00"));
        Value::from(container)
    };
    for kind in crate::audit::RecordKind::ALL {
        let members = match kind.name() {
            "event" | "alert" => continue,
            "start" => json!({ "version": "0.1.0", "pid": 1, "config_sha256": "00" }),
            "gap" => {
                json!({ "where": "ring", "what": "open", "count": 5, "from_boot_ns": 1, "to_boot_ns": 2, "cgroup_id": 7, "container": container })
            }
            "container" => json!({ "container": labelled }),
            "api" => json!({
                "by": "token", "name": "prometheus", "from": "10.0.0.1", "method": "GET", "path": "/metrics", "status": 200,
                "count": 4, "from_boot_ns": 1, "to_boot_ns": 2,
            }),
            "rules" => json!({ "result": "loaded", "rules": 79, "sha256": "00" }),
            "suppressed" => {
                json!({ "rule": "Shell in a container", "count": 4, "container": null, "group": { "a": "b" } })
            }
            _ => json!({}),
        };
        all.push(record(1, kind.name(), of(members)));
    }
    // One that is about no event.
    let refused = json!({
        "rule": "API access refused", "priority": "Warning", "output": "API access refused: unknown token",
        "tags": ["network", "mitre_credential_access", "T1110"], "access": { "by": "none", "from": "10.0.0.1" },
    });
    all.push(record(2, "alert", of(refused)));
    all
}

fn encoded_in(name: &str, line: &str, max: usize) -> Vec<u8> {
    let record = Record::parse(line.as_bytes()).unwrap();
    let mut out = b"before".to_vec();
    assert!(Format::named(name).unwrap().encode(&record, max, &mut out), "{name}: {line}");
    assert!(out.starts_with(b"before"));
    out.split_off(6)
}

fn encoded(name: &str, line: &str) -> Vec<u8> {
    encoded_in(name, line, usize::MAX)
}

fn encoded_json(name: &str, line: &str) -> Value {
    let text = encoded(name, line);
    serde_json::from_slice(&text).unwrap_or_else(|error| panic!("{name}: {error}: {}", text.escape_ascii()))
}

/// What OCSF's definition has against an object; empty if nothing.
fn ocsf_faults(value: &Value, shape: &Value, objects: &Value, profiles: &[&str], at: &str) -> Vec<String> {
    let Some(members) = value.as_object() else { return vec![format!("{at} is no object")] };
    let attributes = shape["attributes"].as_object().unwrap();
    let mut faults = Vec::new();
    for (name, attribute) in attributes {
        let of_profile = attribute["profiles"].as_array();
        let applies =
            of_profile.is_none_or(|of| of.iter().any(|name| profiles.contains(&name.as_str().unwrap())));
        if applies && attribute["is"] == "required" && !members.contains_key(name) {
            faults.push(format!("{at}.{name} is missing"));
        }
        if !applies && members.contains_key(name) {
            faults.push(format!("{at}.{name} is of another profile"));
        }
    }
    if let Some(names) = shape["constraints"]["at_least_one"].as_array()
        && !names.iter().any(|name| members.contains_key(name.as_str().unwrap()))
    {
        faults.push(format!("{at} has none of {names:?}"));
    }
    for (name, value) in members {
        let at = format!("{at}.{name}");
        let Some(attribute) = attributes.get(name) else {
            faults.push(format!("{at} is not defined"));
            continue;
        };
        let values = match (attribute["array"] == true, value) {
            (true, Value::Array(values)) => values.iter().collect(),
            (true, _) => {
                faults.push(format!("{at} is no list"));
                continue;
            }
            (false, value) => vec![value],
        };
        for value in values {
            let kind = attribute["type"].as_str().unwrap();
            if attribute["object"] == true {
                // `object` is any object at all.
                match &objects[kind] {
                    _ if kind == "object" && value.is_object() => {}
                    Value::Null => faults.push(format!("{at}: object {kind} is not in the extract")),
                    shape => faults.extend(ocsf_faults(value, shape, objects, profiles, &at)),
                }
                continue;
            }
            let fits = match kind {
                "integer" | "long" | "timestamp" => value.is_i64(),
                "port" => value.as_u64().is_some_and(|port| port <= 65_535),
                "boolean" => value.is_boolean(),
                "ip" => value.as_str().is_some_and(|ip| ip.parse::<std::net::IpAddr>().is_ok()),
                "uuid" => value.as_str().is_some_and(|text| text.len() == 36),
                "json" => true,
                _ => value.is_string(),
            };
            let is_allowed = attribute["enum"].as_array().is_none_or(|allowed| {
                let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                allowed.iter().any(|allowed| allowed == text.as_str())
            });
            if !fits || !is_allowed {
                faults.push(format!("{at} cannot be {value}"));
            }
        }
    }
    faults
}

#[test]
fn each_record_is_an_object_of_its_ocsf_class() {
    let definition: Value = serde_json::from_str(include_str!("definition/ocsf.json")).unwrap();
    assert_eq!(definition["version"], ocsf::VERSION);
    let mut classes = std::collections::BTreeSet::new();
    for whole in records() {
        let line = whole.to_string();
        let object = encoded_json("ocsf", &line);
        let uid = object["class_uid"].to_string();
        let profiles = object["metadata"]["profiles"].as_array().unwrap();
        let profiles: Vec<&str> = profiles.iter().filter_map(Value::as_str).collect();
        let faults =
            ocsf_faults(&object, &definition["classes"][&uid], &definition["objects"], &profiles, &uid);
        assert_eq!(faults, [""; 0], "{line}\n{object:#}");
        assert_eq!(
            object["type_uid"],
            json!(object["class_uid"].as_u64().unwrap() * 100 + object["activity_id"].as_u64().unwrap())
        );
        classes.insert(uid);
    }
    let all = ["1001", "1002", "1003", "1004", "1007", "1008", "2004", "4001", "4003"];
    assert_eq!(classes.iter().map(String::as_str).collect::<Vec<_>>(), all);
}

#[test]
fn schema_check_finds_what_is_wrong() {
    let definition: Value = serde_json::from_str(include_str!("definition/ocsf.json")).unwrap();
    let good = encoded_json("ocsf", &record(7, "event", events()[0].clone()).to_string());
    let faults = |change: fn(&mut Value)| {
        let mut bad = good.clone();
        change(&mut bad);
        ocsf_faults(&bad, &definition["classes"]["1007"], &definition["objects"], PROFILES, "x").len()
    };
    const PROFILES: &[&str] = &["container", "host", "linux/linux_users"];
    assert_eq!(faults(|_| ()), 0);
    assert_eq!(faults(|bad| bad["nonsense"] = json!(1)), 1);
    assert_eq!(faults(|bad| bad["severity_id"] = json!(7)), 1);
    assert_eq!(faults(|bad| bad["process"]["pid"] = json!("7")), 1);
    assert_eq!(faults(|bad| drop(bad["device"].as_object_mut().unwrap().remove("type_id"))), 1);
    assert_eq!(faults(|bad| bad["process"]["container"] = json!({ "runtime": "x" })), 1);
}

/// Names and values of nested objects.
fn leaves(value: &Value, at: &str, found: &mut Vec<(String, Value)>) {
    match value {
        Value::Object(members) => members.iter().for_each(|(name, value)| {
            leaves(value, &if at.is_empty() { name.clone() } else { format!("{at}.{name}") }, found);
        }),
        value => found.push((at.to_owned(), value.clone())),
    }
}

#[test]
fn each_record_is_a_document_of_ecs() {
    let definition: Value = serde_json::from_str(include_str!("definition/ecs.json")).unwrap();
    for whole in records() {
        let line = whole.to_string();
        let document = encoded_json("ecs", &line);
        assert_eq!(document["ecs"]["version"], definition["version"]);
        let mut found = Vec::new();
        leaves(&document, "", &mut found);
        for (name, value) in found.iter().filter(|(name, _)| !name.starts_with("taffrail.")) {
            let field = &definition["fields"][name];
            assert!(field.is_object(), "{name} is no field: {line}");
            let values = value.as_array().cloned().unwrap_or_else(|| vec![value.clone()]);
            assert_eq!(value.is_array(), field["array"] == true, "{name}: {value}");
            for value in values {
                let fits = match field["type"].as_str().unwrap() {
                    "long" => value.is_i64(),
                    "date" => value.as_str().is_some_and(|text| text.parse::<jiff::Timestamp>().is_ok()),
                    "ip" => value.as_str().is_some_and(|text| text.parse::<std::net::IpAddr>().is_ok()),
                    "object" => value.is_object(),
                    "keyword" | "wildcard" | "match_only_text" => value.is_string(),
                    other => panic!("{name} is a {other}"),
                };
                assert!(fits, "{name} cannot be {value}");
                if let Some(allowed) = field["values"].as_array() {
                    assert!(allowed.contains(&value), "{name} cannot be {value}");
                }
            }
        }
    }
}

#[test]
fn attributes_of_otlp_are_semantic_conventions_or_our_own() {
    let definition: Value = serde_json::from_str(include_str!("definition/otel.json")).unwrap();
    for whole in records() {
        let line = whole.to_string();
        let log = LogRecord::decode(&*encoded("otlp", &line)).unwrap();
        let mut names = std::collections::BTreeSet::new();
        for attribute in &log.attributes {
            let known = definition["attributes"].as_array().unwrap().contains(&json!(attribute.key));
            assert!(known || attribute.key.starts_with("taffrail."), "{}", attribute.key);
            assert!(names.insert(&attribute.key), "{} twice", attribute.key);
        }
        assert_eq!(log.time_unix_nano, 1_795_521_600_123_456_789);
        assert!(!log.event_name.is_empty() && log.severity_number > 0);
    }
}

#[test]
fn falcos_form_has_what_its_readers_need() {
    let line = alert(&events()[0]).to_string();
    let object = encoded_json("falco", &line);
    assert_eq!(object["rule"], "Shell in a container");
    assert_eq!(object["priority"], "Warning");
    assert_eq!(object["output"], "2026-11-24T12:00:00.123456789Z: Warning a shell (user=root)");
    assert_eq!(object["tags"][1], "mitre_execution");
    assert_eq!(object["time"], "2026-11-24T12:00:00.123456789Z");
    assert_eq!((&object["source"], &object["hostname"]), (&json!("syscall"), &json!("node-1")));
    let fields = object["output_fields"].as_object().unwrap();
    assert_eq!(fields["evt.time"], 1_795_521_600_123_456_789i64);
    assert_eq!(fields["proc.name"], "cat");
    assert_eq!(fields["container.id"], "0123456789ab");
    assert_eq!(fields["container.image.repository"], "registry.example:5000/shop/web");
    assert_eq!(fields["k8s.ns.name"], "shop");
    // Its side-car takes texts and numbers.
    let known = fields.iter().filter(|(name, _)| !name.starts_with("taffrail."));
    assert!(known.clone().all(|(_, value)| value.is_string() || value.is_number()), "{fields:?}");
    assert!(known.count() > 25);
}

#[test]
fn native_json_is_the_line_itself() {
    for whole in records() {
        let line = whole.to_string();
        assert_eq!(encoded("json", &line), line.as_bytes());
    }
}

/// A line of CEF, read as its standard says: seven fields of the header, then keys.
fn read_cef(text: &str) -> (Vec<String>, BTreeMap<String, String>) {
    assert!(!text.chars().any(char::is_control), "{text:?}");
    let mut fields = vec![String::new()];
    let mut chars = text.chars();
    while fields.len() < 8 {
        match chars.next().unwrap() {
            '\\' => fields.last_mut().unwrap().push(chars.next().unwrap()),
            '|' => fields.push(String::new()),
            char => fields.last_mut().unwrap().push(char),
        }
    }
    fields.pop();
    let extension: Vec<char> = chars.collect();
    // A key ends at each `=` without a backslash before it, and begins behind the last space.
    let mut pairs: Vec<(String, String)> = Vec::new();
    let mut text = String::new();
    let mut n = 0;
    while n < extension.len() {
        match extension[n] {
            '\\' => {
                n += 1;
                text.push(extension[n]);
            }
            '=' => {
                let (value, key) =
                    text.rsplit_once(' ').map_or(("", text.as_str()), |(value, key)| (value, key));
                assert!(!key.is_empty() && key.chars().all(|char| char.is_ascii_alphanumeric()), "{key:?}");
                if let Some((_, last)) = pairs.last_mut() {
                    value.clone_into(last);
                }
                pairs.push((key.to_owned(), String::new()));
                text.clear();
            }
            char => text.push(char),
        }
        n += 1;
    }
    pairs.last_mut().unwrap().1 = text;
    let count = pairs.len();
    let pairs: BTreeMap<String, String> = pairs.into_iter().collect();
    assert_eq!(pairs.len(), count, "a key is there twice");
    (fields, pairs)
}

/// A line of LEEF 2.0: the header's fields, and the attributes.
fn read_leef(text: &str) -> (Vec<String>, BTreeMap<String, String>) {
    assert!(!text.chars().any(|char| char.is_control() && char != '\t'), "{text:?}");
    let mut parts = text.splitn(7, '|');
    let header: Vec<String> = parts.by_ref().take(6).map(str::to_owned).collect();
    assert_eq!((header[0].as_str(), header[5].as_str()), ("LEEF:2.0", "x09"));
    let attributes = parts.next().unwrap().split('\t').map(|pair| pair.split_once('=').unwrap());
    let attributes: Vec<(String, String)> =
        attributes.map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
    let count = attributes.len();
    let attributes: BTreeMap<String, String> = attributes.into_iter().collect();
    assert_eq!(attributes.len(), count, "a key is there twice");
    (header, attributes)
}

#[test]
fn cef_and_leef_of_each_record_can_be_read() {
    for whole in records() {
        let line = whole.to_string();
        let (header, keys) = read_cef(std::str::from_utf8(&encoded("cef", &line)).unwrap());
        assert_eq!(header[..3], ["CEF:0", "Taffrail", "Monitor"]);
        assert!(header[6].parse::<u8>().unwrap() <= 10);
        assert!(keys["externalId"].len() <= 40 && keys["rt"] == "1795521600123");
        for key in ["spid", "dpt", "spt", "dpid"] {
            assert!(keys.get(key).is_none_or(|value| value.parse::<u32>().is_ok()), "{keys:?}");
        }
        let (_, attributes) = read_leef(std::str::from_utf8(&encoded("leef", &line)).unwrap());
        assert_eq!(attributes["devTime"], "2026-11-24T12:00:00.123Z");
        assert!((1..=10).contains(&attributes["sev"].parse::<u8>().unwrap()));
    }
}

/// Texts that try to get out of where they are.
pub fn hostile() -> Vec<String> {
    let mut texts: Vec<String> = [
        "\",\"x\":\"",
        "\\",
        "\\\\\\",
        "\\\"",
        "a|b|c",
        "a=b",
        " x=y z=",
        "\tsev=10\teventId=1",
        "\n",
        "\r\n<13>1 - - - - - - x",
        "]",
        "[a b=\"c\"]",
        "\u{0}",
        "\u{1b}[2J",
        "\u{202e}abc",
        "ä…\u{1f980}",
        "}}},{",
        "{\"index\":{}}\n",
        "",
        " ",
        "%s%n${jndi:x}",
        "\\x1b",
        "cs1=evil cs1Label=",
        "x\\=y\\|z",
        "\u{feff}",
        "\u{2028}",
    ]
    .map(str::to_owned)
    .into();
    let mut state = 9u64;
    for _ in 0..300 {
        let mut text = String::new();
        for _ in 0..(state >> 59) {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            match (state >> 61, char::from_u32((state >> 33) as u32 % 0x11_0000)) {
                (0 | 1, Some(char)) => text.push(char),
                _ => text.push(b"\\|=\n\r\t\"]{} ,:a\0\x1b"[(state >> 40) as usize % 16] as char),
            }
        }
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        texts.push(text);
    }
    texts
}

/// An alert whose texts that others choose are all the same.
pub fn chosen(text: &str) -> String {
    let mut event = events()[3].clone();
    for name in ["name", "exe", "cmdline", "user", "group", "thread_name", "parent_name", "parent_exe"] {
        event["process"][name] = json!(text);
    }
    for name in ["file", "cwd", "text"] {
        event["event"][name] = json!(text);
    }
    for name in ["name", "runtime", "image_digest", "pod_name", "pod_namespace"] {
        event["container"][name] = json!(text);
    }
    event.insert("target".into(), json!({ "name": text, "exe": text }));
    let mut whole = alert(&event);
    for name in ["rule", "output", "node"] {
        whole[name] = json!(text);
    }
    whole.to_string()
}

#[test]
fn whatever_a_text_holds_json_formats_have_it_in_its_place_and_no_member_more() {
    for format in ["json", "falco", "ecs", "ocsf"] {
        let names = |object: &Value| {
            let mut found = Vec::new();
            leaves(object, "", &mut found);
            found.into_iter().map(|(name, _)| name).collect::<Vec<_>>()
        };
        let expected = names(&encoded_json(format, &chosen("text")));
        for text in hostile() {
            let line = chosen(&text);
            let bytes = encoded(format, &line);
            assert!(!bytes.iter().any(u8::is_ascii_control), "{text:?}");
            let object: Value = serde_json::from_slice(&bytes).unwrap();
            assert_eq!(names(&object), expected, "{format} {text:?}");
            let place = match format {
                "json" => &object["process"]["exe"],
                "falco" => &object["output_fields"]["proc.exepath"],
                "ecs" => &object["process"]["executable"],
                _ => &object["evidences"][0]["actor"]["process"]["file"]["path"],
            };
            assert_eq!(place, &json!(text), "{format}");
        }
    }
}

#[test]
fn whatever_a_text_holds_cef_and_leef_have_it_in_its_place_and_no_key_more() {
    let keys = |pairs: &BTreeMap<String, String>| pairs.keys().cloned().collect::<Vec<_>>();
    let plain = chosen("text");
    let (_, cef) = read_cef(&String::from_utf8(encoded("cef", &plain)).unwrap());
    let (_, leef) = read_leef(&String::from_utf8(encoded("leef", &plain)).unwrap());
    for text in hostile() {
        let line = chosen(&text);
        let (header, found) = read_cef(&String::from_utf8(encoded("cef", &line)).unwrap());
        assert_eq!(keys(&found), keys(&cef), "{text:?}");
        assert_eq!(header[5], escaped(text.as_bytes()));
        for key in ["sproc", "filePath", "cs5", "suser", "msg", "dvchost", "TaffrailMonitorContainerName"] {
            assert_eq!(found[key], escaped(text.as_bytes()), "{key}");
        }
        let (header, found) = read_leef(&String::from_utf8(encoded("leef", &line)).unwrap());
        assert_eq!(keys(&found), keys(&leef), "{text:?}");
        assert_eq!(header[4], escaped(text.as_bytes()).replace('|', "\\x7c"));
        for key in ["processName", "filePath", "usrName", "msg", "containerName"] {
            assert_eq!(found[key], escaped(text.as_bytes()), "{key}");
        }
    }
}

#[test]
fn whatever_a_text_holds_otlp_has_it_as_it_is() {
    for text in hostile() {
        let log = LogRecord::decode(&*encoded("otlp", &chosen(&text))).unwrap();
        let value = |key: &str| {
            let attribute = log.attributes.iter().find(|attribute| attribute.key == key)?;
            match attribute.value.as_ref()?.value.as_ref()? {
                any_value::Value::StringValue(text) => Some(text.as_str()),
                _ => None,
            }
        };
        for key in ["process.executable.path", "file.path", "container.name", "security_rule.name"] {
            assert_eq!(value(key), Some(text.as_str()), "{key}");
        }
    }
}

#[test]
fn names_of_members_that_others_chose_stay_names() {
    for name in hostile() {
        let mut container = events()[0]["container"].clone();
        container["labels"] = json!({ name.as_str(): "x" });
        container[format!("z{name}")] = json!("x");
        let line = record(9, "container", json!({ "container": container }).as_object().unwrap().clone())
            .to_string();
        for format in ["json", "falco", "ecs", "ocsf"] {
            encoded_json(format, &line);
        }
        LogRecord::decode(&*encoded("otlp", &line)).unwrap();
        let text = String::from_utf8(encoded("cef", &line)).unwrap();
        assert!(!text.contains('\n'));
        String::from_utf8(encoded("leef", &line)).unwrap();
    }
}

#[test]
fn record_that_is_too_large_is_cut_in_each_format_and_says_so() {
    let mut event = events()[0].clone();
    event["event"]["args"] = json!(vec!["ä".repeat(40); 200]);
    event["process"]["exe"] = json!("/x".repeat(3000));
    let line = alert(&event).to_string();
    for Format { name, .. } in FORMATS {
        for max in [20_000, 8192, 3000] {
            let out = encoded_in(name, &line, max);
            assert!(out.len() <= max, "{name}: {}", out.len());
            let text = String::from_utf8_lossy(&out).into_owned();
            assert!(text.contains("…["), "{name} {max}: {text}");
            if Format::named(name).unwrap().is_json {
                serde_json::from_slice::<Value>(&out).unwrap();
            }
        }
        let record = Record::parse(line.as_bytes()).unwrap();
        let mut out = b"x".to_vec();
        assert!(!Format::named(name).unwrap().encode(&record, 100, &mut out));
        assert_eq!(out, b"x");
    }
    let object: Value = serde_json::from_slice(&encoded_in("ocsf", &line, 8192)).unwrap();
    assert_eq!(object["metadata"]["is_truncated"], true);
    assert_eq!(object["metadata"]["untruncated_size"], line.len());
}

#[test]
fn line_that_is_no_record_is_told_apart() {
    for line in [
        "",
        "{",
        "[]",
        "7",
        "{\"seq\":1}",
        "{\"seq\":-1,\"kind\":\"x\",\"time\":\"2026-11-24T12:00:00Z\"}",
        "\u{0}",
    ] {
        assert!(Record::parse(line.as_bytes()).is_err(), "{line}");
    }
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    assert!(Record::parse(deep.as_bytes()).is_err());
}

#[test]
fn id_of_a_record_is_its_place_in_the_chain() {
    let id = |whole: &Value| {
        let line = whole.to_string();
        Record::parse(line.as_bytes()).unwrap().id()
    };
    assert_eq!(id(&record(7, "stop", Map::new())), "9f86d081884c7d65-7");
    assert_eq!(id(&record(1, "start", Map::new())), "5c3b2a1000004000-1");
    assert!(id(&record(u64::MAX, "stop", Map::new())).len() <= 40);
}

#[test]
fn cut_of_nothing_is_the_first_step() {
    assert_eq!(Cut::STEPS[0], Cut::NOTHING);
}
