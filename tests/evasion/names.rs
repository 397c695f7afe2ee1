//! Names that are made to break whoever reads them: too long, too deep, with line ends, escapes and no text at all.

use std::os::fd::{AsRawFd as _, OwnedFd};

use taffrail_tests::raw::{self, name, open};
use taffrail_tests::score::Verdict;
use taffrail_tests::syscall;

use crate::stage::{Object, Stage};

/// Makes folders below each other and opens a file in the last: by one step at a time, so that any depth can be had.
fn deep_file(folders: usize, folder: &str) -> std::io::Result<Object> {
    let mut here: OwnedFd = open("/tmp", libc::O_PATH | libc::O_DIRECTORY)?;
    let folder = name(folder);
    for _ in 0..folders {
        syscall!(libc::SYS_mkdirat, here.as_raw_fd(), folder.as_ptr(), 0o755)?;
        let flags = libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC;
        here = raw::descriptor(syscall!(libc::SYS_openat, here.as_raw_fd(), folder.as_ptr(), flags, 0))?;
    }
    let file = name("file");
    let flags = libc::O_CREAT | libc::O_RDWR;
    Object::of(&raw::descriptor(syscall!(libc::SYS_openat, here.as_raw_fd(), file.as_ptr(), flags, 0o600))?)
}

/// Plays a trick that opens a file of that name; `path` is what the record must say.
#[track_caller]
fn named(trick: &'static str, path: &str, part: impl FnOnce() -> std::io::Result<Object>) {
    let Some(stage) = Stage::set(trick) else { return };
    let twin = stage.play(|| deep_file(1, "plain")).unwrap();
    let Some(tried) = stage.play(part) else { return };
    let ending = stage.end();
    ending.twin("the open", ending.opened(twin.pid, &twin.value, "/tmp/plain/file").0 == Verdict::Seen);
    let (verdict, note) = ending.opened(tried.pid, &tried.value, path);
    // The text of the name is the same for any length: what counts is whether all of it is there.
    let note = match verdict {
        Verdict::Seen => "the object, with its whole path".to_owned(),
        _ => note,
    };
    ending.judge((verdict, note));
}

#[test]
fn path_of_4000_bytes_comes_whole() {
    let folder = "x".repeat(198);
    let path = format!("/tmp{}/file", format!("/{folder}").repeat(20));
    named("open: path of 4,000 bytes", &path, || deep_file(20, &folder));
}

#[test]
fn path_of_100_components_comes_whole() {
    let path = format!("/tmp{}/file", "/d".repeat(98));
    named("open: path of 100 components", &path, || deep_file(98, "d"));
}

#[test]
fn path_that_is_longer_than_the_kernel_takes_is_told_to_be_cut() {
    let trick = "open: path longer than PATH_MAX, step by step";
    let Some(stage) = Stage::set(trick) else { return };
    let twin = stage.play(|| deep_file(1, "plain")).unwrap();
    let tried = stage.play(|| {
        // The magic link cannot be read at that length: the inode is enough.
        let mut here = open("/tmp", libc::O_PATH)?;
        let folder = name("y".repeat(200));
        for _ in 0..30 {
            syscall!(libc::SYS_mkdirat, here.as_raw_fd(), folder.as_ptr(), 0o755)?;
            let next = syscall!(libc::SYS_openat, here.as_raw_fd(), folder.as_ptr(), libc::O_PATH, 0);
            here = raw::descriptor(next)?;
        }
        let flags = libc::O_CREAT | libc::O_RDWR;
        let file = name("file");
        let file = syscall!(libc::SYS_openat, here.as_raw_fd(), file.as_ptr(), flags, 0o600);
        let file = std::fs::File::from(raw::descriptor(file)?);
        Ok(std::os::unix::fs::MetadataExt::ino(&file.metadata()?))
    });
    let Some(tried) = tried else { return };
    let ending = stage.end();
    ending.twin("the open", ending.opened(twin.pid, &twin.value, "/tmp/plain/file").0 == Verdict::Seen);
    let found = ending.by(tried.pid, "open").find(|record| record["event"]["file_ino"] == tried.value);
    let verdict = match found.map(|record| &record["event"]) {
        Some(event) if event["file_flags"][0] == "incomplete" || event["file_full_bytes"].is_u64() => {
            assert!(event["file"].as_str().is_some_and(|path| path.ends_with("/file")));
            (Verdict::Flagged, "the object, and the end of its path, which says that it is cut".to_owned())
        }
        _ => (Verdict::Missed, "the open, or that its path is cut, is not seen".to_owned()),
    };
    ending.judge(verdict);
}

#[test]
fn line_ends_and_escape_codes_in_a_name_stay_in_it() {
    let evil = "a\n{\"seq\":1}\u{1b}[2J\"\\\u{202e}";
    let path = format!("/tmp/{evil}/file");
    named("open: name with line end, escape codes and quotes", &path, || deep_file(1, evil));
}

#[test]
fn bytes_that_are_no_text_are_kept() {
    let trick = "open: name that is no UTF-8";
    let Some(stage) = Stage::set(trick) else { return };
    let twin = stage.play(|| deep_file(1, "plain")).unwrap();
    let tried =
        stage.play(|| Object::of(&open(b"/tmp/bad\xffname".as_slice(), libc::O_CREAT | libc::O_RDWR)?));
    let Some(tried) = tried else { return };
    let ending = stage.end();
    ending.twin("the open", ending.opened(twin.pid, &twin.value, "/tmp/plain/file").0 == Verdict::Seen);
    let (verdict, note) = ending.opened(tried.pid, &tried.value, "/tmp/bad\u{fffd}name");
    let bytes = ending.by(tried.pid, "open").any(|record| {
        record["event"]["file_hex"] == "2f746d702f626164ff6e616d65"
            && record["event"]["file_ino"] == tried.value.ino
    });
    assert!(bytes, "the exact bytes are not there");
    ending.judge((verdict, format!("{note}, and its exact bytes")));
}
