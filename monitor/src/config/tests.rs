//! Settings as people write them, and what is said of what is wrong.

use super::*;

fn codes(text: &str) -> Vec<&'static str> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("taffrail.yaml");
    std::fs::write(&path, text).unwrap();
    match load(Some(&path), &[]) {
        Ok(_) => Vec::new(),
        Err(LoadError::Invalid(found, _)) => found.iter().map(|diagnostic| diagnostic.code).collect(),
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn reference_page_is_fresh() {
    crate::testing::assert_fresh("docs/reference/config.md", &reference());
}

#[test]
fn settings_read_back_what_they_print() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("taffrail.yaml");
    let overrides =
        ["log.dir=/tmp/a: b", "rules.disabled=[a, \"b c\"]", "scope.include=[\"label=a=\\\\*\", image=x]"];
    let overrides = overrides.map(str::to_owned);
    std::fs::write(&path, "{}").unwrap();
    let plain = load(Some(&path), &[]).unwrap();
    let settings = load(Some(&path), &overrides).unwrap();
    assert_eq!(settings.log_dir, Path::new("/tmp/a: b"));
    assert_eq!(settings.rules_disabled, ["a", "b c"]);
    std::fs::write(&path, settings.to_yaml()).unwrap();
    let again = load(Some(&path), &[]).unwrap();
    assert_eq!(again.to_yaml(), settings.to_yaml());
    assert_eq!(again.hash(), settings.hash());
    assert_ne!(again.hash(), Settings::default().hash());
    assert_eq!(again.changed_from(&plain), ["log.dir", "rules.disabled", "scope.include"]);
}

#[test]
fn each_mistake_has_its_code_and_all_are_told_at_once() {
    for (text, expected) in [
        ("", vec![]),
        ("log:\n  dri: x\n", vec!["C101"]),
        ("lgo: 1\n", vec!["C101"]),
        ("log: 7\n", vec!["C102"]),
        ("scope:\n  host: maybe\n", vec!["C102"]),
        ("log:\n  commit_interval_ms: 500\n", vec!["C104"]),
        ("log:\n  segment_bytes: 7 bananas\n", vec!["C102"]),
        ("probes:\n  bulk_ring_bytes: 3MiB\n", vec!["C105"]),
        ("log:\n  record: proc.nmae = x\n", vec!["R201"]),
        ("log:\n  retention_bytes: 1\n", vec!["C106"]),
        ("log:\n  full_disk: panic\n  checkpoint_records: 0\n", vec!["C102", "C104"]),
        ("log:\n  full_disk: drop_oldest\n  anchor: /mnt/a\n  key_dir: \"\"\n", vec![]),
        ("log:\n  dir: ~\n", vec!["C102"]),
        ("syscalls:\n  events: [ptrace, keyctl]\n  flight_recorder: 256\n", vec![]),
        ("syscalls:\n  events: [ptrce, exit_group]\n", vec!["C107", "C107"]),
        ("syscalls:\n  events: ptrace\n", vec!["C102"]),
        ("syscalls:\n  flight_recorder: 100\n", vec!["C108"]),
        ("syscalls:\n  interval_s: 0\n", vec!["C104"]),
        ("scope:\n  include: [image=a, label=b=c]\n  exclude: [runtime=docker]\n", vec![]),
        ("scope:\n  include: [imag=a, \"image=[a\"]\n  exclude: [runtime=x]\n", vec!["C120", "C121", "C121"]),
        ("a: 1\nb: 2\nscope: {host: 3}\n", vec!["C101", "C101", "C102"]),
    ] {
        assert_eq!(codes(text), expected, "{text}");
    }
}

#[test]
fn override_without_a_value_or_for_no_key_is_told() {
    for (text, code) in [("log.dir", "C103"), ("log.folder=x", "C101"), ("scope.host=7", "C102")] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("empty.yaml");
        std::fs::write(&path, "").unwrap();
        let Err(LoadError::Invalid(found, _)) = load(Some(&path), &[text.to_owned()]) else {
            panic!("{text}")
        };
        assert_eq!(found[0].code, code);
    }
}
