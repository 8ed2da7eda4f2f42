//! Names, units, limits and the clock trait: the words that every room shares.
//!
//! Invariant: this crate knows nothing else of the workspace, does no I/O, reads no clock, draws no random
//! number and has no wire format. `no_std` + `alloc`, so that the same words fit an edge function.
#![no_std]

extern crate alloc;

mod address;
mod clock;
mod id;
pub mod limits;
mod states;
mod units;

pub use address::Cohort;
pub use clock::Clock;
pub use id::{
    ContentClass, ContentId, GroupId, IdError, NodeId, OriginGroupId, PathwayId, PropertyId, RegionId, ViewId,
};
pub use states::{Mode, PathwayKind, PathwayState, Protocol, UnknownWord, Verdict};
pub use units::{Bits, BitsPerSecond, Bytes, Millis, Ppm, TimestampMs};
