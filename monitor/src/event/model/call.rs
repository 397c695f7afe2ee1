//! System calls that are events by themselves: their arguments, and the objects behind those.

use std::fmt::Write as _;
use std::sync::LazyLock;

use hashbrown::HashMap;
use taffrail_common::call::{CALLS, NO_CALL, PRCTL, SETDOMAINNAME, SETHOSTNAME};
use taffrail_common::event::{self as abi, Path, header_flag};
use taffrail_common::kind;

use super::arguments::MORE_ARGUMENTS;
use super::{Model, Target, call_name, write_failure};
use crate::enrich::Subject;
use crate::event::constant::{self, Names};
use crate::event::json::Members;
use crate::event::text::escape;

/// A system call, with its texts.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    /// The numbers.
    pub record: abi::Call,
    /// Path of the open file that was passed, or the first name as it was given.
    pub file: &'a [u8],
    /// Of a relative name: the directory that it starts at.
    pub base: &'a [u8],
    /// The second name.
    pub target: &'a [u8],
    /// Of a relative second name: the directory that it starts at.
    pub target_base: &'a [u8],
    /// A text that names no file.
    pub text: &'a [u8],
}

/// What an argument is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A number of 32 bits without a sign.
    Number,
    /// A number of 32 bits with a sign.
    Int,
    /// A number of 64 bits.
    Long,
    /// Permissions.
    Octal,
    /// A descriptor.
    Descriptor,
    /// The descriptor whose open file is the event's file.
    File,
    /// The descriptor of the folder that the name starts at.
    Dir,
    /// The name.
    Name,
    /// The descriptor of the folder that the second name starts at.
    TargetDir,
    /// The second name.
    Target,
    /// A text that names no file.
    Text,
    /// A process id in the caller's pid namespace.
    Process,
    /// An address.
    Pointer,
}

/// One argument of a call.
#[derive(Clone, Copy, Debug)]
pub struct Argument {
    /// Its name.
    pub name: &'static str,
    /// What it is.
    pub role: Role,
    /// `any=N` or `in=N`: which calls are events; and `N`.
    pub filter: Option<(&'static str, u64)>,
    /// Names of its values.
    pub names: Option<&'static Names>,
}

impl Argument {
    /// The value as the kernel takes it; `None` if it is an address or a text.
    pub fn value(&self, register: u64) -> Option<i64> {
        match self.role {
            Role::Number | Role::Octal => Some(i64::from(register as u32)),
            Role::Long => Some(register as i64),
            Role::Int | Role::Descriptor | Role::File | Role::Dir | Role::TargetDir | Role::Process => {
                Some(i64::from(register as i32))
            }
            Role::Name | Role::Target | Role::Text | Role::Pointer => None,
        }
    }

    /// Writes a value as a member.
    pub fn write_json(&self, value: i64, out: &mut Members<'_>) {
        match (self.names, self.role) {
            (Some(names), _) => out.named(self.name, value, names),
            (None, Role::Octal) => out.raw(self.name, format_args!("\"{value:o}\"")),
            (None, _) => out.number(self.name, value),
        }
    }

    /// Appends name and value for people.
    pub fn write_text(&self, value: i64, out: &mut String) {
        let _ = write!(out, "{}=", self.name);
        let _ = match (self.names, self.role) {
            (Some(names), _) => {
                names.write(value as u64, out);
                Ok(())
            }
            (None, Role::Octal) => write!(out, "{value:o}"),
            (None, _) => write!(out, "{value}"),
        };
    }
}

static ARGUMENTS: LazyLock<Vec<Vec<Argument>>> = LazyLock::new(|| {
    let of =
        |id: usize, texts: &'static str| texts.split_whitespace().map(move |text| argument(id as u16, text));
    CALLS.iter().enumerate().map(|(id, row)| of(id, row.arguments).collect()).collect()
});

fn argument(call: u16, text: &'static str) -> Argument {
    let (name, role) = text.split_once(':').unwrap_or((text, ""));
    let (role, filter) = match role.split_once('=') {
        Some((filter, mask)) => {
            let mask =
                mask.strip_prefix("0x").map_or_else(|| mask.parse(), |hex| u64::from_str_radix(hex, 16));
            (if filter == "any" { "long" } else { "" }, mask.ok().map(|mask| (filter, mask)))
        }
        None => (role, None),
    };
    let role = match role {
        "int" => Role::Int,
        "long" => Role::Long,
        "octal" => Role::Octal,
        "fd" => Role::File,
        "dir" => Role::Dir,
        "file" => Role::Name,
        "target_dir" => Role::TargetDir,
        "target" => Role::Target,
        "text" => Role::Text,
        "process" => Role::Process,
        "pointer" => Role::Pointer,
        _ if name.ends_with("fd") => Role::Descriptor,
        _ => Role::Number,
    };
    Argument { name, role, filter, names: constant::of(call, name) }
}

static BY_NAME: LazyLock<HashMap<&'static str, Vec<Argument>>> = LazyLock::new(|| {
    let rows = CALLS.iter().zip(ARGUMENTS.iter()).map(|(row, arguments)| (row.name, arguments.clone()));
    let more = MORE_ARGUMENTS
        .iter()
        .map(|(name, texts)| (*name, texts.split_whitespace().map(|text| argument(NO_CALL, text)).collect()));
    more.chain(rows).collect()
});

/// The arguments of a call by its name, if they are known.
pub fn named_arguments(name: &str) -> Option<&'static [Argument]> {
    BY_NAME.get(name).map(Vec::as_slice)
}

/// The arguments of a call by its id; none for one that is not in the table.
pub fn arguments(call: u32) -> &'static [Argument] {
    ARGUMENTS.get(call as usize).map_or(&[], Vec::as_slice)
}

impl<'a> Call<'a> {
    /// The second path, if the call has one.
    pub fn target_path(&self) -> Option<(&'a [u8], Path)> {
        (self.record.target.flags != 0).then_some((self.target, self.record.target))
    }

    /// The call's arguments, if their names are known.
    pub fn arguments(&self) -> Option<&'static [Argument]> {
        named_arguments(self.type_name())
    }

    /// The arguments that say something by themselves, with their values.
    pub fn numbers(&self) -> impl Iterator<Item = (&'static Argument, i64)> {
        // A write by an io_uring is told by its file and its result.
        let told =
            self.record.header.flags & header_flag::IO_URING == 0 || self.record.header.kind != kind::WRITE;
        let arguments = if told { self.arguments().unwrap_or_default() } else { &[] };
        arguments.iter().zip(self.record.args).filter_map(|(argument, register)| {
            let value = match argument.role {
                // Only one of the options takes a text.
                Role::Text if !self.has_text() => Some(register as i64),
                _ => argument.value(register),
            };
            Some((argument, value?))
        })
    }

    /// The text that names no file, as far as it is the call's.
    pub fn text(&self) -> Option<&'a [u8]> {
        if self.record.text.full_len == 0 || !self.has_text() {
            return None;
        }
        let id = self.record.call as u16;
        // Its end is told by a length, not by NUL.
        let len =
            if matches!(id, SETHOSTNAME | SETDOMAINNAME) { self.record.args[1] as usize } else { usize::MAX };
        Some(self.text.get(..len).unwrap_or(self.text))
    }

    fn has_text(&self) -> bool {
        self.record.call != u32::from(PRCTL) || self.record.args[0] as i32 == libc::PR_SET_NAME
    }
}

impl Model for Call<'_> {
    fn type_name(&self) -> &'static str {
        call_name(self.record.call, self.record.header.flags)
    }

    fn result(&self) -> Option<i64> {
        (self.record.header.flags & header_flag::SUBMITTED == 0).then_some(self.record.result)
    }

    fn path(&self) -> Option<(&[u8], Path)> {
        let has_one = self.record.file.flags != 0 || !self.file.is_empty();
        has_one.then_some((self.file, self.record.file))
    }

    fn target(&self) -> Option<Target> {
        let mut arguments = self.arguments().unwrap_or_default().iter().zip(self.record.args);
        let (_, pid) = arguments.find(|(argument, _)| argument.role == Role::Process)?;
        // 0 is the caller, -1 all.
        (pid as i32 > 0).then_some(Target::Numbered(pid as i32))
    }

    fn write_json(&self, _subject: &Subject<'_>, out: &mut Members<'_>) {
        let Call { record, file, base, target, target_base, text: _ } = self;
        match self.result() {
            Some(result) => out.number("result", result),
            None => out.bool("submitted", true),
        }
        if self.path().is_some() {
            out.path("file", file, &record.file);
        }
        if record.base.full_len > 0 {
            out.path("base", base, &record.base);
        }
        if record.mode != 0 {
            out.raw("mode", format_args!("\"{:o}\"", record.mode));
        }
        if self.target_path().is_some() {
            out.path("target", target, &record.target);
        }
        if record.target_base.full_len > 0 {
            out.path("target_base", target_base, &record.target_base);
        }
        if let Some(text) = self.text() {
            out.text("text", text);
        }
        let mut args = out.object("args");
        if self.arguments().is_none() {
            for (name, value) in ["0", "1", "2", "3", "4", "5"].into_iter().zip(record.args) {
                args.raw(name, format_args!("\"{value:x}\""));
            }
        }
        self.numbers().for_each(|(argument, value)| argument.write_json(value, &mut args));
        args.close();
    }

    fn write_line(&self, _subject: &Subject<'_>, out: &mut String) {
        out.push_str(self.type_name());
        let text = self.text().unwrap_or_default();
        for (base, name) in [(self.base, self.file), (self.target_base, self.target), (&[][..], text)] {
            if !name.is_empty() {
                out.push(' ');
                if !base.is_empty() {
                    escape(base, out);
                    out.push_str(" + ");
                }
                escape(name, out);
            }
        }
        for (argument, value) in self.numbers() {
            out.push(' ');
            argument.write_text(value, out);
        }
        write_failure(self.result().unwrap_or(0), out);
    }
}
