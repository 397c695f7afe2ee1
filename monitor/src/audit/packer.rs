//! Packs closed segments, on a thread of its own so that the log does not wait for it.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use super::archive;
use super::trouble::Troubles;

/// The thread that packs.
pub struct Packer {
    wake: Option<SyncSender<()>>,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    /// The segment that is being written begins with this record.
    open: AtomicU64,
    /// Segments that begin below this record are deleted.
    deleted_below: AtomicU64,
    ends: AtomicBool,
}

impl Packer {
    /// Starts the thread; it begins with what is closed already. The segment that is being written begins with record `open`.
    pub fn start(folder: PathBuf, open: u64, troubles: Troubles) -> io::Result<Self> {
        let (wake, woken) = sync_channel(1);
        let shared = Arc::new(Shared::default());
        let theirs = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("pack".to_owned())
            .spawn(move || pack(&folder, &woken, &theirs, &troubles))?;
        let packer = Self { wake: Some(wake), shared, thread: Some(thread) };
        packer.set_open(open);
        Ok(packer)
    }

    /// Segments before that of record `open` are closed.
    pub fn set_open(&self, open: u64) {
        self.shared.open.store(open, Ordering::SeqCst);
        if let Some(wake) = &self.wake {
            // One that waits already looks at all of them.
            let _ = wake.try_send(());
        }
    }

    /// Segments that begin below this record are about to be deleted.
    pub fn set_deleted(&self, below: u64) {
        self.shared.deleted_below.store(below, Ordering::SeqCst);
    }
}

impl Drop for Packer {
    fn drop(&mut self) {
        self.shared.ends.store(true, Ordering::SeqCst);
        self.wake = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn pack(folder: &std::path::Path, woken: &Receiver<()>, shared: &Shared, troubles: &Troubles) {
    if let Err(error) = archive::tidy(folder) {
        troubles.add("pack", &error);
    }
    while woken.recv().is_ok() {
        let mut closed = archive::closed(folder).unwrap_or_default();
        // A file behind the one that is written is there, too, while the writer still tries to make it durable.
        closed.retain(|segment| segment.first < shared.open.load(Ordering::SeqCst));
        for segment in closed {
            if shared.ends.load(Ordering::SeqCst) {
                return;
            }
            let is_deleted = || segment.first < shared.deleted_below.load(Ordering::SeqCst);
            let packed = if is_deleted() { continue } else { archive::pack(&segment) };
            if is_deleted() {
                // It was deleted in its plain form while it was packed.
                let _ = segment.packed().remove();
            } else if let Err(error) = packed {
                troubles.add("pack", &error);
            }
        }
    }
}
