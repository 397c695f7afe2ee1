//! A program held against a seccomp profile as it is shipped: what the profile refuses is told, and done all the same,
//! so that one run finds all of it. Needs Linux 5.9.

use std::collections::BTreeSet;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;
use std::thread::JoinHandle;

use libc::{seccomp_notif, seccomp_notif_resp, sock_filter, sock_fprog};
use serde::Deserialize;
use syscalls::Sysno;

use crate::{raw, syscall};

/// A profile as runtimes take it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Profile {
    syscalls: Vec<Rule>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Rule {
    /// Of all architectures.
    names: Vec<String>,
    action: String,
    errno_ret: Option<i32>,
    #[serde(default)]
    args: Vec<Condition>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Condition {
    index: usize,
    value: u64,
    value_two: u64,
    op: String,
}

impl Condition {
    fn is_true(&self, arguments: &[u64; 6]) -> bool {
        match &*self.op {
            "SCMP_CMP_EQ" => arguments[self.index] == self.value,
            "SCMP_CMP_MASKED_EQ" => arguments[self.index] & self.value == self.value_two,
            other => panic!("{other}"),
        }
    }
}

/// What becomes of a call.
enum Answer {
    Allowed,
    Refused,
    Error(i32),
}

impl Profile {
    /// Reads one.
    pub fn read(path: &Path) -> io::Result<Self> {
        Ok(serde_json::from_slice(&std::fs::read(path)?)?)
    }

    /// Names that no architecture has.
    pub fn unknown(&self) -> Vec<&str> {
        use syscalls::{aarch64, x86_64};
        let is_known =
            |name: &str| name.parse::<x86_64::Sysno>().is_ok() || name.parse::<aarch64::Sysno>().is_ok();
        let names = self.syscalls.iter().flat_map(|rule| &rule.names).map(String::as_str);
        names.filter(|name| !is_known(name)).collect()
    }

    /// Numbers that are allowed whatever they are asked for.
    fn always(&self) -> impl Iterator<Item = u32> {
        let rules =
            self.syscalls.iter().filter(|rule| rule.action == "SCMP_ACT_ALLOW" && rule.args.is_empty());
        let numbers = rules.flat_map(|rule| &rule.names).filter_map(|name| name.parse::<Sysno>().ok());
        numbers.map(|number| number.id() as u32)
    }

    fn answer(&self, call: &str, arguments: &[u64; 6]) -> Answer {
        let is_it = |rule: &&Rule| {
            rule.names.iter().any(|name| name == call)
                && rule.args.iter().all(|argument| argument.is_true(arguments))
        };
        match self.syscalls.iter().find(is_it) {
            Some(Rule { errno_ret: Some(error), .. }) => Answer::Error(*error),
            Some(_) => Answer::Allowed,
            None => Answer::Refused,
        }
    }

    /// Lets pass what is always allowed, and asks for all else.
    fn filter(&self) -> Vec<sock_filter> {
        let step = |code: u32, jf: u8, k: u32| sock_filter { code: code as u16, jt: 0, jf, k };
        let ret = |what: u32| step(libc::BPF_RET | libc::BPF_K, 0, what);
        // The call's number is what the filter's data begins with.
        let mut filter = vec![step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0)];
        for number in self.always() {
            filter.push(step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 1, number));
            filter.push(ret(libc::SECCOMP_RET_ALLOW));
        }
        filter.push(ret(libc::SECCOMP_RET_USER_NOTIF));
        filter
    }
}

/// The descriptor in the program by which its filter asks.
const LISTENER: i32 = 100;

/// Has a program run under a profile. What that refused is known when the program has ended.
pub fn hold(command: &mut Command, profile: Profile) -> io::Result<JoinHandle<io::Result<BTreeSet<String>>>> {
    let filter = profile.filter();
    let (mut started, mut starts) = io::pipe()?;
    let enter = move || {
        let program = sock_fprog { len: filter.len() as u16, filter: filter.as_ptr().cast_mut() };
        syscall!(libc::SYS_prctl, libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)?;
        let flags = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER;
        let listener = syscall!(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const program)?;
        syscall!(libc::SYS_dup3, listener, LISTENER, 0)?;
        starts.write_all(&std::process::id().to_ne_bytes())
    };
    // SAFETY: these are system calls, and no memory is allocated.
    unsafe { command.pre_exec(enter) };
    Ok(std::thread::spawn(move || {
        let mut id = [0; 4];
        started.read_exact(&mut id)?;
        let process = raw::descriptor(syscall!(libc::SYS_pidfd_open, u32::from_ne_bytes(id), 0))?;
        let listener = raw::descriptor(syscall!(libc::SYS_pidfd_getfd, process.as_raw_fd(), LISTENER, 0))?;
        listen(&listener, &profile)
    }))
}

/// Answers until there is nobody any more who could ask.
fn listen(listener: &OwnedFd, profile: &Profile) -> io::Result<BTreeSet<String>> {
    let mut refused = BTreeSet::new();
    loop {
        let mut poll = libc::pollfd { fd: listener.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        syscall!(libc::SYS_ppoll, &raw mut poll, 1, 0, 0, 0)?;
        if poll.revents & libc::POLLIN == 0 {
            return Ok(refused);
        }
        // SAFETY: integers, for which zero is a value.
        let mut asked: seccomp_notif = unsafe { std::mem::zeroed() };
        // Whoever has asked may have ended.
        if syscall!(libc::SYS_ioctl, listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_RECV, &raw mut asked)
            .is_err()
        {
            continue;
        }
        let number = Sysno::new(asked.data.nr as usize);
        let call = number.map_or_else(|| asked.data.nr.to_string(), |number| number.name().to_owned());
        let go_on = libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32;
        let (error, flags) = match profile.answer(&call, &asked.data.args) {
            Answer::Allowed => (0, go_on),
            Answer::Error(error) => (-error, 0),
            Answer::Refused => {
                refused.insert(format!("{call}{:x?}", asked.data.args));
                (0, go_on)
            }
        };
        let answer = seccomp_notif_resp { id: asked.id, val: 0, error, flags };
        let _ = syscall!(
            libc::SYS_ioctl,
            listener.as_raw_fd(),
            libc::SECCOMP_IOCTL_NOTIF_SEND,
            &raw const answer
        );
    }
}
