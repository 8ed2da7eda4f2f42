//! The lake: tables under one root, written by few and read by all.
//!
//! The path of an event: [`events`] turns a beacon's events into Arrow, [`log`] groups them, makes them durable in the
//! [`wal`] and keeps them in the [`tail`], [`table`] appends them to a Delta table, [`session`] reads table and tails
//! as one.
//!
//! Invariant: no listener, no policy, no clock of its own; nothing is acknowledged before it is durable, and a row is
//! in the table exactly once, because each commit carries the WAL sequence that it reaches.

pub mod baseline;
mod cells;
pub mod deliveries;
mod error;
pub mod events;
pub mod export;
pub mod files;
pub mod format;
mod functions;
pub mod history;
pub mod import;
pub mod jobs;
pub mod learned;
pub mod log;
pub mod metrics;
pub mod quarantine;
pub mod records;
mod register;
pub mod rounds;
mod s3;
pub mod schema;
pub mod session;
pub mod steers;
pub mod table;
pub mod tail;
mod time;
pub mod verify;
pub mod wal;

pub use error::LakeError;
pub use history::At;
pub use log::{AppendError, CommitReport, EventLog, EventLogOptions, Recovered};
pub use session::{LakeSession, TailSource, events_stored, lake_root, recent_keys};
pub use table::append;
pub use tail::Tail;
pub use time::{iso, moment};
