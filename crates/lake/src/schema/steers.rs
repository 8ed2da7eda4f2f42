//! `steers`: sampled steering answers with their why.

use super::Column;
use super::Kind::{Float, Int, Text};

pub(crate) const STEER_COLUMNS: &[Column] = &[
    ("node", Text, false, "steering node that answered; key with batch_seq and row"),
    ("batch_seq", Int, false, "the node's number of the batch"),
    ("row", Int, false, "place in the batch, from 0"),
    ("dt", Text, false, "UTC day of issued_ms; partition"),
    ("issued_ms", Int, false, "answered at, ms since epoch"),
    ("received_ms", Int, false, "arrival at the collector, ms since epoch"),
    ("view_id", Text, true, "playback attempt, where its token was valid"),
    ("region", Text, false, "routing region"),
    ("asn", Int, true, "network"),
    ("epoch", Int, true, "manifest epoch that decided; null: static weights"),
    ("protocol", Text, false, "hls, dash or other"),
    ("first_pathway", Text, false, "pathway that stands first"),
    ("priority", Text, false, "pathways, best first, with commas"),
    ("ttl_s", Int, false, "time until the next poll, s"),
    ("sample_rate", Float, false, "share of answers that are reported"),
    ("reason", Text, true, "why this pathway is first"),
    ("why_json", Text, true, "JSON: what the decision saw"),
];
