//! `open`: a file was opened, or an open failed.

use taffrail_common::event::{self as abi, Path};

use super::{Model, call_name, write_failure};
use crate::enrich::Subject;
use crate::event::constant;
use crate::event::json::Members;
use crate::event::text::escape;

/// `open`, with its texts.
#[derive(Clone, Copy, Debug)]
pub struct Open<'a> {
    /// The numbers.
    pub record: abi::Open,
    /// The name of an opened file as the caller gave it, if somebody wants it.
    pub asked: &'a [u8],
    /// Path of the file.
    pub file: &'a [u8],
    /// Of a failed call with a relative name: the directory it was relative to.
    pub base: &'a [u8],
}

impl Open<'_> {
    /// Flags of the call, if they could be read.
    pub fn flags(&self) -> Option<u32> {
        (self.record.flags != u32::MAX).then_some(self.record.flags)
    }
}

/// Whether open flags open for reading.
pub fn reads(flags: u32) -> bool {
    flags & libc::O_PATH as u32 == 0
        && matches!((flags as i32) & libc::O_ACCMODE, libc::O_RDONLY | libc::O_RDWR)
}

/// Whether open flags open for writing.
pub fn writes(flags: u32) -> bool {
    flags & libc::O_PATH as u32 == 0
        && matches!((flags as i32) & libc::O_ACCMODE, libc::O_WRONLY | libc::O_RDWR)
}

impl Model for Open<'_> {
    fn type_name(&self) -> &'static str {
        call_name(self.record.call, self.record.header.flags)
    }

    fn result(&self) -> Option<i64> {
        Some(self.record.result.into())
    }

    fn path(&self) -> Option<(&[u8], Path)> {
        Some((self.file, self.record.file))
    }

    fn write_json(&self, _subject: &Subject<'_>, out: &mut Members<'_>) {
        let Open { record, asked, file, base } = self;
        out.number("result", record.result.into());
        out.path("file", file, &record.file);
        if record.base.full_len > 0 {
            out.path("base", base, &record.base);
        }
        if record.asked.full_len > 0 {
            out.path("asked", asked, &record.asked);
        }
        if let Some(flags) = self.flags() {
            out.named("flags", flags.into(), &constant::OPEN);
        }
        if record.result >= 0 && record.mode != 0 {
            out.raw("mode", format_args!("\"{:o}\"", record.mode));
            out.number("links", record.links.into());
            out.number("owner", record.owner.into());
        }
    }

    fn write_line(&self, _subject: &Subject<'_>, out: &mut String) {
        out.push_str(if self.flags().is_some_and(writes) { "write " } else { "read " });
        if !self.base.is_empty() {
            escape(self.base, out);
            out.push_str(" + ");
        }
        escape(self.file, out);
        write_failure(self.record.result.into(), out);
    }
}
