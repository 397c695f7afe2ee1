//! `bpf`: programs and maps that are made.

use serde_json::json;
use taffrail_tests::syscall;

use crate::{outcome, watch};

#[test]
fn made_and_refused_objects_are_told_and_elements_of_maps_are_not() {
    let Some(seen) = watch("made_and_refused_objects_are_told_and_elements_of_maps_are_not", || {
        // `union bpf_attr`: type (an array), size of key and of value, entries.
        let map = [2u32, 4, 8, 1, 0, 0, 0, 0];
        // Old kernels count maps as locked memory, of which there may be too little.
        let map = outcome(syscall!(libc::SYS_bpf, 0, map.as_ptr(), 32));
        let (key, mut value) = (0u32, 0u64);
        let element = [map as u64, &raw const key as u64, &raw mut value as u64, 0];
        let _ = syscall!(libc::SYS_bpf, 1, element.as_ptr(), 32);
        // A program without instructions.
        let program = [0u64; 8];
        let program = outcome(syscall!(libc::SYS_bpf, 5, program.as_ptr(), 64));
        let unknown = outcome(syscall!(libc::SYS_bpf, 1u64 << 32 | 999, program, 0));
        Ok((map, program, unknown))
    }) else {
        return;
    };
    let (map, program, unknown) = seen.value;
    seen.one(
        "bpf",
        json!({"type": "bpf", "result": map, "args": {"command_name": "BPF_MAP_CREATE", "size": 32}}),
    );
    seen.one("bpf", json!({"result": program, "args": {"command_name": "BPF_PROG_LOAD"}}));
    seen.one("bpf", json!({"result": unknown, "args": {"command": 999}}));
    assert!(program < 0 && unknown < 0);
    assert_eq!(seen.all("bpf", &json!({})).len(), 3);
}
