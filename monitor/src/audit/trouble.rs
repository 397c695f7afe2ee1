//! What about the log does not work: threads note it here, and the writer tells it in the log.

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::{Arc, Mutex, PoisonError};

/// Troubles that the log has yet to tell, by what does not work.
#[derive(Clone, Debug, Default)]
pub struct Troubles(Arc<Mutex<BTreeMap<&'static str, Trouble>>>);

/// One sort of them.
#[derive(Clone, Debug, Default)]
pub struct Trouble {
    /// How often.
    pub count: u64,
    /// Why, the last time.
    pub error: String,
}

impl Troubles {
    /// Notes one.
    pub fn add(&self, what: &'static str, error: &dyn Error) {
        let mut troubles = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let trouble = troubles.entry(what).or_default();
        trouble.count += 1;
        trouble.error = match error.source() {
            Some(source) => format!("{error}: {source}"),
            None => error.to_string(),
        };
    }

    /// Takes back what was taken and could not be told; newer reasons stand.
    pub fn put_back(&self, told: BTreeMap<&'static str, Trouble>) {
        let mut troubles = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (what, Trouble { count, error }) in told {
            troubles.entry(what).or_insert(Trouble { count: 0, error }).count += count;
        }
    }

    /// Takes all.
    pub fn take(&self) -> BTreeMap<&'static str, Trouble> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
