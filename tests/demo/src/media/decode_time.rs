//! Moving a fragment in time: a new base media decode time in its `tfdt` box.

use super::MediaError;
use super::boxes::{Found, children, find, read_u32};

const VERSION_1: u8 = 1;
const WIDENED_BY: u32 = 4;
const TRUN_DATA_OFFSET: u32 = 0x1;

/// The fragment (`moof` + `mdat`) with another base decode time, in ticks of its timescale.
///
/// A version 0 box keeps its 32 bits as long as the time fits; beyond that it becomes version 1,
/// and the sizes and data offsets around it grow by the four bytes.
///
/// # Errors
/// If the boxes can't be read, or the fragment has more than one track.
pub fn with_decode_time(fragment: &[u8], base_decode_time: u64) -> Result<Vec<u8>, MediaError> {
    let moof = find(fragment, 0, fragment.len(), &["moof"])?;
    let trafs = children(fragment, moof.payload(), moof.end)?;
    let mut trafs = trafs.into_iter().filter(|found| &found.kind == b"traf");
    let traf = trafs.next().ok_or(MediaError::Missing("traf"))?;
    if trafs.next().is_some() {
        return Err(MediaError::Unsupported("several tracks in a fragment (valid: 1)".to_owned()));
    }
    let tfdt = find(fragment, traf.payload(), traf.end, &["tfdt"])?;
    let version = fragment[tfdt.payload()];
    let field = tfdt.payload() + 4;
    let mut out = fragment.to_vec();
    match (version, u32::try_from(base_decode_time)) {
        (0, Ok(narrow)) => write(&mut out, field, &narrow.to_be_bytes())?,
        (0, Err(_)) => return widened(fragment, [moof, traf, tfdt], base_decode_time),
        _ => write(&mut out, field, &base_decode_time.to_be_bytes())?,
    }
    Ok(out)
}

fn widened(fragment: &[u8], [moof, traf, tfdt]: [Found; 3], base_decode_time: u64) -> Result<Vec<u8>, MediaError> {
    let mut out = fragment.to_vec();
    for found in [moof, traf, tfdt] {
        let size = read_u32(fragment, found.start)? + WIDENED_BY;
        write(&mut out, found.start, &size.to_be_bytes())?;
    }
    for trun in children(fragment, traf.payload(), traf.end)? {
        let has_offset = &trun.kind == b"trun" && read_u32(fragment, trun.payload())? & TRUN_DATA_OFFSET != 0;
        if has_offset {
            // Counted from the start of `moof`, which is now longer.
            let data_offset = read_u32(fragment, trun.payload() + 8)? + WIDENED_BY;
            write(&mut out, trun.payload() + 8, &data_offset.to_be_bytes())?;
        }
    }
    out[tfdt.payload()] = VERSION_1;
    out.splice(tfdt.payload() + 4..tfdt.end, base_decode_time.to_be_bytes());
    Ok(out)
}

fn write(out: &mut [u8], offset: usize, bytes: &[u8]) -> Result<(), MediaError> {
    out.get_mut(offset..offset + bytes.len())
        .ok_or_else(|| MediaError::CutShort { box_type: "tfdt".to_owned(), offset })?
        .copy_from_slice(bytes);
    Ok(())
}
