//! `decisions`, `drills` and `rounds`: what the orchestrator writes down.

use super::Column;
use super::Kind::{Int, Text};

pub(crate) const DECISION_COLUMNS: &[Column] = &[
    ("dt", Text, false, "UTC day of issued_ms; partition"),
    ("region", Text, false, "routing region"),
    ("epoch", Int, false, "version of the region's manifest"),
    ("issued_ms", Int, false, "published at, ms since epoch"),
    ("policy", Text, true, "policy that decided"),
    ("reason", Text, true, "what changed and why, for people"),
    ("shares_json", Text, true, "JSON: pathway to share, ppm"),
    ("state_json", Text, true, "JSON: pathway to state and reason"),
];

pub(crate) const DRILL_COLUMNS: &[Column] = &[
    ("dt", Text, false, "UTC day of ended_ms; partition"),
    ("id", Text, false, "drill"),
    ("ended_ms", Int, false, "ended at, ms since epoch"),
    ("report_json", Text, true, "JSON: the report"),
];

pub(crate) const ROUND_COLUMNS: &[Column] = &[
    ("dt", Text, false, "UTC day of at_ms; partition"),
    ("at_ms", Int, false, "time of the round, ms since epoch"),
    ("orchestrator", Text, false, "process that decided"),
    ("started_ms", Int, false, "its first round, ms since epoch: tells two runs of a process apart"),
    ("seq", Int, false, "0, 1, 2 ... of the run; a gap is a round that was not recorded"),
    ("v", Int, false, "version of the texts"),
    ("bytes", Int, false, "length of the texts, bytes"),
    ("heard_json", Text, false, "JSON: evidence of the round"),
    ("taught_json", Text, true, "JSON: what the lake had taught; null: as in the row before"),
    (
        "in_force_json",
        Text,
        true,
        "JSON by region: manifests in force before the round; null: as in the row before, and what it published",
    ),
    ("published_json", Text, true, "JSON by region: manifests published by the round; null: none"),
    ("config_toml", Text, true, "TOML: sections of the configuration that decide; null: as in the row before"),
];
