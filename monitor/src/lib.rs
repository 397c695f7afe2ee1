//! Taffrail's daemon and command line. The stages of an event, in order:
//! receive ([`probe`]), decode ([`event`]), enrich ([`enrich`]), match ([`rules`], [`detect`]),
//! record ([`audit`]). [`pipeline`] wires them.

pub mod audit;
pub mod capture;
pub mod cli;
pub mod clock;
pub mod config;
pub mod confine;
pub mod detect;
pub mod diagnostic;
pub mod enrich;
pub mod event;
pub mod export;
pub mod pipeline;
pub mod probe;
pub mod remote;
pub mod rules;
pub mod scope;
pub mod serve;
pub mod stamp;
pub mod syscalls;
pub mod talk;
#[doc(hidden)]
pub mod testing;
pub mod vitals;
pub mod yaml;
