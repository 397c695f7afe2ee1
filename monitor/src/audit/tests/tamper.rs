//! What somebody who can write to the folder may do to a log, and how it is found.

use super::oracle::{Judge, code};
use super::*;
use crate::audit::disk::RealDisk;
use crate::audit::hex::push_hex;
use crate::audit::key::{Epoch, Keys, PublicKey};
use crate::audit::merkle::Tree;
use crate::audit::prove::{self, Refused, prove};
use crate::audit::record::Head;
use crate::audit::succession;
use crate::audit::witness::Witness;
use sha2::{Digest as _, Sha256};
use std::sync::Arc;

/// Where an anchor is, beside the log.
fn anchor(folder: &Path) -> PathBuf {
    folder.with_extension("anchor")
}

/// Policy under which each batch has a key of its own, and every third or so a segment.
fn lively(folder: &Path) -> Options {
    let mut options = options(folder);
    options.policy.key_interval = Duration::from_nanos(1);
    options.policy.segment_bytes = 4_000;
    options.policy.anchor = Some(anchor(folder));
    options
}

/// Writes records in batches of their own.
fn write_one_by_one(options: Options, count: usize) {
    let log = Log::open(options).unwrap();
    for body in bodies(count) {
        let before = log.stats().durable_seq.load(Ordering::Acquire);
        log.append(Entry { kind: RecordKind::Alert, time_ns: 7, boot_ns: 7, body: body.as_bytes() });
        while log.stats().durable_seq.load(Ordering::Acquire) == before {
            std::thread::yield_now();
        }
    }
    log.close().unwrap();
}

/// A log with several segments and epochs, and its parent folder.
fn lively_log() -> (tempfile::TempDir, PathBuf) {
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("log");
    write_one_by_one(lively(&folder), 24);
    (parent, folder)
}

fn segments(folder: &Path) -> Vec<PathBuf> {
    crate::audit::segment::list(folder).unwrap().into_iter().map(|segment| segment.path).collect()
}

fn lines(path: &Path) -> Vec<String> {
    std::fs::read_to_string(path).unwrap().lines().map(str::to_owned).collect()
}

fn store(path: &Path, lines: &[String]) {
    std::fs::write(path, lines.iter().map(|line| format!("{line}\n")).collect::<String>()).unwrap();
}

fn first_key(folder: &Path) -> PublicKey {
    crate::audit::hex::from_hex(check(folder).epochs[0].key.as_bytes()).unwrap()
}

/// The only secret that is left.
fn secret(folder: &Path) -> Epoch {
    let keys = Keys::open(Arc::new(RealDisk), &folder.join("keys")).unwrap();
    let numbers = keys.numbers().unwrap();
    assert_eq!(numbers.len(), 1, "older secrets are erased");
    keys.load(numbers[0]).unwrap().unwrap()
}

#[test]
fn every_changed_bit_is_found() {
    let (folder, segment) = small();
    let mut judge = Judge::new("every_changed_bit_is_found");
    let good = std::fs::read(&segment).unwrap();
    assert_eq!(judge.plain(folder.path(), "unchanged"), 0);
    for at in 0..good.len() {
        for bit in 0..8 {
            let mut bad = good.clone();
            bad[at] ^= 1 << bit;
            std::fs::write(&segment, &bad).unwrap();
            let what = format!("byte {at}, bit {bit} of {}", good.len());
            // The other verifier takes too long for all of them.
            let sampled = (at * 8 + bit) % 29 == 0;
            let found = if sampled { judge.plain(folder.path(), &what) } else { code(&check(folder.path())) };
            assert_ne!(found, 0, "{what}");
        }
    }
}

#[test]
fn log_cut_at_any_byte_is_not_whole_until_it_goes_on_and_tells() {
    let (folder, segment) = small();
    let mut judge = Judge::new("log_cut_at_any_byte_is_not_whole_until_it_goes_on_and_tells");
    let good = std::fs::read(&segment).unwrap();
    for cut in 0..good.len() {
        std::fs::write(&segment, &good[..cut]).unwrap();
        assert_ne!(judge.plain(folder.path(), &format!("cut at {cut}")), 0);
    }
}

#[test]
fn log_cut_anywhere_goes_on_says_so_and_verifies() {
    let (folder, segment) = small();
    let mut judge = Judge::new("log_cut_anywhere_goes_on_says_so_and_verifies");
    let good = std::fs::read(&segment).unwrap();
    let secret = folder.path().join("keys/1.secret");
    let digits = std::fs::read(&secret).unwrap();
    for cut in (0..good.len()).step_by(7) {
        std::fs::remove_dir_all(folder.path()).unwrap();
        std::fs::create_dir_all(secret.parent().unwrap()).unwrap();
        std::fs::write(&secret, &digits).unwrap();
        std::fs::write(&segment, &good[..cut]).unwrap();
        let first_line = good.iter().position(|&byte| byte == b'\n').unwrap();
        write(options(folder.path()), bodies(2));
        let report = check(folder.path());
        let what = format!("cut at {cut}: {report:?}");
        assert!(report.tampered.is_empty(), "{what}");
        assert_eq!(report.kinds.get("recovery"), Some(&1), "{what}");
        if cut > first_line {
            assert_eq!(judge.plain(folder.path(), &what), 0, "{what}");
        }
    }
}

#[test]
fn records_that_are_deleted_doubled_or_swapped_are_found() {
    let (folder, segment) = small();
    let mut judge = Judge::new("records_that_are_deleted_doubled_or_swapped_are_found");
    let good = lines(&segment);
    let mut refused = |lines: &[String], what: &str| {
        store(&segment, lines);
        assert_ne!(judge.plain(folder.path(), what), 0, "{what}");
    };
    for n in 0..good.len() {
        refused(&[&good[..n], &good[n + 1..]].concat(), &format!("{n} deleted"));
        refused(&[&good[..n], &good[n..=n], &good[n..]].concat(), &format!("{n} doubled"));
        if n > 0 {
            let mut swapped = good.clone();
            swapped.swap(n - 1, n);
            refused(&swapped, &format!("{n} swapped"));
        }
    }
}

#[test]
fn whole_lines_that_are_no_records_are_put_aside_and_told() {
    let (folder, segment) = small();
    let text = std::fs::read_to_string(&segment).unwrap();
    let garbage = "{\"garbage\":1}\n".repeat(3);
    std::fs::write(&segment, format!("{text}{garbage}")).unwrap();
    write(options(folder.path()), bodies(2));
    let aside = folder.path().read_dir().unwrap().map(|entry| entry.unwrap().path());
    let aside: Vec<_> = aside.filter(|path| path.to_str().unwrap().contains(".damaged-")).collect();
    assert_eq!(std::fs::read_to_string(&aside[0]).unwrap(), garbage);
    let mut judge = Judge::new("whole_lines_that_are_no_records_are_put_aside_and_told");
    assert_eq!(judge.plain(folder.path(), "garbage"), 2);
    assert_eq!(check(folder.path()).kinds.get("recovery"), Some(&1));
}

#[test]
fn log_of_many_segments_and_keys_is_whole_and_goes_back_to_its_first_key() {
    let (_parent, folder) = lively_log();
    let mut judge = Judge::new("log_of_many_segments_and_keys_is_whole_and_goes_back_to_its_first_key");
    let report = check(&folder);
    assert!(report.segments > 2 && report.epochs.len() > 5, "{report:?}");
    assert!(report.epochs.iter().all(|epoch| epoch.is_signed), "{report:?}");
    let key = Some(first_key(&folder));
    let against = Some(anchor(&folder));
    assert_eq!(judge.code(&folder, &Wanted { key, against, head: None }, "all"), 0);
    let stranger = Wanted { key: Some([7; 32]), ..Wanted::default() };
    assert_eq!(judge.code(&folder, &stranger, "a stranger's key"), 1);
    secret(&folder);
}

#[test]
fn segments_that_are_missing_swapped_or_doubled_are_found() {
    let (_parent, folder) = lively_log();
    let mut judge = Judge::new("segments_that_are_missing_swapped_or_doubled_are_found");
    let paths = segments(&folder);
    let texts: Vec<_> = paths.iter().map(|path| std::fs::read(path).unwrap()).collect();
    for n in 0..paths.len() {
        std::fs::remove_file(&paths[n]).unwrap();
        assert_ne!(judge.plain(&folder, &format!("segment {n} deleted")), 0);
        std::fs::write(&paths[n], &texts[(n + 1) % texts.len()]).unwrap();
        assert_eq!(judge.plain(&folder, &format!("segment {n} is the next one")), 1);
        std::fs::write(&paths[n], &texts[n]).unwrap();
    }
    std::fs::write(&paths[0], &texts[1]).unwrap();
    std::fs::write(&paths[1], &texts[0]).unwrap();
    assert_eq!(judge.plain(&folder, "two segments swapped"), 1);
}

#[test]
fn log_that_was_rolled_back_is_found_by_an_anchor() {
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("log");
    let mut judge = Judge::new("log_that_was_rolled_back_is_found_by_an_anchor");
    let mut calm = options(&folder);
    calm.policy.anchor = Some(anchor(&folder));
    write(calm.clone(), bodies(5));
    let segment = segments(&folder).remove(0);
    let old = std::fs::read(&segment).unwrap();
    write(calm, bodies(5));
    let new = std::fs::read(&segment).unwrap();
    let anchored = Wanted { against: Some(anchor(&folder)), ..Wanted::default() };
    assert_eq!(judge.code(&folder, &anchored, "as it is"), 0);
    std::fs::write(&segment, &old).unwrap();
    // The old state was whole by itself: nothing in the folder tells.
    assert_eq!(judge.plain(&folder, "rolled back"), 0);
    assert_eq!(judge.code(&folder, &anchored, "rolled back"), 1);
    // Another history from there on.
    write(options(&folder), bodies(9));
    assert_eq!(judge.plain(&folder, "forked"), 0);
    assert_eq!(judge.code(&folder, &anchored, "forked"), 1);
    std::fs::write(&segment, &new).unwrap();
    std::fs::write(anchor(&folder), "").unwrap();
    assert_eq!(judge.code(&folder, &anchored, "an empty anchor"), 2);
}

#[test]
fn log_that_was_rolled_back_behind_a_key_is_found_by_the_noted_keys() {
    let (_parent, folder) = lively_log();
    let mut judge = Judge::new("log_that_was_rolled_back_behind_a_key_is_found_by_the_noted_keys");
    for path in segments(&folder).into_iter().rev().take(2) {
        std::fs::remove_file(path).unwrap();
    }
    assert_eq!(judge.plain(&folder, "rolled back"), 1);
    // Going on, the daemon has not the key that the log asks for, and cannot make it.
    write(options(&folder), bodies(2));
    let report = check(&folder);
    assert_eq!(judge.plain(&folder, "rolled back, gone on"), 1);
    assert!(report.epochs.iter().any(|epoch| !epoch.is_signed), "{report:?}");
}

#[test]
fn daemon_that_has_lost_its_key_goes_on_and_the_log_does_not_pretend() {
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("log");
    let mut judge = Judge::new("daemon_that_has_lost_its_key_goes_on_and_the_log_does_not_pretend");
    write(options(&folder), bodies(3));
    let key = Some(first_key(&folder));
    std::fs::remove_dir_all(folder.join("keys")).unwrap();
    write(options(&folder), bodies(3));
    assert_eq!(judge.plain(&folder, "key lost"), 2);
    assert_eq!(judge.code(&folder, &Wanted { key, ..Wanted::default() }, "key lost"), 1);
}

/// Chains and signs lines anew with one key from a line on, under its own name if `renames`.
fn reseal(lines: &[String], from: usize, key: &Epoch, renames: bool) -> Vec<String> {
    let (mut tree, mut prev, mut sealed) = (Tree::default(), None::<Vec<u8>>, Vec::new());
    let digits = |bytes: &[u8]| {
        let mut digits = Vec::new();
        push_hex(&mut digits, bytes);
        String::from_utf8(digits).unwrap()
    };
    for (at, line) in lines.iter().enumerate() {
        let mut line = line.clone();
        let is_kept = at < from;
        let head = Head::parse(line.as_bytes()).unwrap();
        let (kind, old_prev) = (head.kind.to_owned(), digits(&head.prev));
        if let Some(prev) = &prev {
            line = line.replacen(&old_prev, &digits(prev), 1);
        }
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        if kind == "segment" {
            tree = Tree::default();
        }
        if renames
            && !is_kept
            && let Some(old) = value["key"].as_str()
        {
            line = line.replacen(old, &digits(&key.public()), 1);
        }
        if kind == "checkpoint" && !is_kept {
            line = line.replacen(value["root"].as_str().unwrap(), &digits(&tree.root()), 1);
        }
        if !is_kept && let Some((message, _)) = line.split_once(",\"signature\":\"") {
            line = format!("{message},\"signature\":\"{}\"}}", digits(&key.sign(message.as_bytes())));
        }
        let hash = Sha256::digest(line.as_bytes());
        tree.push(&hash.into());
        prev = Some(hash.to_vec());
        sealed.push(line);
    }
    sealed
}

#[test]
fn yesterday_that_was_written_anew_and_sealed_with_todays_key_is_found() {
    let (_parent, folder) = lively_log();
    let mut judge = Judge::new("yesterday_that_was_written_anew_and_sealed_with_todays_key_is_found");
    // The last epoch has records of its own.
    let mut calm = lively(&folder);
    (calm.policy.key_interval, calm.policy.segment_bytes) = (Duration::ZERO, 1 << 20);
    write(calm, bodies(3));
    let (key, pinned) = (secret(&folder), Some(first_key(&folder)));
    let paths = segments(&folder);
    let good: Vec<Vec<String>> = paths.iter().map(|path| lines(path)).collect();
    let split = |lines: Vec<String>| {
        let mut rest = lines.as_slice();
        for (path, own) in paths.iter().zip(&good) {
            let (own, others) = rest.split_at(own.len());
            store(path, own);
            rest = others;
        }
    };
    let pinned = Wanted { key: pinned, ..Wanted::default() };
    let anchored = Wanted { against: Some(anchor(&folder)), ..Wanted::default() };
    let changed: Vec<String> =
        good.concat().iter().map(|line| line.replacen("\"n\":1,", "\"n\":9,", 1)).collect();
    for renames in [false, true] {
        split(reseal(&changed, 0, &key, renames));
        assert_eq!(judge.plain(&folder, "sealed anew"), 1);
        assert_eq!(judge.code(&folder, &pinned, "sealed anew"), 1);
        assert_eq!(judge.code(&folder, &anchored, "sealed anew"), 1);
    }
    // What the present key has signed it can sign anew: only an anchor tells.
    let all = good.concat();
    let last = all.iter().rposition(|line| line.contains("\"kind\":\"key\"")).unwrap();
    let mut changed = all.clone();
    let at = all.iter().rposition(|line| line.contains("\"kind\":\"alert\"")).unwrap();
    assert!(at > last);
    changed[at] = all[at].replacen("\"text\"", "\"tixt\"", 1);
    split(reseal(&changed, last + 1, &key, false));
    assert_eq!(judge.plain(&folder, "the present epoch sealed anew"), 0);
    assert_eq!(judge.code(&folder, &anchored, "the present epoch sealed anew"), 1);
    // Nor does it help to add the new checkpoints to the anchor, or such of another node.
    let kept = std::fs::read_to_string(anchor(&folder)).unwrap();
    let new: Vec<String> = segments(&folder).iter().flat_map(|path| lines(path)).collect();
    let new: Vec<&String> = new.iter().filter(|line| line.contains("\"kind\":\"checkpoint\"")).collect();
    let added: String = new.iter().map(|line| format!("{line}\n")).collect();
    let others = added.replace("\"node\":\"", "\"node\":\"x");
    for more in [&added, &others] {
        std::fs::write(anchor(&folder), format!("{kept}{more}")).unwrap();
        assert_eq!(judge.code(&folder, &anchored, "the anchor, added to"), 1);
    }
}

#[test]
fn later_key_does_not_vouch_for_what_came_before_it() {
    let (_parent, folder) = lively_log();
    let mut judge = Judge::new("later_key_does_not_vouch_for_what_came_before_it");
    let of = |key| Wanted { key: Some(key), ..Wanted::default() };
    assert_eq!(judge.code(&folder, &of(first_key(&folder)), "its first key"), 0);
    assert_eq!(judge.code(&folder, &of(secret(&folder).public()), "its last key"), 2);
}

#[test]
fn log_that_was_made_up_from_its_first_record_on_is_found_by_a_key_or_an_anchor() {
    let (_parent, folder) = lively_log();
    let test = "log_that_was_made_up_from_its_first_record_on_is_found_by_a_key_or_an_anchor";
    let mut judge = Judge::new(test);
    let pinned = Wanted { key: Some(first_key(&folder)), ..Wanted::default() };
    let anchored = Wanted { against: Some(anchor(&folder)), ..Wanted::default() };
    std::fs::remove_dir_all(&folder).unwrap();
    write_one_by_one(Options { policy: options(&folder).policy, ..lively(&folder) }, 12);
    assert_eq!(judge.plain(&folder, "made up"), 0);
    assert_eq!(judge.code(&folder, &pinned, "made up"), 1);
    assert_eq!(judge.code(&folder, &anchored, "made up"), 1);
}

#[test]
fn keys_lead_back_to_the_first_one_when_its_segments_are_deleted() {
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("log");
    write_one_by_one(lively(&folder), 4);
    let key = Some(first_key(&folder));
    let mut short = lively(&folder);
    short.policy.retention_bytes = 8_000;
    write_one_by_one(short, 30);
    let report = check(&folder);
    assert!(report.first_seq > 1, "{report:?}");
    let mut judge = Judge::new("keys_lead_back_to_the_first_one_when_its_segments_are_deleted");
    assert_eq!(judge.code(&folder, &Wanted { key, ..Wanted::default() }, "retained"), 0);
    std::fs::remove_file(folder.join(succession::FILE)).unwrap();
    assert_eq!(judge.code(&folder, &Wanted { key, ..Wanted::default() }, "retained"), 1);
    assert_eq!(judge.plain(&folder, "retained"), 0);
}

#[test]
fn each_record_has_a_proof_that_holds_until_anything_in_it_is_changed() {
    let (_parent, folder) = lively_log();
    let (key, stranger) = (first_key(&folder), [7; 32]);
    let kept = Witness::read(&anchor(&folder)).unwrap();
    let report = check(&folder);
    let mut proven = 0;
    for seq in 1..=report.last_seq {
        let Ok(proof) = prove(&folder, seq, Some(key)) else { continue };
        proven += 1;
        let (signer, _) = prove::check(&proof).unwrap();
        assert_eq!(prove::check_key(&proof, signer, key), Ok(()));
        assert_eq!(prove::check_key(&proof, signer, stranger), Err(Refused::Key));
        assert_eq!(prove::check_kept(&proof, &kept), Ok(()));
        assert_eq!(prove::check_kept(&proof, &Witness::default()), Err(Refused::NotKept));
        let text = serde_json::to_string(&proof).unwrap();
        for (from, to) in
            [("boot_ns", "boot_nz"), ("\"path\":[\"", "\"path\":[\"00"), ("size\\\":", "size\\\":1")]
        {
            let bad: prove::Proof = serde_json::from_str(&text.replacen(from, to, 1)).unwrap();
            assert!(prove::check(&bad).is_err() || bad.path.is_empty(), "{seq}: {from}");
        }
        let unsigned = text.replacen("\\\"why\\\":\\\"", "\\\"why\\\":\\\"x", 1);
        let bad: prove::Proof = serde_json::from_str(&unsigned).unwrap();
        assert!(prove::check(&bad).is_err(), "{seq}");
    }
    // All but the last checkpoint of each segment.
    assert_eq!(proven, report.records - report.segments);
    assert!(matches!(prove(&folder, report.last_seq + 1, None), Err(prove::ProveError::NoRecord(_))));
}

#[test]
fn end_that_was_cut_off_is_found_and_a_held_lock_does_not_make_it_whole() {
    let (folder, segment) = small();
    let text = std::fs::read_to_string(&segment).unwrap();
    let last = text.trim_end().rfind('\n').unwrap() + 1;
    std::fs::write(&segment, &text[..last]).unwrap();
    assert!(!whole(&check(folder.path())));
    let lock = std::fs::File::open(folder.path().join("lock")).unwrap();
    lock.lock().unwrap();
    let notes: Vec<String> = check(folder.path()).notes.into_iter().map(|note| note.message).collect();
    assert!(notes.iter().any(|note| note.contains("its end cannot be judged")), "{notes:?}");
}
