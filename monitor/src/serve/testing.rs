//! What is asked, without a daemon behind it.

use std::path::Path;
use std::sync::Arc;

use super::access::Calls;
use super::metrics::Sources;
use crate::audit::{Log, Options};

/// Of a daemon that has seen nothing yet, with its log in that folder.
pub fn sources(folder: &Path) -> (Sources, Log) {
    let log = Log::open(Options::new(folder.join("log"), "n".to_owned(), "b".to_owned())).unwrap();
    let sources = Sources {
        vitals: Arc::default(),
        log: log.durable(),
        exporters: vec![Arc::default()],
        probes: Vec::new(),
        rings: Vec::new(),
        calls: Arc::new(Calls::new(Arc::default())),
        remotes: Vec::new(),
        node: "n".to_owned(),
        listen: Default::default(),
    };
    (sources, log)
}
