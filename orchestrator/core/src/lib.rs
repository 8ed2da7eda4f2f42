//! Decisions of the orchestrator, pure: evidence and time in, one routing manifest per region out.
//!
//! Invariant: no tokio, no clock, no I/O, no randomness; time is an argument; the same input gives the same output.
//! This crate doesn't know how evidence travels, where manifests go, or what a player is.
//!
//! The path of a decision, file by file: `observe` (counters by second, pathway, region and network) → `sent`
//! (which reports to believe) → `estimate` (how ill is it, down to networks and protocols) → `probes`, `detect` (fast and slow lane, silence, networks, common
//! faults) → `state`, `recovery` (HEALTHY … DOWN … RECOVERING) → `demand` (bits that will be wanted) → `carried`,
//! `capacity`, `price` (what there is, and what it costs) → `floor`, `orders`, `classes`, `fill`, `wish` (what is good
//! enough; operators first, then own edges, then by cost) → `canary`, `pace`, `course`, `relief` (how far to move now,
//! and what holds it back) → `spare`, `cohorts` (second places, single networks) → `plan`, `publish` (the manifest and
//! what pages show) → `explain`.
//! Beside it: `by_hand` (manifests for the night when nothing decides), `reconfigure` (another setup between two rounds).
//! `engine` calls `hear`, `judge` and `decide`, which call the others in this order.

mod api;
mod by_hand;
mod canary;
mod capacity;
mod carried;
mod classes;
mod cohorts;
mod course;
mod decide;
mod demand;
mod detect;
mod engine;
mod estimate;
mod explain;
mod fill;
mod floor;
mod hear;
mod judge;
mod levels;
mod memory;
mod observe;
mod orders;
mod pace;
mod parameters;
mod plan;
mod price;
mod probes;
mod publish;
mod reconfigure;
mod recovery;
mod relief;
mod sent;
mod spare;
mod state;
mod weights;
mod wish;

pub(crate) use api::HOURS_OF_WEEK;
pub use api::{
    Bill, Calm, CalmKind, Canary, CanaryNote, CanaryState, CapacityLimit, CellEvidence, ClassEvidence, ContentEvidence,
    FindingNote, HitRatio, Learned, LoadEvidence, LogEntry, NetworkHealth, OriginEvidence, OriginSeen, Override,
    OverrideKind, PathwaySetup, PathwayTotals, PathwayTrace, PriceSheet, PriceTier, ProbeEvidence, ProbeObject,
    RegionPlan, RegionSetup, RoundInput, RoundOutput, Setup, SharedCeilings, SourceKind, Switches,
};
pub use by_hand::{CannotEvacuate, Evacuation, by_static_weights, evacuate};
pub use engine::Engine;
pub use explain::{Explanation, Fact};
pub use parameters::Parameters;
pub use plan::same_routing;
pub use price::projected_gb;
pub use reconfigure::Reconfigured;
