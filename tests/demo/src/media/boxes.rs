//! Walking ISO base media boxes (ISO/IEC 14496-12 §4.2) in a byte slice.

use super::MediaError;

const HEADER_BYTES: usize = 8;

/// Where a box lies in the slice it was found in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) kind: [u8; 4],
    /// First byte of the header.
    pub(crate) start: usize,
    /// First byte after the box.
    pub(crate) end: usize,
}

impl Found {
    /// First byte after the header.
    pub(crate) fn payload(self) -> usize {
        self.start + HEADER_BYTES
    }
}

/// The boxes that fill `data[start..end]`. 64-bit sizes and "to the end of file" are refused:
/// a clip of 2 MB has neither.
pub(crate) fn children(data: &[u8], start: usize, end: usize) -> Result<Vec<Found>, MediaError> {
    let mut found = Vec::new();
    let mut offset = start;
    while offset < end {
        let size = read_u32(data, offset)? as usize;
        let kind = read_array(data, offset + 4)?;
        let after = offset + size;
        if size < HEADER_BYTES || after > end {
            let box_type = String::from_utf8_lossy(&kind).into_owned();
            return Err(MediaError::CutShort { box_type, offset });
        }
        found.push(Found { kind, start: offset, end: after });
        offset = after;
    }
    Ok(found)
}

/// The first box at the end of `path`, starting from the boxes in `data[start..end]`.
pub(crate) fn find(data: &[u8], start: usize, end: usize, path: &[&'static str]) -> Result<Found, MediaError> {
    let (mut start, mut end, mut last) = (start, end, None);
    for &name in path {
        let found = children(data, start, end)?
            .into_iter()
            .find(|found| found.kind == name.as_bytes())
            .ok_or(MediaError::Missing(name))?;
        (start, end, last) = (found.payload(), found.end, Some(found));
    }
    last.ok_or(MediaError::Missing("a path"))
}

/// Big-endian `u16` at `offset`.
pub(crate) fn read_u16(data: &[u8], offset: usize) -> Result<u16, MediaError> {
    read_array(data, offset).map(u16::from_be_bytes)
}

/// Big-endian `u32` at `offset`.
pub(crate) fn read_u32(data: &[u8], offset: usize) -> Result<u32, MediaError> {
    read_array(data, offset).map(u32::from_be_bytes)
}

/// Big-endian `u64` at `offset`.
pub(crate) fn read_u64(data: &[u8], offset: usize) -> Result<u64, MediaError> {
    read_array(data, offset).map(u64::from_be_bytes)
}

fn read_array<const N: usize>(data: &[u8], offset: usize) -> Result<[u8; N], MediaError> {
    data.get(offset..offset + N)
        .and_then(|bytes| bytes.try_into().ok())
        .ok_or_else(|| MediaError::CutShort { box_type: "field".to_owned(), offset })
}
