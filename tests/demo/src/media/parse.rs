//! One fragmented MP4 file → init segment, fragments, codec.

use bytes::Bytes;

use super::boxes::{Found, children, find, read_u16, read_u32, read_u64};
use super::{Fragment, MediaError, Rendition, Track};

const TFHD_BASE_DATA_OFFSET: u32 = 0x1;
const TFHD_SAMPLE_DESCRIPTION: u32 = 0x2;
const TFHD_DEFAULT_DURATION: u32 = 0x8;
const TRUN_DATA_OFFSET: u32 = 0x1;
const TRUN_FIRST_FLAGS: u32 = 0x4;
const TRUN_DURATION: u32 = 0x100;
const TRUN_PER_SAMPLE: [u32; 4] = [TRUN_DURATION, 0x200, 0x400, 0x800];

/// Reads a whole file with one track.
pub(crate) fn rendition(name: &str, file: &Bytes) -> Result<Rendition, MediaError> {
    let top = children(file, 0, file.len())?;
    let moov = top.iter().find(|found| &found.kind == b"moov").ok_or(MediaError::Missing("moov"))?;
    let (track, codec) = sample_entry(file)?;
    let mdhd = find(file, moov.payload(), moov.end, &["trak", "mdia", "mdhd"])?;
    let timescale_at = if file[mdhd.payload()] == 0 { 12 } else { 20 };
    let mut fragments = Vec::new();
    for pair in top.windows(2) {
        // Whatever lies between fragments (`sidx`, `styp`) speaks of offsets in the file.
        if &pair[0].kind == b"moof" && &pair[1].kind == b"mdat" {
            fragments.push(fragment(file, pair[0], pair[1])?);
        }
    }
    if fragments.is_empty() {
        return Err(MediaError::Missing("moof"));
    }
    Ok(Rendition {
        name: name.to_owned(),
        track,
        codec,
        timescale: read_u32(file, mdhd.payload() + timescale_at)?,
        init: file.slice(..moov.end),
        fragments,
    })
}

fn sample_entry(file: &[u8]) -> Result<(Track, String), MediaError> {
    let path = ["moov", "trak", "mdia", "minf", "stbl", "stsd"];
    let stsd = find(file, 0, file.len(), &path)?;
    let entries = children(file, stsd.payload() + 8, stsd.end)?;
    let entry = entries.first().ok_or(MediaError::Missing("a sample entry"))?;
    match &entry.kind {
        b"avc1" => {
            let avcc = find(file, entry.payload() + 78, entry.end, &["avcC"])?;
            let profile = read_u32(file, avcc.payload())? & 0x00FF_FFFF;
            let track = Track::Video {
                width: read_u16(file, entry.payload() + 24)?,
                height: read_u16(file, entry.payload() + 26)?,
            };
            Ok((track, format!("avc1.{profile:06x}")))
        }
        b"mp4a" => {
            let track = Track::Audio {
                channels: read_u16(file, entry.payload() + 16)?,
                sample_rate_hz: read_u32(file, entry.payload() + 24)? >> 16,
            };
            // The object type hides in `esds`; the ladder is made with `-profile:a aac_low`.
            Ok((track, "mp4a.40.2".to_owned()))
        }
        other => Err(MediaError::Unsupported(format!(
            "sample entry `{}` (valid: avc1, mp4a)",
            String::from_utf8_lossy(other)
        ))),
    }
}

fn fragment(file: &Bytes, moof: Found, mdat: Found) -> Result<Fragment, MediaError> {
    let tfdt = find(file, moof.payload(), moof.end, &["traf", "tfdt"])?;
    let base_decode_time = if file[tfdt.payload()] == 0 {
        u64::from(read_u32(file, tfdt.payload() + 4)?)
    } else {
        read_u64(file, tfdt.payload() + 4)?
    };
    let traf = find(file, moof.payload(), moof.end, &["traf"])?;
    let default_duration = default_sample_duration(file, traf)?;
    let mut duration = 0;
    for found in children(file, traf.payload(), traf.end)? {
        if &found.kind == b"trun" {
            duration += run_duration(file, found, default_duration)?;
        }
    }
    Ok(Fragment { bytes: file.slice(moof.start..mdat.end), base_decode_time, duration })
}

fn default_sample_duration(file: &[u8], traf: Found) -> Result<u32, MediaError> {
    let tfhd = find(file, traf.payload(), traf.end, &["tfhd"])?;
    let flags = read_u32(file, tfhd.payload())?;
    if flags & TFHD_DEFAULT_DURATION == 0 {
        let trex = find(file, 0, file.len(), &["moov", "mvex", "trex"])?;
        return read_u32(file, trex.payload() + 12);
    }
    let mut at = tfhd.payload() + 8;
    if flags & TFHD_BASE_DATA_OFFSET != 0 {
        at += 8;
    }
    if flags & TFHD_SAMPLE_DESCRIPTION != 0 {
        at += 4;
    }
    read_u32(file, at)
}

fn run_duration(file: &[u8], trun: Found, default_duration: u32) -> Result<u64, MediaError> {
    let flags = read_u32(file, trun.payload())?;
    let samples = read_u32(file, trun.payload() + 4)?;
    if flags & TRUN_DURATION == 0 {
        return Ok(u64::from(samples) * u64::from(default_duration));
    }
    let mut at = trun.payload() + 8;
    for optional in [TRUN_DATA_OFFSET, TRUN_FIRST_FLAGS] {
        if flags & optional != 0 {
            at += 4;
        }
    }
    let stride = 4 * TRUN_PER_SAMPLE.iter().filter(|&&flag| flags & flag != 0).count();
    (0..samples as usize).map(|i| read_u32(file, at + i * stride).map(u64::from)).sum()
}
