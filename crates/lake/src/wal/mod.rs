//! The write-ahead log: segment files of checked records. What is in it and synced is acknowledged; what is committed
//! to the table is trimmed from it.

pub mod codec;
mod files;
mod recovery;
mod segments;

pub use recovery::{OnRecord, Recovery, scan};
pub(crate) use segments::Segments;

/// When an event counts as durable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// After `fdatasync`: survives a power cut.
    #[default]
    Fsync,
    /// After `write`: survives the process, not the machine.
    Os,
}
