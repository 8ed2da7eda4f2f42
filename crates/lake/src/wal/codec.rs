//! Record codec: `[len u32][crc32 u32][seq u64][payload]`, little endian. `len` counts the payload, the CRC covers
//! sequence and payload; the payload is an Arrow IPC stream of one batch.

use std::io::Cursor;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::{IpcWriteOptions, StreamWriter};

use crate::LakeError;
use crate::schema::TableName;

/// Bytes before the payload.
pub const HEADER_BYTES: usize = 16;
/// A longer payload is taken for damage: groups end far below.
pub const PAYLOAD_MAX_BYTES: usize = 64 * 1024 * 1024;

/// What stands at an offset of a segment.
#[derive(Debug, PartialEq, Eq)]
pub enum Decoded<'a> {
    /// A good record.
    Record {
        /// Its sequence.
        seq: u64,
        /// Its payload.
        payload: &'a [u8],
        /// Where the next one begins, from this one's begin.
        next: usize,
    },
    /// Exactly the end.
    End,
    /// No good record, and why.
    Bad(&'static str),
}

fn crc(seq: u64, payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&seq.to_le_bytes());
    hasher.update(payload);
    hasher.finalize()
}

/// Adds a record's bytes to `out`, the payload as `write` appends it; the payload's length. Writing it where it goes
/// saves a copy.
///
/// # Errors
/// What `write` says, or if the payload is longer than [`PAYLOAD_MAX_BYTES`]; `out` is unchanged then.
pub fn encode(
    seq: u64,
    out: &mut Vec<u8>,
    write: impl FnOnce(&mut Vec<u8>) -> Result<(), LakeError>,
) -> Result<usize, LakeError> {
    let begin = out.len();
    out.extend_from_slice(&[0; HEADER_BYTES]);
    let sealed = write(out).and_then(|()| seal(seq, &mut out[begin..]));
    if sealed.is_err() {
        out.truncate(begin);
    }
    sealed
}

/// Fills in the header of `record`.
fn seal(seq: u64, record: &mut [u8]) -> Result<usize, LakeError> {
    let (header, payload) = record.split_at_mut(HEADER_BYTES);
    let bytes = payload.len();
    let len =
        u32::try_from(bytes).ok().filter(|_| bytes <= PAYLOAD_MAX_BYTES).ok_or(LakeError::RecordTooLong(bytes))?;
    header[..4].copy_from_slice(&len.to_le_bytes());
    header[4..8].copy_from_slice(&crc(seq, payload).to_le_bytes());
    header[8..].copy_from_slice(&seq.to_le_bytes());
    Ok(bytes)
}

/// Reads the record that `bytes` begins with.
#[must_use]
pub fn decode(bytes: &[u8]) -> Decoded<'_> {
    if bytes.is_empty() {
        return Decoded::End;
    }
    let Some((header, rest)) = bytes.split_first_chunk::<HEADER_BYTES>() else {
        return Decoded::Bad("the header is cut");
    };
    let [l0, l1, l2, l3, c0, c1, c2, c3, s0, s1, s2, s3, s4, s5, s6, s7] = *header;
    let len = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
    let seq = u64::from_le_bytes([s0, s1, s2, s3, s4, s5, s6, s7]);
    if len == 0 || len > PAYLOAD_MAX_BYTES {
        return Decoded::Bad("the length is not one of a record");
    }
    let Some(payload) = rest.get(..len) else {
        return Decoded::Bad("the payload is cut");
    };
    if crc(seq, payload) != u32::from_le_bytes([c0, c1, c2, c3]) {
        return Decoded::Bad("the checksum does not match");
    }
    Decoded::Record { seq, payload, next: HEADER_BYTES + len }
}

/// Appends `batches` to `out` as an Arrow IPC stream.
///
/// # Errors
/// [`LakeError::Arrow`] if it can't be written, which has no reason that is known.
pub fn write_ipc(batches: &[RecordBatch], schema: &SchemaRef, out: &mut Vec<u8>) -> Result<(), LakeError> {
    // The default alignment of 64 bytes would be most of a small record.
    let options = IpcWriteOptions::try_new(8, false, arrow::ipc::MetadataVersion::V5)?;
    let mut writer = StreamWriter::try_new_with_options(out, schema, options)?;
    for batch in batches {
        writer.write(batch)?;
    }
    Ok(writer.finish()?)
}

/// All batches of an Arrow IPC stream.
///
/// # Errors
/// [`LakeError::Arrow`] if the bytes are not one.
pub fn from_ipc(bytes: &[u8]) -> Result<Vec<RecordBatch>, LakeError> {
    Ok(StreamReader::try_new(Cursor::new(bytes), None)?.collect::<Result<_, _>>()?)
}

/// The table that a record's rows are for: it stands in the metadata of their schema.
///
/// # Errors
/// [`LakeError::UnknownTable`]: written by a later version.
pub(crate) fn table_of(batch: &RecordBatch) -> Result<TableName, LakeError> {
    let schema = batch.schema();
    let name = schema.metadata().get("table").map_or("", String::as_str);
    TableName::of(name).ok_or_else(|| LakeError::UnknownTable(name.to_owned()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn record(seq: u64, payload: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        encode(seq, &mut bytes, |out| {
            out.extend_from_slice(payload);
            Ok(())
        })
        .expect("encode");
        bytes
    }

    proptest! {
        #[test]
        fn a_record_reads_back(seq in any::<u64>(), payload in prop::collection::vec(any::<u8>(), 1..2_000)) {
            let mut bytes = record(seq, &payload);
            let next = bytes.len();
            bytes.extend_from_slice(b"what follows");
            prop_assert_eq!(decode(&bytes), Decoded::Record { seq, payload: &payload[..], next });
        }

        #[test]
        fn a_record_cut_anywhere_is_bad(payload in prop::collection::vec(any::<u8>(), 1..300), cut in any::<prop::sample::Index>()) {
            let bytes = record(9, &payload);
            let cut = cut.index(bytes.len() - 1) + 1;
            prop_assume!(cut < bytes.len());
            prop_assert!(matches!(decode(&bytes[..cut]), Decoded::Bad(_)));
        }

        #[test]
        fn a_flipped_bit_is_noticed(payload in prop::collection::vec(any::<u8>(), 1..300), at in any::<prop::sample::Index>(), bit in 0..8_u32) {
            let mut bytes = record(9, &payload);
            let at = at.index(bytes.len());
            bytes[at] ^= 1_u8 << bit;
            let same = Decoded::Record { seq: 9, payload: &payload[..], next: HEADER_BYTES + payload.len() };
            prop_assert_ne!(decode(&bytes), same);
        }
    }
}
