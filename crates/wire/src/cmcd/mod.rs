//! CMCD, versions 1 and 2 (CTA-5004, CTA-5004-B): what players report without an SDK of ours (`docs/wire-protocol.md`).
//!
//! A record is a dictionary of structured fields (RFC 9651). It comes alone with a media request ([`parse_request`]),
//! or in a body of event mode, one record a line ([`parse_events`]). Reading is strict in syntax and tolerant in types:
//! a line that is no dictionary costs itself, a key with a strange value costs only its type. [`to_event`] makes one of
//! our events of each.

mod event;
mod identity;
mod keys;
mod request;
mod rest;
mod text;
mod token;
mod value;

use std::collections::HashMap;

pub use event::{Mapped, OTHER, to_event};
pub use identity::{Identity, SenderMark, UNLINKED_PREFIX, identify, is_first};
pub use keys::{Cmcd, Measures};
pub use request::{HEADERS, parse_headers, parse_query, parse_request};
use sha2::{Digest as _, Sha256};
use spillway_model::limits::{CMCD_MAX_RECORDS, CMCD_RECORD_MAX_BYTES};
pub use token::{EventName, ObjectType, State, StreamType, StreamingFormat};
pub use value::{Measure, NextObject};

/// Media type of a body of event mode.
pub const MEDIA_TYPE: &str = "application/cmcd";

/// Why one record is refused, for good; [`RecordError::reason`] is the stable name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// Longer than allowed.
    #[error("a record of {0} bytes, at most {CMCD_RECORD_MAX_BYTES} are valid")]
    TooLong(usize),
    /// Not a dictionary.
    #[error("not a dictionary of structured fields: {0}")]
    BadSyntax(String),
    /// Event mode: `e` or `ts` is not there.
    #[error("the key `{0}` is missing")]
    MissingField(&'static str),
    /// Event mode: `ts` is not a number of milliseconds.
    #[error("the value of `{0}` is not of its type")]
    BadValue(&'static str),
    /// `sid` is empty or longer than 64 characters.
    #[error("`sid` has {0} characters, 1 to 64 are valid")]
    BadId(usize),
}

impl RecordError {
    /// Stable reason name.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::TooLong(_) => "too_long",
            Self::BadSyntax(_) => "bad_syntax",
            Self::MissingField(_) => "missing_field",
            Self::BadValue(_) => "bad_value",
            Self::BadId(_) => "bad_id",
        }
    }
}

/// Why a whole body is refused, for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// No record in it.
    #[error("the body is empty, one record a line is expected")]
    Empty,
    /// More records than allowed.
    #[error("{0} records, at most {CMCD_MAX_RECORDS} are valid")]
    TooManyRecords(usize),
}

impl BodyError {
    /// Stable reason name, the same as a beacon's.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Empty => "empty_body",
            Self::TooManyRecords(_) => "too_many_events",
        }
    }
}

/// A record of a body.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// Place in the body, from 0; blank lines don't count.
    pub index: usize,
    /// Its keys; `e` (typed or in `others`) and `ts` are there.
    pub cmcd: Cmcd,
    /// Hash of the line, and of how many lines like it stood before it in the body: the same when it is sent again.
    pub digest: u64,
}

/// A body as it was read: `records` and `rejected` together are its lines.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Received {
    /// Good records.
    pub records: Vec<Record>,
    /// Index and reason of each of the others.
    pub rejected: Vec<(usize, RecordError)>,
}

/// The lines of a body that count, in the order of their indexes.
pub fn lines(body: &[u8]) -> impl Iterator<Item = &[u8]> {
    body.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii).filter(|line| !line.is_empty())
}

/// Reads a body of event mode. Line feeds, carriage returns before them and blank lines are as the sender likes.
///
/// # Errors
/// A [`BodyError`] if the body as a whole is unusable; single bad records are in [`Received::rejected`].
pub fn parse_events(body: &[u8]) -> Result<Received, BodyError> {
    let lines: Vec<&[u8]> = lines(body).collect();
    if lines.is_empty() {
        return Err(BodyError::Empty);
    }
    if lines.len() > CMCD_MAX_RECORDS {
        return Err(BodyError::TooManyRecords(lines.len()));
    }
    let mut received = Received::default();
    let mut seen: HashMap<&[u8], u64> = HashMap::new();
    for (index, line) in lines.into_iter().enumerate() {
        match parse_event(line) {
            Ok(cmcd) => {
                let before = seen.entry(line).or_default();
                received.records.push(Record { index, cmcd, digest: digest(line, *before) });
                *before += 1;
            }
            Err(error) => received.rejected.push((index, error)),
        }
    }
    Ok(received)
}

fn parse_event(line: &[u8]) -> Result<Cmcd, RecordError> {
    let cmcd = Cmcd::parse(line)?;
    if cmcd.e.is_none() && !cmcd.others.contains_key("e") {
        return Err(RecordError::MissingField("e"));
    }
    if cmcd.ts_ms.is_none() {
        let there = cmcd.others.contains_key("ts");
        return Err(if there { RecordError::BadValue("ts") } else { RecordError::MissingField("ts") });
    }
    match cmcd.sid.as_deref().map(str::len) {
        Some(length) if !(1..=64).contains(&length) => Err(RecordError::BadId(length)),
        _ => Ok(cmcd),
    }
}

fn digest(line: &[u8], before: u64) -> u64 {
    let mut hash = Sha256::new();
    hash.update(before.to_be_bytes());
    hash.update(line);
    first_u64(&hash.finalize())
}

fn first_u64(bytes: &[u8]) -> u64 {
    bytes.iter().take(8).fold(0, |sum, byte| (sum << 8) | u64::from(*byte))
}
