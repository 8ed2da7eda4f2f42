//! `decisions` and `drills`: what the orchestrator writes down.

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
