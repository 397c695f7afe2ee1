//! The settings as a JSON schema, for editors: made from the tables of keys, as the reference page is.

use serde_json::{Value, json};

/// The schema of a file with these keys (dotted name, type as the reference has it, meaning), and of exporters with
/// those.
pub fn schema<'a>(
    keys: impl Iterator<Item = (&'a str, &'a str, &'a str)>,
    exporter: impl Iterator<Item = (&'a str, &'a str, &'a str)>,
) -> Value {
    let mut root = object();
    for (name, ty, doc) in keys {
        insert(&mut root, name, of_type(ty, doc));
        // A file may have the last two parts in one, `folders.docker`, as `config check` prints them.
        if let Some((head, rest)) = name.split_once('.')
            && rest.contains('.')
        {
            root["properties"][head]["properties"][rest] = of_type(ty, doc);
        }
    }
    let mut one = object();
    for (name, ty, doc) in exporter {
        insert(&mut one, name, of_type(ty, doc));
    }
    one["required"] = json!(["to"]);
    let exporters = json!({
        "type": ["object", "null"], "description": "Exporters, by names of your choice.", "additionalProperties": one,
        "propertyNames": { "pattern": "^[A-Za-z0-9_-]{1,64}$" },
    });
    insert(&mut root, "export", exporters);
    root["$schema"] = "https://json-schema.org/draft/2020-12/schema".into();
    root["title"] = "Settings of Taffrail".into();
    root
}

fn object() -> Value {
    json!({ "type": ["object", "null"], "additionalProperties": false, "properties": {} })
}

/// Puts a value at a dotted name, below objects that are made on the way.
fn insert(root: &mut Value, name: &str, value: Value) {
    let mut at = root;
    let (path, leaf) = name.rsplit_once('.').unwrap_or(("", name));
    for part in path.split('.').filter(|part| !part.is_empty()) {
        at = &mut at["properties"][part];
        if at.is_null() {
            *at = object();
        }
    }
    at["properties"][leaf] = value;
}

/// A type as the reference page tells it.
fn of_type(ty: &str, doc: &str) -> Value {
    let words: Vec<&str> = ty.split('`').skip(1).step_by(2).collect();
    let mut schema = match ty {
        "number" | "milliseconds" | "seconds" => json!({ "type": "integer", "minimum": 0 }),
        "true or false" => json!({ "type": "boolean" }),
        "size" => json!({ "type": ["string", "integer"], "pattern": "^[0-9]+ *(B|KiB|MiB|GiB|TiB)?$" }),
        _ if ty.starts_with("list of ") => json!({ "type": "array", "items": { "type": "string" } }),
        _ if ty.starts_with('`') => json!({ "enum": words }),
        _ => json!({ "type": "string" }),
    };
    schema["description"] = doc.into();
    schema
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::diagnostic::Source;
    use crate::yaml::{self, Kind, Node};

    /// What a schema of the kind above has against a node.
    fn faults(node: &Node, schema: &Value, at: &str) -> Vec<String> {
        let is = |name: &str| {
            schema["type"] == name
                || schema["type"].as_array().is_some_and(|of| of.iter().any(|one| one == name))
        };
        match &node.kind {
            Kind::Mapping(members) if is("object") => members
                .iter()
                .flat_map(|(key, value)| {
                    let name = key.as_text().unwrap();
                    let of = schema["properties"].get(name).unwrap_or(&schema["additionalProperties"]);
                    if of.is_object() {
                        faults(value, of, &format!("{at}.{name}"))
                    } else {
                        vec![format!("{at}.{name} is not known")]
                    }
                })
                .collect(),
            Kind::Sequence(items) if is("array") => {
                items.iter().flat_map(|item| faults(item, &schema["items"], at)).collect()
            }
            Kind::Scalar { text, .. } => {
                let fits = is("string")
                    || is("boolean") && node.as_bool().is_some()
                    || is("integer") && node.as_number().is_some()
                    || is("object") && node.is_null()
                    || schema["enum"]
                        .as_array()
                        .is_some_and(|words| words.iter().any(|word| word == text.as_str()));
                if fits { Vec::new() } else { vec![format!("{at} cannot be {text}")] }
            }
            _ => vec![format!("{at} is of another type")],
        }
    }

    fn checked(text: &str) -> Vec<String> {
        let source = Arc::new(Source { name: "x".to_owned(), text: text.to_owned() });
        let documents = yaml::parse(&source).unwrap();
        documents.iter().flat_map(|node| faults(node, &crate::config::schema(), "")).collect()
    }

    #[test]
    fn schema_takes_all_settings_and_each_example_and_finds_mistakes() {
        let defaults = crate::config::Settings::default();
        assert_eq!(checked(&defaults.to_yaml()), [""; 0]);
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/export");
        for entry in folder.read_dir().unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "yaml") {
                assert_eq!(checked(&std::fs::read_to_string(&path).unwrap()), [""; 0], "{}", path.display());
            }
        }
        for text in [
            "log: {dri: x}",
            "scope: {host: maybe}",
            "probes: {tier: best}",
            "rules: {files: x}",
            "export: {a: {compression: lz4}}",
        ] {
            assert_eq!(checked(text).len(), 1, "{text}");
        }
    }

    /// The schema of all settings but for those that the chart has values of its own for, without descriptions.
    fn schema_of_the_charts_settings() -> Value {
        let mut schema = crate::config::schema();
        strip(&mut schema);
        for key in ["api", "kubernetes", "log.dir", "node.name", "probes.pin", "rules.files"] {
            let place = format!("/properties/{}", key.replace('.', "/properties/"));
            *schema.pointer_mut(&place).unwrap() = false.into();
        }
        schema
    }

    /// Takes out what only tells a person something.
    fn strip(schema: &mut Value) {
        let Some(members) = schema.as_object_mut() else { return };
        members.retain(|name, value| {
            !(["$schema", "description", "title"].contains(&name.as_str()) && value.is_string())
        });
        members.values_mut().for_each(strip);
    }

    #[test]
    fn schema_of_settings_in_the_chart_is_fresh() {
        const FILE: &str = "deploy/chart/values.schema.json";
        let path = format!("{}/../{FILE}", env!("CARGO_MANIFEST_DIR"));
        let text = std::fs::read_to_string(path).unwrap();
        let line = text.lines().find(|line| line.starts_with("    \"config\": ")).unwrap();
        let wanted = format!("    \"config\": {},", schema_of_the_charts_settings());
        crate::testing::assert_fresh(FILE, &text.replacen(line, &wanted, 1));
    }
}
