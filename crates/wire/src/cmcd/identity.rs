//! Which view and which number a record has, so that the same record sent twice is the same event.
//!
//! - With `sid` the view is `sid`, so that SDK, steering token and CMCD speak of one view. A `sid` that our ids can't
//!   hold (spaces, colons …) becomes `sid-` and a hash of it.
//! - Without `sid` the record is *unlinked*: its view is one of 4,096 buckets, `unlinked-000` to `unlinked-fff`. The
//!   bucket comes from the sender's mark, a keyed hash of its address: the same at every collector, told apart well
//!   enough that equal records of different viewers are not taken for one, and far too coarse to know anyone by.
//! - The number is the record's time (for `rr` the end of the response) with 11 bits behind: four of `sn` and six of a
//!   hash of the line, or without `sn` (dash.js sends none unless told to) ten of the hash of line and sender; the last
//!   one is 0 if `sn` is 0. Not `sn` alone: hls.js, dash.js and Shaka count from 0 again under the same `sid` whenever
//!   something is loaded again, and all that follows would be taken for a repetition. Not `sn` and time alone: dash.js
//!   gives several responses that end together one `sn`. A record that is sent again is the same line, so it has the
//!   same number; the order is that of time, and within a millisecond that of `sn`.

use hmac::{Hmac, Mac as _};
use sha2::{Digest as _, Sha256};
use spillway_model::ViewId;

use super::{Record, first_u64};

/// Begin of an unlinked view's id.
pub const UNLINKED_PREFIX: &str = "unlinked-";
/// Bits behind the time; with 42 bits of milliseconds (until the year 2109) it is a number that JavaScript can count to.
const LOW_BITS: u32 = 11;
const TIME_BITS: u32 = 42;

/// Tells senders of records without `sid` apart, without keeping anything of the address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SenderMark(u64);

impl SenderMark {
    /// The mark of `address` under a secret that all collectors of a deployment share.
    #[must_use]
    pub fn new(secret: &[u8], address: &[u8]) -> Self {
        // HMAC takes keys of any length.
        let mac = Hmac::<Sha256>::new_from_slice(secret).map(|mac| mac.chain_update(address).finalize().into_bytes());
        Self(mac.map_or(0, |bytes| first_u64(&bytes)))
    }
}

/// Which event a record is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The view, or the bucket.
    pub view_id: ViewId,
    /// Number within view and target.
    pub seq: u64,
    /// Whether the view is known (`sid`).
    pub linked: bool,
}

/// Which event `record` is; `None` never happens for a record that was read with [`super::parse_events`].
#[must_use]
pub fn identify(record: &Record, mark: SenderMark) -> Option<Identity> {
    let cmcd = &record.cmcd;
    let view_id = match &cmcd.sid {
        Some(sid) => ViewId::new(sid).or_else(|_| {
            let hash = Sha256::digest(sid.as_bytes());
            ViewId::new(&hash.iter().take(16).fold(String::from("sid-"), |text, byte| text + &format!("{byte:02x}")))
        }),
        None => ViewId::new(&format!("{UNLINKED_PREFIX}{:03x}", mark.0 >> 52)),
    };
    let low = match (cmcd.sn, &cmcd.sid) {
        (Some(sn), Some(_)) => (sn & 0xf) << 7 | (record.digest & 0x3f) << 1 | u64::from(sn != 0),
        (None, Some(_)) => record.digest << 1 | 1,
        // A bucket's senders all count from 0: there `sn` tells nothing apart.
        (_, None) => (record.digest.rotate_left(17) ^ mark.0) << 1 | 1,
    };
    let end_ms = cmcd.ts_ms?.saturating_add(cmcd.ttlb_ms.unwrap_or(0));
    let seq = ((end_ms & ((1 << TIME_BITS) - 1)) << LOW_BITS) | (low & ((1 << LOW_BITS) - 1));
    Some(Identity { view_id: view_id.ok()?, seq, linked: cmcd.sid.is_some() })
}

/// Whether an event with this number is the first of its target (`sn` 0).
#[must_use]
pub const fn is_first(seq: u64) -> bool {
    seq & 1 == 0
}
