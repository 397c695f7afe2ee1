//! A real API server, with its store and the controllers that make pods of workloads: whose workload a container's pod is,
//! and whose a token is. `cargo xtask setup --kubernetes` builds these programs; without them the tests are skipped.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod access;
mod cluster;
mod workloads;
