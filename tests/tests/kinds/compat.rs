//! The 32-bit entry of a 64-bit kernel: other numbers, other registers, the same events.
#![cfg(target_arch = "x86_64")]

use serde_json::json;
use taffrail_tests::raw::compat;
use taffrail_tests::sandbox::unsupported;

use crate::{outcome, watch};

#[test]
fn calls_by_the_32_bit_entry_are_the_same_events() {
    let test = "calls_by_the_32_bit_entry_are_the_same_events";
    if let Some(reason) = compat::unavailable() {
        taffrail::testing::skipped(test, reason);
        return;
    }
    let Some(seen) = watch(test, || {
        let low = |text: &str| compat::low(format!("{text}\0").as_bytes()).map_err(unsupported);
        let (a, b) = (low("/tmp/a")?, low("/tmp/b")?);
        let fd = compat::call(5, &[a, (libc::O_CREAT | libc::O_WRONLY) as u32, 0o600])? as u32;
        compat::call(4, &[fd, a, 3])?;
        compat::call(38, &[a, b])?;
        compat::call(15, &[b, 0o4711])?;
        // unshare, mprotect, prctl, memfd_create, setresuid32.
        compat::call(310, &[libc::CLONE_NEWUTS as u32])?;
        compat::call(125, &[a & !0xfff, 4096, 7])?;
        compat::call(172, &[libc::PR_SET_NAME as u32, a])?;
        let memory = compat::call(356, &[a, 1])?;
        let failed = outcome(compat::call(21, &[a, b, a, 0, 0]));
        // socketcall: its arguments are in memory.
        let arguments = [17u32, 3, 0x300].map(u32::to_ne_bytes).concat();
        let packet = outcome(compat::call(102, &[1, compat::low(&arguments)?]));
        compat::call(208, &[1000, 1000, 1000])?;
        Ok((memory, failed, packet))
    }) else {
        return;
    };
    let (memory, failed, packet) = seen.value;
    for (kind, wanted) in [
        ("open", json!({"type": "open", "file": "/tmp/a"})),
        ("write", json!({"type": "write", "result": 3})),
        ("change", json!({"type": "rename", "file": "/tmp/a", "target": "/tmp/b"})),
        ("change", json!({"type": "chmod", "file": "/tmp/b", "args": {"mode": "4711"}})),
        ("namespace", json!({"type": "unshare", "args": {"flags_names": ["CLONE_NEWUTS"]}})),
        ("memory", json!({"type": "mprotect", "args": {"length": 4096, "protection": 7}})),
        ("setting", json!({"type": "prctl", "text": "/tmp/a"})),
        ("memfd", json!({"type": "memfd_create", "text": "/tmp/a", "result": memory})),
        ("mount", json!({"type": "mount", "file": "/tmp/a", "target": "/tmp/b", "result": failed})),
        ("socket", json!({"type": "socket", "result": packet, "args": {"family_name": "AF_PACKET"}})),
        ("cred", json!({"type": "setresuid32", "result": 0, "ruid": 1000, "old_ruid": 0})),
    ] {
        assert_eq!(seen.one(kind, wanted)["event"]["compat"], true);
    }
}
