//! Scenarios played against the real decisions and the real `rank()`, deterministic by seed.
//!
//! Invariant: no clock, no I/O, no threads; the same scenario, policy and seed give the same bytes. Players are models:
//! they poll, fetch, retry and stall; bytes and connections don't exist.
//!
//! The files in the order of a run: `format` (scenario and world files) → `world`, `demand`, `faults` (what is there,
//! who comes, what breaks) → `fluid` or `session` (views as numbers, or every player by itself) → `evidence` (what
//! collectors, steering nodes, edges and probes would send) → `policies` (who decides: the engine, its peers, oracles)
//! → `routing` (manifests and shares) → `measure`, `bill`, `outcome` (what came of it) → `suite`, `verdicts`, `report`
//! (many runs side by side).

mod bill;
mod demand;
mod deployment;
mod estimate;
mod evidence;
mod faults;
mod fluid;
mod format;
mod measure;
mod outcome;
mod policies;
mod random;
mod report;
mod routing;
mod session;
mod suite;
mod verdicts;
mod world;

pub use estimate::Estimate;
pub use format::{
    Events, Fault, FaultKind, Mode, Origin, Pathway, PlayerKind, Players, Quality, Region, Scenario, ScenarioError,
    Status, Surge, WorldFile,
};
pub use outcome::{Billed, Outcome, Sample, StateChange, Timeline, WeightChange};
pub use policies::{Part, Policy};
pub use report::html;
pub use session::Traces;
pub use suite::{Job, Line, Plan, Suite, world};
pub use verdicts::{Verdict, verdicts};

/// Plays a scenario in one mode. The same arguments give the same outcome. Traces are for session mode; without any, a
/// seeded model takes their place.
#[must_use]
pub fn play(scenario: &Scenario, policy: Policy, mode: Mode, seed: u64, traces: &Traces) -> Outcome {
    match mode {
        Mode::Fluid => fluid::play(scenario, policy, seed),
        Mode::Session => session::play(scenario, policy, seed, traces),
    }
}
