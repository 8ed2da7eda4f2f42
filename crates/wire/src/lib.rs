//! Every shape that crosses a process or outlives one, versioned, as JSON.
//!
//! Invariant: shapes and their checks only; no policy, no I/O, no clock. Domain types live in `model` and `routing`;
//! here stand the wire types and the `TryFrom` between. Every shape has golden files under `golden/`, which are never
//! changed: a new version gets a new file, and the old one still reads.

pub mod beacon;
pub mod cmcd;
pub mod delivery;
pub mod diff;
pub mod envelope;
pub mod follow;
pub mod frame;
pub mod lenient;
pub mod load;
pub mod manifest;
pub mod overview;
pub mod probe;
pub mod round;
pub mod rows;
pub mod scrub;
pub mod session;
pub mod signed_url;
pub mod steer_answer;
pub mod steering;
pub mod token;
