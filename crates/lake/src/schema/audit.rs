//! `audit`: who changed what, when and why.

use super::Column;
use super::Kind::{Int, Text};

pub(crate) const AUDIT_COLUMNS: &[Column] = &[
    ("dt", Text, false, "UTC day of at_ms; partition"),
    ("at_ms", Int, false, "changed at, ms since epoch"),
    ("orchestrator", Text, false, "process that took the change"),
    ("actor", Text, false, "name of the admin token"),
    ("role", Text, false, "role of the admin token: viewer, operator or admin"),
    ("action", Text, false, "override.add, override.end, drill.start or drill.abort"),
    ("object", Text, false, "id of what was changed"),
    ("reason", Text, true, "why, in the actor's words"),
    ("detail_json", Text, true, "JSON: what was ordered"),
];
