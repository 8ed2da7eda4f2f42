//! `quarantine`: events that were refused for a reason that an analyst wants to see.

use super::Column;
use super::Kind::{Int, Text};

pub(crate) const QUARANTINE_COLUMNS: &[Column] = &[
    ("property", Text, false, "tenant's app"),
    ("dt", Text, false, "UTC day of received_ms; partition"),
    ("received_ms", Int, false, "arrival at the collector, ms since epoch"),
    ("reason", Text, false, "why: too_old, bad_value, missing_field, unknown_type or bad_id"),
    ("view_id", Text, true, "playback attempt"),
    ("source", Text, false, "sdk, or the CMCD target"),
    ("sdk", Text, true, "sender's name and version"),
    ("row", Int, false, "place in its beacon, from 0"),
    ("raw", Text, true, "the event as it came, without URL queries, 4 KiB at most; null under Global Privacy Control"),
];
