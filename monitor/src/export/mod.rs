//! Exporters: each one is a cursor over the audit log that sends what it reads to a receiver, at least once and in
//! order. [`record`] reads a line, [`format`] writes it in the receiver's form by [`table`] and [`convert`], [`cut`]
//! bounds it; [`deliver`] sends batches by a [`transport`], keeps its position by [`cursor`], and by [`dead`] what nobody
//! takes. Each exporter has a thread of its own, so that none waits for another, and nothing here runs on the threads
//! that handle events. [`redact`] keeps secrets in addresses out of what is told.

use std::path::Path;
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::audit::{Durable, RecordKind};

pub mod convert;
pub mod cursor;
pub mod cut;
pub mod dead;
pub mod deliver;
pub mod format;
pub mod record;
pub mod redact;
pub mod settings;
pub mod standing;
pub mod table;
#[cfg(test)]
mod tests;
pub mod transport;

use deliver::{Exporter, Phase, Tell};
use settings::Settings;
use standing::Standing;

/// All exporters at work.
pub struct Exporters {
    phase: watch::Sender<Phase>,
    ended: Receiver<()>,
    running: usize,
    tell: Arc<Mutex<Option<Tell>>>,
    standings: Vec<Arc<Standing>>,
}

impl Exporters {
    /// Starts them. `tell` must not wait for them.
    pub fn start(
        all: &[Settings],
        log: &Path,
        durable: &Durable,
        tell: impl Fn(RecordKind, Vec<u8>) + Send + 'static,
    ) -> std::io::Result<Self> {
        let (phase, watched) = watch::channel(Phase::Running);
        let (end, ended) = mpsc::channel();
        let tell: Tell = Box::new(move |kind, body| {
            tell(kind, body);
            true
        });
        let tell = Arc::new(Mutex::new(Some(tell)));
        let mut standings = Vec::new();
        for settings in all {
            let told = Arc::clone(&tell);
            let tell: Tell = Box::new(move |kind, body| {
                let told = told.lock().unwrap_or_else(PoisonError::into_inner);
                told.as_ref().is_some_and(|tell| tell(kind, body))
            });
            let mut exporter =
                Exporter::new(settings.clone(), log, Some(durable.clone()), tell, watched.clone())?;
            standings.push(Arc::clone(&exporter.standing));
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let end = end.clone();
            std::thread::Builder::new().name(format!("export {}", settings.name)).spawn(move || {
                runtime.block_on(exporter.run());
                // What is left of look-ups that hang is not waited for.
                runtime.shutdown_background();
                // Whoever waited may have gone.
                let _ = end.send(());
            })?;
        }
        Ok(Self { phase, ended, running: all.len(), tell, standings })
    }

    /// How each of them is doing.
    pub fn standings(&self) -> &[Arc<Standing>] {
        &self.standings
    }

    /// Nobody listens to them any more. One that has to tell a loss ends before it, and tells it after the next start.
    pub fn hush(&self) {
        self.tell.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    /// Lets them send what is in the log, and ends them; what does not get through in this time is sent after the
    /// next start.
    pub fn drain(self, time: Duration) {
        let wait = |deadline: Instant, running: &mut usize| {
            while *running > 0
                && self.ended.recv_timeout(deadline.saturating_duration_since(Instant::now())).is_ok()
            {
                *running -= 1;
            }
        };
        let mut running = self.running;
        self.phase.send_replace(Phase::Draining);
        wait(Instant::now() + time, &mut running);
        self.phase.send_replace(Phase::Stopped);
        wait(Instant::now() + Duration::from_secs(1), &mut running);
    }
}
