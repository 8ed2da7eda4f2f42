//! Drills: break something on purpose, watch what we do, restore, and write it down.
//!
//! `file` (what to do) → `run` (do it, on the paths that production has: webhooks inject, the ordinary rounds react) →
//! `evidence` (who suffered, beside a control group) → `report`.

mod evidence;
mod file;
mod report;
mod run;

pub use file::{Drill, DrillError};
pub use report::{Report, Verdict};
pub(crate) use run::Drills;
