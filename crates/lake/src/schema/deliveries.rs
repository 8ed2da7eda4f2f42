//! `deliveries`: what edges and CDNs delivered, the truth for cost.

use super::Column;
use super::Kind::{Float, Int, Map, Text};

pub(crate) const DELIVERY_COLUMNS: &[Column] = &[
    ("source", Text, false, "who sent it: an edge, or import-HASH of a log file; key with batch_seq and row"),
    ("batch_seq", Int, false, "the source's number of the batch; 1 for a file"),
    ("row", Int, false, "place in the batch, from 0; in a file its line, from 1"),
    ("dt", Text, false, "UTC day of delivered_ms; partition"),
    ("delivered_ms", Int, false, "end of the delivery, of several the first, ms since epoch"),
    ("received_ms", Int, false, "arrival at the collector, or start of the import, ms since epoch"),
    ("format", Text, false, "form of the log: rows, cmcd-log, fastly, cloudfront or akamai"),
    ("pathway", Text, true, "pathway, by host where the log does not name it"),
    ("host", Text, true, "host that the client asked for"),
    ("region", Text, true, "routing region of the client"),
    ("asn", Int, true, "network of the client"),
    ("country", Text, true, "country of the client"),
    ("path", Text, true, "path of the object, without query"),
    ("status", Int, true, "HTTP status, 0 = the client left before one was sent"),
    ("bytes", Int, true, "bytes sent to the client"),
    ("requests", Int, false, "requests that this row stands for"),
    ("ttfb_ms", Int, true, "time to first byte, of several the mean, ms"),
    ("duration_ms", Int, true, "time to last byte, of several the mean, ms"),
    ("cache_status", Text, true, "hit, miss, stale, pass, error or the sender's own word"),
    ("protocol", Text, true, "HTTP/1.1, HTTP/2 or HTTP/3"),
    ("view_id", Text, true, "playback attempt, where the request said it (CMCD sid)"),
    ("cmcd", Map, true, "CMCD of the request, key to value"),
    ("sample_rate", Float, true, "share of deliveries that are reported; null: all"),
];
