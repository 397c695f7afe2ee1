//! Exporters: each one is a cursor over the audit log that sends what it reads to a receiver, at least once and in
//! order. [`record`] reads a line, [`format`] writes it in the receiver's form by [`table`], [`cut`] bounds it.

pub mod convert;
pub mod cut;
pub mod format;
pub mod record;
pub mod table;
