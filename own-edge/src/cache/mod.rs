//! What is kept, and how it comes.
//!
//! `lookup` (kept, being fetched, or for this request alone) → `fetch` with `fill` (one fetch for all who wait, streamed
//! to them while it comes) → `object` in `store` (memory, large ones in `memory_files`) and `disk`; `purge` takes it out;
//! `held` counts bodies as long as anybody has them.

pub(crate) mod disk;
pub(crate) mod fetch;
pub(crate) mod fill;
pub(crate) mod held;
pub(crate) mod lookup;
pub(crate) mod memory_files;
pub(crate) mod object;
pub(crate) mod purge;
pub(crate) mod store;
