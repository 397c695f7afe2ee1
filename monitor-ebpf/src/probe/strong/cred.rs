//! Credentials in the moment in which they change, so that what was before is known, and a change that no known call
//! made (an exploit of the kernel) is seen.

use aya_ebpf::macros::fentry;
use aya_ebpf::programs::FEntryContext;
use core::mem::MaybeUninit;
use taffrail_common::call::NO_CALL;
use taffrail_common::event::{Cred, Credentials};
use taffrail_common::kind::CRED;

use crate::emit::{Lane, emit};
use crate::maps::OLD_CREDENTIALS;
use crate::probe::exec::credentials;
use crate::probe::syscall::{is_exec, of_thread};
use crate::read::{kernel, offset};
use crate::scope;
use crate::task::{self, Task, thread_key};

/// `int commit_creds(struct cred *new)`, its start.
#[fentry]
pub fn creds_changed(ctx: FEntryContext) -> i32 {
    let cgroup_id = scope::cgroup_id();
    if !scope::watched(CRED, cgroup_id) {
        return 0;
    }
    let task = Task::current();
    let new: *const u8 = ctx.arg(0);
    let old: *const u8 = task.field(offset!(task_cred));
    let call = match of_thread(task) {
        Some((shape, ..)) if shape.kind == CRED => {
            // The call's end tells it.
            let _ = OLD_CREDENTIALS.insert(&thread_key(), &credentials(old), 0);
            return 0;
        }
        Some((shape, flags, _)) => (shape.call, flags),
        None => (NO_CALL, 0),
    };
    if is_exec(task) || rights(old) == rights(new) {
        return 0;
    }
    scope::count_offered(CRED);
    let mut record = MaybeUninit::<Cred>::uninit();
    let record = record.as_mut_ptr();
    // SAFETY: the record starts with its header.
    unsafe { task::fill_header(&raw mut (*record).header, CRED, call.1, cgroup_id, task) };
    let user_ns: *const u8 = kernel(new, offset!(cred_user_ns));
    // Effective ids of the new credentials, as at the end of a call.
    let [euid, egid]: [u32; 2] = kernel(new, offset!(cred_euid));
    // SAFETY: plain stores to the record.
    #[expect(clippy::multiple_unsafe_ops_per_block, reason = "plain stores to one record")]
    unsafe {
        (*record).header.euid = euid;
        (*record).header.egid = egid;
        (*record).old = credentials(old);
        (*record).old_known = 1;
        (*record).new = credentials(new);
        (*record).user_ns = kernel(user_ns, offset!(user_ns_inum));
        (*record).secure_bits = kernel(new, offset!(cred_secure_bits));
        (*record).result = 0;
        (*record).call = call.0 as u32;
        (*record).reserved = 0;
    }
    // SAFETY: all fields are written.
    unsafe { emit(record, Lane::Urgent) };
    0
}

/// What makes credentials others: ids, capabilities, user namespace.
#[inline(always)]
fn rights(cred: *const u8) -> ([u32; 8], [u64; 3], u64) {
    let sets = [
        kernel(cred, offset!(cred_cap_permitted)),
        kernel(cred, offset!(cred_cap_effective)),
        kernel(cred, offset!(cred_cap_bounding)),
    ];
    (kernel(cred, offset!(cred_uid)), sets, kernel(cred, offset!(cred_user_ns)))
}

/// The credentials that the thread had before the call that ends; forgets them.
#[inline(always)]
pub fn take_old() -> Option<Credentials> {
    let key = thread_key();
    // SAFETY: the entry is this thread's own.
    let old = unsafe { OLD_CREDENTIALS.get(&key) }.copied();
    let _ = OLD_CREDENTIALS.remove(&key);
    old
}
