//! The demo's clip: a CMAF ladder, embedded in the binary and cut into fragments at start-up.
//!
//! The files are made by `media/make.sh`. All renditions have the same number of fragments and
//! the same length, so that fragment `n` of one lines up with fragment `n` of every other and the
//! clip can be looped without a seam.

mod boxes;
mod decode_time;
mod parse;

#[cfg(test)]
mod tests;

use bytes::Bytes;

pub use decode_time::with_decode_time;

/// Length of a video fragment, and the grid that audio fragments follow within 16 ms.
pub const SEGMENT_MS: u64 = 2_000;

/// Video frames per second of every rendition.
pub const FRAMES_PER_SECOND: u64 = 25;

const FILES: [(&str, &[u8]); 4] = [
    ("v144", include_bytes!("../../media/v144.mp4")),
    ("v240", include_bytes!("../../media/v240.mp4")),
    ("v360", include_bytes!("../../media/v360.mp4")),
    ("a48", include_bytes!("../../media/a48.mp4")),
];

/// Why a media file could not be read or rewritten.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MediaError {
    /// A box reaches past the end of what holds it, or is too short for its fields.
    #[error("read `{box_type}` at byte {offset}: it is cut short")]
    CutShort {
        /// Four-character name of the box, or of the box expected there.
        box_type: String,
        /// Offset of the box in the file or fragment.
        offset: usize,
    },
    /// A box that every CMAF track has is not there.
    #[error("find `{0}`: no such box")]
    Missing(&'static str),
    /// The file is valid but not what the demo's ladder is made of.
    #[error("use the file: {0}")]
    Unsupported(String),
}

/// What a track carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Track {
    /// H.264 video.
    Video {
        /// Width in pixels.
        width: u16,
        /// Height in pixels.
        height: u16,
    },
    /// AAC-LC audio.
    Audio {
        /// Samples per second.
        sample_rate_hz: u32,
        /// Number of channels.
        channels: u16,
    },
}

/// One `moof` + `mdat`.
#[derive(Debug, Clone)]
pub struct Fragment {
    /// The two boxes, as in the file.
    pub bytes: Bytes,
    /// Decode time of the first sample, in ticks of the rendition's timescale.
    pub base_decode_time: u64,
    /// Sum of the sample durations, in ticks.
    pub duration: u64,
}

/// One rung of the ladder, or the audio track.
#[derive(Debug, Clone)]
pub struct Rendition {
    /// Name in URLs: `v144`, `v240`, `v360` or `a48`.
    pub name: String,
    /// What it carries.
    pub track: Track,
    /// RFC 6381 codec string.
    pub codec: String,
    /// Ticks per second of all times in this rendition.
    pub timescale: u32,
    /// Everything before the first fragment (`ftyp` + `moov`).
    pub init: Bytes,
    /// The fragments in order.
    pub fragments: Vec<Fragment>,
}

impl Rendition {
    /// Whether this is a video rung.
    #[must_use]
    pub fn is_video(&self) -> bool {
        matches!(self.track, Track::Video { .. })
    }

    /// Length of the whole rendition in ticks.
    #[must_use]
    pub fn duration(&self) -> u64 {
        self.fragments.iter().map(|fragment| fragment.duration).sum()
    }

    /// Bits per second of the largest fragment.
    #[must_use]
    pub fn peak_bps(&self) -> u64 {
        self.fragments.iter().map(|f| self.bits_per_second(f.bytes.len(), f.duration)).max().unwrap_or(0)
    }

    /// Bits per second over the whole clip.
    #[must_use]
    pub fn average_bps(&self) -> u64 {
        self.bits_per_second(self.fragments.iter().map(|f| f.bytes.len()).sum(), self.duration())
    }

    /// Ticks as seconds, for durations in playlists.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a clip's ticks fit in 52 bits")]
    pub fn seconds(&self, ticks: u64) -> f64 {
        ticks as f64 / f64::from(self.timescale)
    }

    /// Fragment `index` with its decode time moved by `loops` lengths of the clip.
    ///
    /// # Errors
    /// Only if the fragment is not what [`Clip::embedded`] made.
    ///
    /// # Panics
    /// If `index` is not below the number of fragments.
    pub fn fragment_in_loop(&self, index: usize, loops: u64) -> Result<Bytes, MediaError> {
        let fragment = &self.fragments[index];
        let base_decode_time = fragment.base_decode_time + loops * self.duration();
        with_decode_time(&fragment.bytes, base_decode_time).map(Bytes::from)
    }

    fn bits_per_second(&self, size_bytes: usize, ticks: u64) -> u64 {
        (size_bytes as u64 * 8 * u64::from(self.timescale)).checked_div(ticks).unwrap_or(0)
    }
}

/// The whole ladder.
#[derive(Debug, Clone)]
pub struct Clip {
    /// Video rungs by rising bitrate, then the audio track.
    pub renditions: Vec<Rendition>,
}

impl Clip {
    /// Reads the files embedded in this binary.
    ///
    /// # Errors
    /// If a file is not fragmented MP4 of one H.264 or AAC track, or if the renditions differ in
    /// length or in their number of fragments.
    pub fn embedded() -> Result<Self, MediaError> {
        let renditions = FILES
            .iter()
            .map(|&(name, file)| parse::rendition(name, &Bytes::from_static(file)))
            .collect::<Result<Vec<_>, _>>()?;
        let clip = Self { renditions };
        clip.check_alignment()?;
        Ok(clip)
    }

    /// The rendition of this name.
    #[must_use]
    pub fn rendition(&self, name: &str) -> Option<&Rendition> {
        self.renditions.iter().find(|rendition| rendition.name == name)
    }

    /// The video rungs by rising bitrate.
    pub fn videos(&self) -> impl Iterator<Item = &Rendition> {
        self.renditions.iter().filter(|rendition| rendition.is_video())
    }

    /// The audio track.
    pub fn audios(&self) -> impl Iterator<Item = &Rendition> {
        self.renditions.iter().filter(|rendition| !rendition.is_video())
    }

    /// Fragments in every rendition.
    #[must_use]
    pub fn fragment_count(&self) -> usize {
        self.renditions.first().map_or(0, |rendition| rendition.fragments.len())
    }

    fn check_alignment(&self) -> Result<(), MediaError> {
        let clip_ms = self.fragment_count() as u64 * SEGMENT_MS;
        for rendition in &self.renditions {
            let fragments = rendition.fragments.len();
            let expected = clip_ms * u64::from(rendition.timescale) / 1_000;
            if fragments != self.fragment_count() || rendition.duration() != expected {
                return Err(MediaError::Unsupported(format!(
                    "{} has {fragments} fragments and {} ticks (the ladder has {} and {expected})",
                    rendition.name,
                    rendition.duration(),
                    self.fragment_count(),
                )));
            }
        }
        Ok(())
    }
}
