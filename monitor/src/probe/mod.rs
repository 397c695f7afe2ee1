//! The kernel side from here: which hooks there are ([`hook`]), where the kernel keeps its fields
//! ([`btf`]), load and attach, each probe on its own ([`load`], [`attach`], [`strong`]), the rings ([`receive`]), and
//! what outlives a daemon ([`handover`]).

mod attach;
pub mod btf;
pub mod call;
pub mod count;
pub mod fill;
pub mod flight;
pub mod handover;
pub mod hook;
pub mod load;
pub mod loss;
pub mod receive;
pub mod scope;
pub mod strong;
pub mod tree;

pub use hook::{HOOKS, Hook, ProbeState};
pub use load::{LoadError, Options, Probes};
