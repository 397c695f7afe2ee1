//! Arguments of calls by Falco's names (`evt.arg.oldpath`), over the names that they have here. `evt.arg` has names of
//! flags and whole paths; `evt.rawarg` has numbers, and paths as the caller gave them.

use taffrail_common::kind;

use super::super::constant::{self, Names};
use super::super::field::{Field, Get, Inline, KindSet, Type, Value};
use super::super::model::{Argument, Call, Role};
use super::super::{Event, capability, errno, path};
use super::{SOCKETS, arguments, fd_name, first_argument, number};
use crate::enrich::Subject;
use crate::probe::call::kinds_with_argument;
use crate::probe::hook::bit;

const EXEC: KindSet = bit(kind::EXEC);
const FORK: KindSet = bit(kind::FORK);
const EXIT: KindSet = bit(kind::EXIT);
const OPEN: KindSet = bit(kind::OPEN);
const CRED: KindSet = bit(kind::CRED);
const SIGNAL: KindSet = bit(kind::SIGNAL);
/// System calls that are chosen by name can have any argument.
const CHOSEN: KindSet = bit(kind::SYSCALL);

/// Falco's name; the type of `evt.arg` and that of `evt.rawarg`; other kinds of event that have it; our names of it, in
/// the order in which they are looked for.
macro_rules! arguments {
    ($( $name:literal $ty:ident $raw:ident $more:tt [ $( $own:literal )* ] )*) => {
        /// `evt.arg.…`
        pub const FIELDS: &[Field] = &[ $( Field {
            name: concat!("evt.arg.", $name),
            ty: Type::$ty,
            kinds: CHOSEN | arguments!(more $more) | kinds_with_argument(&[ $( $own ),* ]),
            doc: concat!("Argument `", $name, "` of a call, as Falco names it: flags by their names, paths as a whole."),
            get: Get::Many(|subject, test| values(subject, $name, &[ $( $own ),* ], test)),
        } ),* ];

        /// Of both sorts of field, our names of the argument.
        pub const OWN_NAMES: &[(&str, &str, &[&str])] = &[
            $( (concat!("evt.arg.", $name), concat!("evt.rawarg.", $name), &[ $( $own ),* ]) ),*
        ];

        /// `evt.rawarg.…`
        pub const RAW: &[Field] = &[ $( Field {
            name: concat!("evt.rawarg.", $name),
            ty: Type::$raw,
            kinds: CHOSEN | arguments!(more $more) | kinds_with_argument(&[ $( $own ),* ]),
            doc: concat!("Argument `", $name, "` of a call, as it was given."),
            get: Get::Many(|subject, test| {
                // A name can be that of a number in one call and of a text in another.
                let value = raw_value(subject, $name, &[ $( $own ),* ]);
                value.filter(|value| is_number(value) == matches!(Type::$raw, Type::Number)).is_some_and(test)
            }),
        } ),* ];
    };
    (more -) => { 0 };
    (more ($more:expr)) => { $more };
}

arguments! {
    "res" Text Number (super::CALLS) []
    "fd" Text Number (OPEN | SOCKETS) ["fd"]
    "name" Path Path (OPEN) ["name"]
    "path" Path Path - ["name"]
    "pathname" Path Path (EXEC) ["name"]
    "filename" Path Path (EXEC) ["name"]
    "oldpath" Path Path - ["name"]
    "newpath" Path Path - ["target"]
    "linkpath" Path Path - ["name"]
    "target" Text Text - ["content" "target"]
    "source" Path Path - ["source"]
    "dev" Path Path - ["source"]
    "dir" Path Path - ["name"]
    "special" Path Path - ["name"]
    "dirfd" Text Number - ["dfd"]
    "olddirfd" Text Number - ["dfd"]
    "olddir" Text Number - ["dfd"]
    "newdirfd" Text Number - ["target_dfd"]
    "newdir" Text Number - ["target_dfd"]
    "linkdirfd" Text Number - ["dfd"]
    "flags" TextList Number (OPEN | FORK) ["flags"]
    "mode" TextList Number - ["mode"]
    "request" TextList Number - ["request"]
    "option" TextList Number - ["option"]
    "op" TextList Number - ["operation"]
    "operation" TextList Number - ["operation"]
    "opcode" TextList Number - ["opcode" "operation"]
    "cmd" TextList Number - ["command" "operation"]
    "command" TextList Number - ["command"]
    "prot" TextList Number - ["protection"]
    "protection" TextList Number - ["protection"]
    "domain" TextList Number (SOCKETS) ["family"]
    "family" TextList Number (SOCKETS) ["family"]
    "type" TextList Number - ["type"]
    "proto" Text Number - ["protocol"]
    "protocol" Text Number - ["protocol"]
    "nstype" TextList Number - ["flags"]
    "how" TextList Number - ["how"]
    "whence" Text Number - ["whence"]
    "level" Text Number - ["level"]
    "optname" Text Number - ["option"]
    "optlen" Text Number - ["length"]
    "resource" Text Number - ["resource"]
    "uid" TextList Number (CRED | EXEC) ["uid" "owner"]
    "gid" TextList Number (CRED | EXEC) ["gid" "group"]
    "ruid" TextList Number (CRED) ["ruid"]
    "euid" TextList Number (CRED) ["euid"]
    "suid" TextList Number (CRED) ["suid"]
    "rgid" TextList Number (CRED) ["rgid"]
    "egid" TextList Number (CRED) ["egid"]
    "sgid" TextList Number (CRED) ["sgid"]
    "cap_effective" TextList Number (CRED | EXEC) []
    "cap_permitted" TextList Number (CRED | EXEC) []
    "cap_inheritable" TextList Number (CRED | EXEC) []
    "pid" Text Number (EXEC | FORK | SIGNAL) ["pid"]
    "dpid" Text Number (SIGNAL) []
    "spid" Text Number (SIGNAL) []
    "tid" Text Number (EXEC) ["tid"]
    "ptid" Text Number (EXEC) []
    "vpid" Text Number (EXEC | FORK) []
    "vtid" Text Number (EXEC) []
    "pgid" Text Number (EXEC) ["group"]
    "sig" Text Number (SIGNAL | EXIT) ["signal"]
    "status" Text Number (EXIT) []
    "ret" Text Number (EXIT) []
    "core" Text Number (EXIT) []
    "exe" Text Text (EXEC) []
    "comm" Text Text (EXEC | FORK) []
    "args" Text Text (EXEC) []
    "cwd" Path Path (EXEC) []
    "tty" Text Number (EXEC) []
    "loginuid" Text Number (EXEC) []
    "exe_ino" Text Number (EXEC) []
    "trusted_exepath" Path Path (EXEC) []
    "addr" Text Text (SOCKETS) ["address"]
    "tuple" Text Text (SOCKETS) []
    "backlog" Text Number - ["backlog"]
    "data" Text Number - ["data"]
    "length" Text Number - ["length" "size"]
    "len" Text Number - ["length" "size"]
    "size" Text Number - ["size" "length"]
    "offset" Text Number - ["offset"]
    "pos" Text Number - ["offset"]
    "uargs" Text Text - ["parameters"]
    "arg2_str" Text Text - ["value"]
    "arg2_int" Text Number - ["value2"]
    "key" Text Text - ["key"]
    "value" Path Path - ["value"]
    "value_charbuf" Path Path - ["value"]
    "aux" Text Number - ["aux"]
    "oldfd" Text Number - ["old_fd"]
    "newfd" Text Number - ["new_fd"]
    "pid_fd" Text Number - ["pidfd"]
    "target_fd" Text Number - ["target_fd"]
    "fd_in" Text Number - ["from_fd"]
    "fd_out" Text Number - ["fd"]
    "fdin" Text Number - ["from_fd"]
    "fdout" Text Number - ["fd"]
    "in_fd" Text Number - ["from_fd"]
    "out_fd" Text Number - ["fd"]
    "epoll_fd" Text Number - ["epoll_fd"]
    "maxevents" Text Number - ["max"]
    "timeout" Text Number - ["timeout"]
    "mask" Text Number - ["mask"]
    "entries" Text Number - ["entries"]
    "to_submit" Text Number - ["submit"]
    "min_complete" Text Number - ["complete"]
    "argument" Text Number - ["argument"]
    "id" Text Number - ["id"]
    "val" Text Number - ["value"]
    "initval" Text Number - ["value"]
    "clockid" Text Number - ["clock"]
}

/// Falco's names of what no call has here: known, and without a value.
macro_rules! without_value {
    ($( $name:literal )*) => {
        /// `evt.arg.…` and `evt.rawarg.…`
        pub const PENDING: &[Field] = &[ $( pending(concat!("evt.arg.", $name)), pending(concat!("evt.rawarg.", $name)) ),* ];
    };
}

const fn pending(name: &'static str) -> Field {
    Field {
        name,
        ty: Type::Text,
        kinds: 0,
        doc: "Known from Falco; no event has a value of it yet.",
        get: Get::Nothing,
    }
}

without_value! {
    "ino" "resolve" "fd1" "fd2" "peer" "fds" "interval" "cur" "max" "newcur" "newmax" "oldcur" "oldmax" "vm_size" "vm_rss"
    "vm_swap" "pgoffset" "quota_fmt" "quota_fmt_out" "quotafilepath" "dqb_bhardlimit" "dqb_bsoftlimit" "dqb_curspace"
    "dqb_ihardlimit" "dqb_isoftlimit" "dqb_btime" "dqb_itime" "dqi_bgrace" "dqi_igrace" "dqi_flags" "fdlimit" "pgft_maj"
    "pgft_min" "cgroups" "env" "vpgid" "exe_ino_ctime" "exe_ino_mtime" "pidns_init_start_ts" "reaper_tid" "queuepct"
    "queuelen" "queuemax" "img" "value_bytebuf" "offin" "offout" "sq_entries" "cq_entries" "sq_thread_cpu"
    "sq_thread_idle" "features" "arg" "nr_args" "next" "ratio" "error" "ip" "event_type" "event_data" "plugin_id"
    "sem_num_0" "sem_op_0" "sem_flg_0" "sem_num_1" "sem_op_1" "sem_flg_1" "nsops" "semid" "semnum" "semflg" "nsems"
}

fn is_number(value: &Value<'_>) -> bool {
    matches!(value, Value::Number(_))
}

/// The values for people: of flags the names one by one, of ids the number and the name.
fn values(subject: &Subject<'_>, name: &str, own: &[&str], test: &mut dyn FnMut(Value<'_>) -> bool) -> bool {
    if let Some((number, names)) = named_number(subject, name, own) {
        return each_name(number, names, test);
    }
    if let Some((file, base)) = path_of(subject, name, own) {
        return path::whole(file, base, &mut |path| test(Value::Text(path)));
    }
    let account = |number| account(subject, name, u32::try_from(number).ok()?);
    each_text(name, raw_value(subject, name, own), account, test)
}

/// A value for people: of capabilities the names, of an error and of an account's id the number and the name.
pub fn each_text<'a>(
    name: &str,
    value: Option<Value<'_>>,
    account: impl FnOnce(i64) -> Option<&'a [u8]>,
    test: &mut dyn FnMut(Value<'_>) -> bool,
) -> bool {
    match value {
        Some(Value::Number(set)) if name.starts_with("cap_") => {
            capability::names(set as u64).any(|name| test(Value::Text(name.as_bytes())))
        }
        Some(Value::Number(number)) => {
            let error = u32::try_from(number.unsigned_abs()).ok().filter(|_| name == "res" && number < 0);
            let text = match error.and_then(errno::name) {
                Some(error) => Inline::format(format_args!("{number}({error})")),
                None => Inline::format(format_args!("{number}")),
            };
            test(Value::Inline(text)) || account(number).is_some_and(|known| test(Value::Text(known)))
        }
        Some(value) => test(value),
        None => false,
    }
}

fn account<'a>(subject: &Subject<'a>, name: &str, id: u32) -> Option<&'a [u8]> {
    match name {
        "uid" | "ruid" | "euid" | "suid" => subject.process.user(id).map(str::as_bytes),
        "gid" | "rgid" | "egid" | "sgid" => subject.process.group(id).map(str::as_bytes),
        _ => None,
    }
}

/// A number whose value has names.
fn named_number(subject: &Subject<'_>, name: &str, own: &[&str]) -> Option<(u64, &'static Names)> {
    match (subject.event, name) {
        (Event::Open(open), "flags") => Some((open.flags()?.into(), &constant::OPEN)),
        (Event::Fork(fork), "flags") => Some((fork.clone_flags, &constant::CLONE)),
        (Event::Connect(connect), "domain" | "family") => {
            Some((connect.record.family.into(), &constant::FAMILY))
        }
        (Event::Signal(signal), "sig") => Some((signal.signal.into(), &constant::SIGNAL)),
        (Event::Exit(exit), "sig") => Some((u64::from(exit.wait_status & 0x7f), &constant::SIGNAL)),
        (Event::Call(call), _) => {
            let (argument, value) = number_of(call, own)?;
            let names = argument.names.or((argument.role == Role::Octal).then_some(&constant::MODE))?;
            Some((value as u64, names))
        }
        _ => None,
    }
}

/// Shows the names of a number, and what has none as a number.
pub fn each_name(number: u64, names: &Names, test: &mut dyn FnMut(Value<'_>) -> bool) -> bool {
    let mut holds = false;
    let rest = names.each(number, |name| holds = holds || test(Value::Text(name.as_bytes())));
    holds || (rest != 0 || number == 0) && test(Value::Inline(Inline::format(format_args!("{rest:#x}"))))
}

/// The first of the arguments that the call has, if it is a number.
fn number_of(call: &Call<'_>, own: &[&str]) -> Option<(&'static Argument, i64)> {
    own.iter().find_map(|own| call.numbers().find(|(argument, _)| argument.name == *own))
}

/// A path as it was given, and where it starts if it is relative.
fn path_of<'a>(subject: &Subject<'a>, name: &str, own: &[&str]) -> Option<(&'a [u8], &'a [u8])> {
    match (subject.event, name) {
        (Event::Open(open), "name") => Some((open.file, open.base)),
        (Event::Exec(exec), "filename" | "pathname") => Some((exec.filename, exec.cwd)),
        (Event::Call(call), _) => match argument_of(call, own)?.role {
            Role::Name => Some((call.file, call.base)),
            Role::Target => Some((call.target, call.target_base)),
            _ => None,
        },
        _ => None,
    }
}

fn argument_of(call: &Call<'_>, own: &[&str]) -> Option<&'static Argument> {
    let arguments = call.arguments()?;
    own.iter().find_map(|own| arguments.iter().find(|argument| argument.name == *own))
}

/// The value as it was given.
fn raw_value<'a>(subject: &Subject<'a>, name: &str, own: &[&str]) -> Option<Value<'a>> {
    if name == "res" {
        return number(subject.event.model().result()?);
    }
    if let Some((file, _)) = path_of(subject, name, own) {
        return Some(Value::Text(file));
    }
    let process = subject.process;
    match subject.event {
        Event::Call(call) => match argument_of(call, own)?.role {
            Role::Text if call.text().is_some() => call.text().map(Value::Text),
            _ => number_of(call, own).map(|(_, value)| Value::Number(value)),
        },
        Event::Open(open) => match name {
            "fd" => number(open.record.result.into()),
            "flags" => number(open.flags()?.into()),
            _ => None,
        },
        Event::Connect(connect) => match name {
            "fd" => number(connect.record.fd.into()),
            "domain" | "family" => number(connect.record.family.into()),
            "tuple" => fd_name(subject),
            "addr" if !connect.path.is_empty() => Some(Value::Text(connect.path)),
            "addr" => {
                let of_own = connect.record.header.kind != kind::CONNECT;
                let address = if of_own { connect.local() } else { connect.remote() }?;
                Some(Value::Inline(Inline::format(format_args!("{address}"))))
            }
            _ => None,
        },
        Event::Cred(cred) => {
            let new = &cred.new;
            number(match name {
                "uid" | "euid" => new.euid.into(),
                "gid" | "egid" => new.egid.into(),
                "ruid" => new.uid.into(),
                "suid" => new.suid.into(),
                "rgid" => new.gid.into(),
                "sgid" => new.sgid.into(),
                "cap_effective" => new.cap_effective as i64,
                "cap_permitted" => new.cap_permitted as i64,
                "cap_inheritable" => new.cap_inheritable as i64,
                _ => return None,
            })
        }
        Event::Exec(exec) => {
            let rights = &exec.record.credentials;
            match name {
                "exe" => first_argument(process),
                "comm" => Some(Value::Text(process.name())),
                "args" => arguments(&process.image),
                "cwd" => Some(Value::Text(exec.cwd)),
                "trusted_exepath" => Some(Value::Text(exec.exe)),
                _ => number(match name {
                    "pid" => process.key.tgid.into(),
                    "tid" => exec.record.header.tid.into(),
                    "vpid" => process.ns_tgid.into(),
                    "vtid" => exec.record.header.ns_tid.into(),
                    "ptid" => process.parent.tgid.into(),
                    "pgid" => process.process_group.into(),
                    "tty" => process.tty.into(),
                    "loginuid" => (process.login_uid as i32).into(),
                    "exe_ino" => process.image.version.ino as i64,
                    "uid" => rights.euid.into(),
                    "gid" => rights.egid.into(),
                    "cap_effective" => rights.cap_effective as i64,
                    "cap_permitted" => rights.cap_permitted as i64,
                    "cap_inheritable" => rights.cap_inheritable as i64,
                    _ => return None,
                }),
            }
        }
        Event::Fork(fork) => match name {
            "comm" => Some(Value::Text(process.name())),
            "flags" => number(fork.clone_flags as i64),
            "pid" => number(fork.child_tgid.into()),
            "vpid" => number(fork.child_ns_tgid.into()),
            _ => None,
        },
        Event::Exit(exit) => number(match name {
            "status" => exit.wait_status.into(),
            "ret" => (exit.wait_status >> 8 & 0xff).into(),
            "sig" => (exit.wait_status & 0x7f).into(),
            "core" => (exit.wait_status >> 7 & 1).into(),
            _ => return None,
        }),
        Event::Signal(signal) => number(match name {
            "sig" => signal.signal.into(),
            "pid" | "dpid" => signal.target_tgid.into(),
            "spid" => process.key.tgid.into(),
            _ => return None,
        }),
        Event::Cgroup(_) | Event::CgroupMove(_) | Event::Flow(_) | Event::Udp(_) | Event::Dns(_) => None,
    }
}
