//! Decisions of the orchestrator, pure: evidence and time in, one routing manifest per region out.
//!
//! Invariant: no tokio, no clock, no I/O, no randomness; time is an argument; the same input gives the same output.
//! This crate doesn't know how evidence travels, where manifests go, or what a player is.
//!
//! The path of a decision, file by file: `observe` (counters by second, pathway, region and network) → `estimate`
//! (how ill is it) → `fast`, `probes`, `detect` (fast and slow lane, probes, verdicts) → `state` (HEALTHY … DOWN …
//! RECOVERING) → `demand` (bits that will be wanted) → `orders`, `fill` (operators first, then own edges, then by cost)
//! → `course` (how far to move now) → `spare` (second places) → `plan`, `publish` (the manifest and what pages show).
//! `engine` and `decide` call them in this order.

mod api;
mod course;
mod decide;
mod demand;
mod detect;
mod engine;
mod estimate;
mod fast;
mod fill;
mod memory;
mod observe;
mod orders;
mod parameters;
mod plan;
mod probes;
mod publish;
mod spare;
mod state;
mod weights;

pub use api::{
    Bill, Calm, CalmKind, Canary, CanaryNote, CanaryState, CapacityLimit, CellEvidence, ClassEvidence, ContentEvidence,
    FindingNote, HitRatio, Learned, LoadEvidence, LogEntry, NetworkHealth, OriginEvidence, OriginSeen, Override,
    OverrideKind, PathwaySetup, PathwayTotals, PathwayTrace, PriceSheet, PriceTier, ProbeEvidence, ProbeObject,
    RegionPlan, RegionSetup, RoundInput, RoundOutput, Setup, SharedCeilings, SourceKind, Switches,
};
pub use engine::Engine;
pub use parameters::Parameters;
pub use plan::same_routing;
