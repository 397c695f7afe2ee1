//! Arguments of calls, by Falco's names of them (`evt.arg.…`, `evt.rawarg.…`).

use super::super::constant::{self, Names};
use super::super::field::{self, Inline, Type, Value};
use super::super::model::{Role, named_arguments};
use super::super::{path, table};
use super::fields::{
    Test, arguments, fd_path, local, non_empty, number, open_flags, remote, result, set, text,
};
use super::{Json, Object, Record};

/// Values of an argument, by Falco's name of it.
pub fn argument(record: &Record<'_>, field: &str, own: &[&str], test: Test<'_>) -> bool {
    let Some(event) = record.event() else { return false };
    if record.event_kind() == "exec" && field.ends_with("arg.args") {
        return arguments(record, test);
    }
    match field.strip_prefix("evt.arg.") {
        Some(name) => argument_values(record, event, name, own, test),
        None => {
            let name = field.strip_prefix("evt.rawarg.").unwrap_or_default();
            let wants_number = field::find(field).is_some_and(|field| field.ty == Type::Number);
            let value = raw_argument(record, event, name, own);
            value.filter(|value| matches!(value, Value::Number(_)) == wants_number).is_some_and(test)
        }
    }
}

fn argument_values(
    record: &Record<'_>,
    event: &Object<'_>,
    name: &str,
    own: &[&str],
    test: Test<'_>,
) -> bool {
    if let Some((number, names)) = named_number(record, event, name, own) {
        return table::argument::each_name(number, names, test);
    }
    if let Some((file, base)) = argument_path(record, event, name, own) {
        let base = event.text(base).unwrap_or_default();
        return path::whole(file, base, &mut |path| test(Value::Text(path)));
    }
    let account = |number| account(record, name, number);
    table::argument::each_text(name, raw_argument(record, event, name, own), account, test)
}

/// The name of a user or group, of those whose names the log has: the effective ones.
fn account<'r>(record: &'r Record<'_>, name: &str, id: i64) -> Option<&'r [u8]> {
    let process = record.process()?;
    match name {
        "uid" | "ruid" | "euid" | "suid" if process.number("uid") == Some(id) => process.text("user"),
        "gid" | "rgid" | "egid" | "sgid" if process.number("gid") == Some(id) => process.text("group"),
        _ => None,
    }
}

/// A number whose value has names.
fn named_number(
    record: &Record<'_>,
    event: &Object<'_>,
    name: &str,
    own: &[&str],
) -> Option<(u64, &'static Names)> {
    match (record.event_kind(), name) {
        ("open", "flags") => Some((open_flags(record)?.into(), &constant::OPEN)),
        ("fork", "flags") => Some((event.number("clone_flags")? as u64, &constant::CLONE)),
        ("connect" | "bind" | "listen" | "accept" | "dup", "domain" | "family") => {
            Some((event.number("family")? as u64, &constant::FAMILY))
        }
        ("signal" | "exit", "sig") => Some((event.number("signal")? as u64, &constant::SIGNAL)),
        _ => {
            let arguments = named_arguments(event.str("type")?)?;
            let own = own.iter().find(|own| number_argument(event, own).is_some())?;
            let argument = arguments.iter().find(|argument| *own == argument.name)?;
            let names = argument.names.or((argument.role == Role::Octal).then_some(&constant::MODE))?;
            Some((number_argument(event, own)? as u64, names))
        }
    }
}

/// An argument that is a number; permissions are octal.
fn number_argument(event: &Object<'_>, own: &str) -> Option<i64> {
    match event.object("args")?.get(own)? {
        Json::Number(number) => Some(*number),
        Json::Text(octal) => i64::from_str_radix(std::str::from_utf8(octal).ok()?, 8).ok(),
        _ => None,
    }
}

/// A path as it was given, and the member where it starts if it is relative.
fn argument_path<'r>(
    record: &Record<'_>,
    event: &'r Object<'_>,
    name: &str,
    own: &[&str],
) -> Option<(&'r [u8], &'static str)> {
    match (record.event_kind(), name) {
        ("open", "name") => Some((event.text("file")?, "base")),
        ("exec", "filename" | "pathname") => Some((event.text("filename")?, "cwd")),
        _ => match argument_role(event, own)? {
            Role::Name => Some((event.text("file").unwrap_or_default(), "base")),
            Role::Target => Some((event.text("target").unwrap_or_default(), "target_base")),
            _ => None,
        },
    }
}

fn argument_role(event: &Object<'_>, own: &[&str]) -> Option<Role> {
    event.object("args")?;
    let arguments = named_arguments(event.str("type")?)?;
    let found = own.iter().find_map(|own| arguments.iter().find(|argument| argument.name == *own));
    found.map(|argument| argument.role)
}

/// The value as it was given.
fn raw_argument<'r>(
    record: &'r Record<'_>,
    event: &'r Object<'_>,
    name: &str,
    own: &[&str],
) -> Option<Value<'r>> {
    if name == "res" {
        return number(result(record)?);
    }
    if let Some((file, _)) = argument_path(record, event, name, own) {
        return Some(Value::Text(file));
    }
    let process = record.process()?;
    let (pid, vpid) = (process.number("pid"), process.number("vpid"));
    match (record.event_kind(), name) {
        ("open", "fd") => number(result(record)?),
        ("open", "flags") => number(event.number("flags")?),
        ("connect" | "bind" | "listen" | "accept" | "dup", name) => match name {
            "fd" => number(event.number("fd")?),
            "domain" | "family" => number(event.number("family")?),
            "tuple" => match fd_path(record) {
                Some(path) => Some(Value::Text(path)),
                None => {
                    let (remote, local) = (remote(record)?, local(record)?);
                    Some(Value::Inline(Inline::format(format_args!("{local}->{remote}"))))
                }
            },
            "addr" => match fd_path(record) {
                Some(path) => Some(Value::Text(path)),
                None => {
                    let is_own = record.event_kind() != "connect";
                    let address = if is_own { local(record) } else { remote(record) }?;
                    Some(Value::Inline(Inline::format(format_args!("{address}"))))
                }
            },
            _ => None,
        },
        ("cred", "uid") => number(event.number("euid")?),
        ("cred", "gid") => number(event.number("egid")?),
        ("cred", "ruid" | "euid" | "suid" | "rgid" | "egid" | "sgid") => number(event.number(name)?),
        ("cred" | "exec", "cap_effective" | "cap_permitted" | "cap_inheritable") => {
            number(set(event, name)? as i64)
        }
        ("exec", "exe") => non_empty(event.list("args").first()?.text()?),
        ("exec" | "fork", "comm") => text(process, "name"),
        ("exec", "cwd") => text(event, "cwd"),
        ("exec", "trusted_exepath") => text(event, "exe"),
        ("exec", "pid") => number(pid?),
        ("exec", "vpid") => number(vpid?),
        ("exec", "tid") => number(process.number("tid")?),
        ("exec", "ptid") => number(process.str("parent_key")?.split('-').next()?.parse().ok()?),
        ("exec", "tty") => number(event.number("tty")?),
        ("exec", "loginuid") => number(process.number("login_uid")?),
        ("exec", "exe_ino") => number(event.number("exe_ino").unwrap_or(0)),
        ("exec", "uid") => number(process.number("uid")?),
        ("exec", "gid") => number(process.number("gid")?),
        ("fork", "flags") => number(event.number("clone_flags")?),
        ("fork", "pid") => number(event.number("child_pid")?),
        ("fork", "vpid") => number(event.number("child_vpid")?),
        ("exit", "status") => {
            let core_dumped = i64::from(event.bool("core_dumped")?);
            number(event.number("code")? << 8 | core_dumped << 7 | event.number("signal")?)
        }
        ("exit", "ret") => number(event.number("code")?),
        ("exit" | "signal", "sig") => number(event.number("signal")?),
        ("exit", "core") => number(event.bool("core_dumped")?.into()),
        ("signal", "pid" | "dpid") => number(record.target()?.number("pid")?),
        ("signal", "spid") => number(pid?),
        _ => match argument_role(event, own)? {
            Role::Text if event.text("text").is_some() => text(event, "text"),
            _ => number(own.iter().find_map(|own| number_argument(event, own))?),
        },
    }
}
