//! The keys of CTA-5004 (version 1) and CTA-5004-B (version 2), each with its type.

use std::collections::BTreeMap;

use sfv::{Dictionary, ListEntry, Parser};
use spillway_model::limits::{CMCD_KEY_MAX_BYTES, CMCD_OTHERS_MAX, CMCD_RECORD_MAX_BYTES, CMCD_VALUE_MAX_BYTES};

use super::RecordError;
use super::text::readable;
use super::token::{EventName, ObjectType, State, StreamType, StreamingFormat};
use super::value::{Measure, NextObject, Value, entry_text};

/// Numbers by kind of object; a scalar is a list of one.
pub type Measures = Vec<Measure>;

macro_rules! keys {
    ($($(#[$doc:meta])* $key:literal $field:ident: $type:ty,)+) => {
        /// One record: a dictionary of keys. Absent = unknown.
        #[derive(Clone, Debug, Default, PartialEq)]
        pub struct Cmcd {
            $($(#[$doc])* pub $field: Option<$type>,)+
            /// Every other key with its value as structured-field text: custom ones (with a hyphen), those of versions
            /// to come, and known ones whose value is of another type than theirs. So nothing that was sent gets lost.
            pub others: BTreeMap<String, String>,
            /// How many more there were than fit (number, length of key, length of value).
            pub others_dropped: usize,
        }

        impl Cmcd {
            /// Every key of versions 1 and 2, in alphabetical order.
            pub const KEYS: &[&str] = &[$($key),+];

            /// Takes a typed key; false if the key or the type of its value is unknown.
            fn take(&mut self, key: &str, entry: &ListEntry) -> bool {
                match key {
                    $($key => {
                        self.$field = <$type as Value>::read(entry);
                        self.$field.is_some()
                    })+
                    _ => false,
                }
            }

            /// The typed keys that are there, with their values as structured-field text.
            pub(super) fn typed(&self) -> Vec<(&'static str, String)> {
                let all = [$(($key, self.$field.as_ref().and_then(Value::write))),+];
                all.into_iter().filter_map(|(key, value)| Some((key, value?))).collect()
            }
        }
    };
}

keys! {
    /// Aggregate encoded bitrate, kbit/s.
    "ab" ab_kbps: Measures,
    /// All players of the session are out of sight.
    "bg" bg: bool,
    /// Buffer length, ms.
    "bl" bl_ms: Measures,
    /// Encoded bitrate of what is requested or selected, kbit/s.
    "br" br_kbps: Measures,
    /// The buffer was empty since the last report.
    "bs" bs: bool,
    /// Buffer starvations since the session began.
    "bsa" bsa: Measures,
    /// Durations of starvations that ended, each told once, ms.
    "bsd" bsd_ms: Measures,
    /// Time starved since the session began, ms.
    "bsda" bsda_ms: Measures,
    /// The CDN that delivers now.
    "cdn" cdn: String,
    /// `ce`: name of the event.
    "cen" cen: String,
    /// Content.
    "cid" cid: String,
    /// `rr`: CMSD-Dynamic of the response, base64.
    "cmsdd" cmsdd: String,
    /// `rr`: CMSD-Static of the response, base64.
    "cmsds" cmsds: String,
    /// Signature of the content.
    "cs" cs: String,
    /// Duration of the object, ms.
    "d" d_ms: u64,
    /// Dropped frames since the session began.
    "dfa" dfa: u64,
    /// Deadline of the request, ms.
    "dl" dl_ms: u64,
    /// Why the record was made.
    "e" e: EventName,
    /// Error codes of the player.
    "ec" ec: Vec<String>,
    /// Host.
    "h" h: String,
    /// Lowest aggregate bitrate, kbit/s.
    "lab" lab_kbps: Measures,
    /// Lowest bitrate, kbit/s.
    "lb" lb_kbps: Measures,
    /// Latency to live, ms.
    "ltc" ltc_ms: i64,
    /// From the order to play to the first media, ms; once per session and target.
    "msd" msd_ms: u64,
    /// Measured throughput, kbit/s.
    "mtp" mtp_kbps: Measures,
    /// What will be requested next.
    "nor" nor: Vec<NextObject>,
    /// What is requested is not for rendering.
    "nr" nr: bool,
    /// Version 1: byte range of `nor`.
    "nrr" nrr: String,
    /// What is requested.
    "ot" ot: ObjectType,
    /// Bitrate of what is shown, kbit/s.
    "pb" pb_kbps: Measures,
    /// Playback rate; 0 = not playing.
    "pr" pr: f64,
    /// Playhead, ms.
    "pt" pt_ms: i64,
    /// `rr`: HTTP status; 0 = no response.
    "rc" rc: u64,
    /// Throughput that would be enough, kbit/s.
    "rtp" rtp_kbps: u64,
    /// Streaming format.
    "sf" sf: StreamingFormat,
    /// Session: the view.
    "sid" sid: String,
    /// `rr`: SMRT data of the response, base64.
    "smrt" smrt: String,
    /// Number of the record within session, mode and target.
    "sn" sn: u64,
    /// Stream type.
    "st" st: StreamType,
    /// State of the player.
    "sta" sta: State,
    /// Needed urgently: start-up, seek or recovery.
    "su" su: bool,
    /// Top aggregate bitrate, kbit/s.
    "tab" tab_kbps: Measures,
    /// Top bitrate, kbit/s.
    "tb" tb_kbps: Measures,
    /// Target buffer length, ms.
    "tbl" tbl_ms: Measures,
    /// Top bitrate that can be played, kbit/s.
    "tpb" tpb_kbps: Measures,
    /// The sender's wall clock at the event (`rr`: when the request began), ms since epoch.
    "ts" ts_ms: u64,
    /// `rr`: time to first byte, ms.
    "ttfb" ttfb_ms: u64,
    /// `rr`: time to first byte of the body, ms.
    "ttfbb" ttfbb_ms: u64,
    /// `rr`: time to last byte, ms.
    "ttlb" ttlb_ms: u64,
    /// `rr`: what was requested.
    "url" url: String,
    /// Version; absent = 1.
    "v" v: u64,
}

impl Cmcd {
    /// Reads a dictionary. Keys whose value is not of their type cost only themselves: they are in [`Cmcd::others`].
    ///
    /// # Errors
    /// [`RecordError::TooLong`] and [`RecordError::BadSyntax`]: not a dictionary of structured fields.
    pub fn parse(text: &[u8]) -> Result<Self, RecordError> {
        let mut record = Self::default();
        record.add(text)?;
        Ok(record)
    }

    /// Adds the keys of another dictionary; the later one wins.
    pub(super) fn add(&mut self, text: &[u8]) -> Result<(), RecordError> {
        if text.len() > CMCD_RECORD_MAX_BYTES {
            return Err(RecordError::TooLong(text.len()));
        }
        let dictionary: Dictionary =
            Parser::new(&readable(text)).parse().map_err(|error| RecordError::BadSyntax(error.to_string()))?;
        for (key, entry) in &dictionary {
            if !self.take(key.as_str(), entry) {
                self.keep(key.as_str(), entry);
            }
        }
        Ok(())
    }

    fn keep(&mut self, key: &str, entry: &ListEntry) {
        let value = entry_text(entry).filter(|text| text.len() <= CMCD_VALUE_MAX_BYTES);
        match value {
            Some(value) if key.len() <= CMCD_KEY_MAX_BYTES && self.others.len() < CMCD_OTHERS_MAX => {
                self.others.insert(key.to_owned(), value);
            }
            _ => self.others_dropped += 1,
        }
    }

    /// The record as text, keys in alphabetical order: what a player sends, and what [`Cmcd::parse`] reads back.
    /// A value that structured fields can't hold (a number of 16 digits) is left out.
    #[must_use]
    pub fn encode(&self) -> String {
        let mut keys: BTreeMap<&str, String> = self.typed().into_iter().collect();
        for (key, value) in &self.others {
            keys.entry(key).or_insert_with(|| value.clone());
        }
        let member =
            |(key, value): (&str, String)| if value == "?1" { key.to_owned() } else { format!("{key}={value}") };
        keys.into_iter().map(member).collect::<Vec<_>>().join(",")
    }
}
