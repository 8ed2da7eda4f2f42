//! Time as an argument.

use crate::{Millis, TimestampMs};

/// The only way a room learns the time. Production has one implementation, tests and the simulator their own.
pub trait Clock: Send + Sync {
    /// Wall clock, milliseconds since the Unix epoch. May step.
    fn now(&self) -> TimestampMs;
    /// Monotonic time since some fixed moment of this process. Never steps back.
    fn monotonic(&self) -> Millis;
}
