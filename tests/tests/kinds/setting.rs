//! `setting`: how a process changes what it is called and what it may do.

use serde_json::json;
use taffrail_tests::syscall;

use crate::{outcome, watch};

#[test]
fn changed_settings_are_told_and_questions_are_not() {
    let Some(seen) = watch("changed_settings_are_told_and_questions_are_not", || {
        let name = c"[kworker/0:1]";
        syscall!(libc::SYS_prctl, libc::PR_SET_NAME, name.as_ptr(), 0, 0, 0)?;
        let mut asked = [0u8; 16];
        syscall!(libc::SYS_prctl, libc::PR_GET_NAME, asked.as_mut_ptr(), 0, 0, 0)?;
        // The kernel looks at the lower half of the option only.
        syscall!(libc::SYS_prctl, 1u64 << 32 | libc::PR_SET_DUMPABLE as u64, 0, 0, 0, 0)?;
        syscall!(libc::SYS_prctl, libc::PR_CAPBSET_DROP, 13, 0, 0, 0)?;
        syscall!(libc::SYS_prctl, libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)?;
        syscall!(libc::SYS_personality, libc::ADDR_NO_RANDOMIZE)?;
        // Allows all.
        let filter = [libc::sock_filter { code: 6, jt: 0, jf: 0, k: 0x7fff_0000 }];
        let program = libc::sock_fprog { len: 1, filter: filter.as_ptr().cast_mut() };
        syscall!(libc::SYS_seccomp, 1, 2, &raw const program)?;
        syscall!(libc::SYS_prctl, libc::PR_SET_SECCOMP, 2, &raw const program, 0, 0)?;
        Ok(outcome(syscall!(libc::SYS_seccomp, 77, 0, 0)))
    }) else {
        return;
    };
    let prctl = |option: &str| json!({"type": "prctl", "result": 0, "args": {"option_name": option}});
    let named = seen.one("setting", prctl("PR_SET_NAME"));
    assert_eq!(named["event"]["text"], "[kworker/0:1]");
    assert_eq!(named["process"]["name"], "[kworker/0:1]");
    seen.one("setting", prctl("PR_SET_DUMPABLE"));
    seen.one("setting", json!({"args": {"option_name": "PR_CAPBSET_DROP", "value": 13}}));
    seen.one("setting", json!({"args": {"option_name": "PR_SET_NO_NEW_PRIVS", "value": 1}}));
    seen.one(
        "setting",
        json!({"type": "personality", "args": {"persona_names": ["PER_LINUX", "ADDR_NO_RANDOMIZE"]}}),
    );
    let mode = json!({"type": "seccomp", "result": 0, "args": {"operation_name": "SECCOMP_SET_MODE_FILTER"}});
    assert_eq!(seen.one("setting", mode)["event"]["args"]["flags_names"], json!(["SECCOMP_FILTER_FLAG_LOG"]));
    seen.one("setting", json!({"args": {"option_name": "PR_SET_SECCOMP", "value": 2}}));
    seen.one("setting", json!({"type": "seccomp", "result": -libc::EINVAL, "args": {"operation": 77}}));
    assert_eq!(seen.value, -i64::from(libc::EINVAL));
    seen.none("setting", json!({"args": {"option": libc::PR_GET_NAME}}));
}
