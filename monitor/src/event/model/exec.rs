//! `exec`: a process replaced its image.

use taffrail_common::event as abi;

use super::Model;
use crate::enrich::Subject;
use crate::event::json::Members;
use crate::event::table::{is_exe_new, sha256_missing};
use crate::event::text::escape;

/// `exec`, with its texts.
#[derive(Clone, Copy, Debug)]
pub struct Exec<'a> {
    /// The numbers.
    pub record: abi::Exec,
    /// Path of the file that runs.
    pub exe: &'a [u8],
    /// Working directory.
    pub cwd: &'a [u8],
    /// The name that was asked for.
    pub filename: &'a [u8],
    /// The arguments, each ended by NUL (the last may be cut).
    pub args: &'a [u8],
}

impl Model for Exec<'_> {
    fn type_name(&self) -> &'static str {
        if self.filename.starts_with(b"/dev/fd/") { "execveat" } else { "execve" }
    }

    fn write_json(&self, subject: &Subject<'_>, out: &mut Members<'_>) {
        let Exec { record, exe, cwd, filename, args } = self;
        out.path("exe", exe, &record.exe);
        if record.exe_ctime_ns != 0 {
            out.text("exe_ctime", crate::clock::rfc3339(record.exe_ctime_ns).as_bytes());
        }
        if is_exe_new(subject) == Some(true) {
            out.bool("exe_new_in_container", true);
        }
        if let Some(Ok(sha256)) = subject.process.image.digest() {
            out.text("exe_sha256", sha256.as_bytes());
        }
        out.optional("exe_sha256_missing", sha256_missing(subject));
        out.text("filename", filename);
        out.path("cwd", cwd, &record.cwd);
        out.texts("args", args);
        out.number("arg_count", record.arg_count.into());
        if record.args.full_len > record.args.len {
            out.number("args_full_bytes", record.args.full_len.into());
        }
        out.number("env_count", record.env_count.into());
        let rights = &record.credentials;
        out.number("ruid", rights.uid.into());
        out.number("rgid", rights.gid.into());
        out.hex_number("cap_effective", rights.cap_effective);
        out.hex_number("cap_permitted", rights.cap_permitted);
        out.hex_number("cap_inheritable", rights.cap_inheritable);
        out.hex_number("cap_bounding", rights.cap_bounding);
        out.hex_number("cap_ambient", rights.cap_ambient);
        out.number("session", record.session.into());
        out.number("tty", record.tty.into());
        if record.old_tid != record.header.tid {
            out.number("exec_tid", record.old_tid.into());
        }
    }

    fn write_line(&self, subject: &Subject<'_>, out: &mut String) {
        escape(self.exe, out);
        out.push_str(": ");
        escape(&subject.process.image.exeline, out);
    }
}
