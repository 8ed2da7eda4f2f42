//! Scenarios played against the real decisions and the real `rank()`, deterministic by seed.
//!
//! Invariant: no clock, no I/O, no threads; the same scenario, policy and seed give the same bytes. Players are models:
//! they poll, fetch, retry and stall in steps of a second; bytes and connections don't exist.
//!
//! The files in the order of a simulated second: `scenario` (what happens) → `deployment` (as declared to the engine)
//! → `session` (players fetch, poll, report) → `evidence` (what collectors and probes would send) → `run` (rounds and
//! publishing) → `outcome` (what is measured).

mod deployment;
mod evidence;
mod outcome;
mod random;
mod run;
mod scenario;
mod session;

pub use outcome::{Comparison, Outcome, StateChange, WeightChange};
pub use run::{Policy, compare, run};
pub use scenario::{Fault, FaultKind, Pathway, Players, Region, Scenario, ScenarioError, Surge};
