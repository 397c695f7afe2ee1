//! What is shipped for a cluster, with the real image, which the task runner makes (`cargo xtask test deploy`): the chart
//! and the manifests, that the image starts in real runtimes, and what each right and folder that the pod asks for is
//! needed for.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod chart;
#[allow(dead_code, reason = "the tests of the API server use more of it")]
#[path = "../kubernetes/cluster.rs"]
mod cluster;
mod cri;
mod engine;
#[allow(dead_code, reason = "the tests of identity use more of it")]
#[path = "../identity/image.rs"]
mod image;
mod node;
mod rights;
#[allow(dead_code, reason = "the tests of identity use more of it")]
#[path = "../identity/stage.rs"]
mod stage;
mod start;
mod unit;

use std::path::{Path, PathBuf};

/// The top of the workspace.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
}

/// A tool or product that the task runner names; an error says why there is none.
fn given(variable: &str) -> Result<PathBuf, String> {
    let path = std::env::var_os(variable).map(PathBuf::from);
    let path = path.ok_or_else(|| format!("no {variable}: run by `cargo xtask test deploy`"))?;
    path.exists()
        .then(|| path.clone())
        .ok_or_else(|| format!("no {}: it could not be fetched", path.display()))
}
