//! The routing manifest as a domain type, and [`rank()`]: session × content × cohort × manifest → ordered pathways.
//!
//! Invariant: integer arithmetic only, no clock, no I/O, no randomness, no wire format; the same input gives the
//! same order on every machine and in every language. 1,000 golden vectors in `golden/rank.json` hold it to that:
//! they never change.
//!
//! The files in the order a decision takes: `manifest` (what was published) → `hash` and `log2` (a session's
//! place) → `rank` (the order) → `playlist` (which of them a playlist declares). `ranker` gives the same order without
//! allocating, for a manifest that answers many: `targets`, `rules` with `index`, and `spares` hold it by number,
//! `names` and `placing` are its fast parts.
#![no_std]

extern crate alloc;

mod hash;
mod index;
mod log2;
mod manifest;
mod names;
mod placing;
mod playlist;
mod rank;
mod ranker;
mod rules;
mod spares;
mod targets;
mod weights;

pub use hash::{hash_pair, share_of};
pub use manifest::{
    AddressFamily, CohortRule, DrillNote, Group, Invalid, Manifest, ModeRule, OverrideNote, Pathway, ProbeShare,
    Serves, Target, TtlPolicy,
};
pub use playlist::playlist_pathways;
pub use rank::{Place, Ranked, Session, rank, rank_shadow, rule_for};
pub use ranker::{Order, Placed, Ranker};
pub use weights::Weights;
