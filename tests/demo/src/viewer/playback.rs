//! Buffer and playhead: exact without ticks, since a playhead moves at the speed of the clock.

/// The two media tracks of a view.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Track {
    /// Video, or everything if audio is not apart.
    Video,
    /// Audio.
    Audio,
}

/// What the player does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Nothing was shown yet.
    Starting,
    /// The picture moves.
    Playing,
    /// The buffer ran dry.
    Stalled,
}

/// A span of a stall, ms on the viewers' clock; open until `end_ms` is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stall {
    /// When the picture stopped.
    pub start_ms: u64,
    /// When it moved again.
    pub end_ms: Option<u64>,
}

/// Stalls of one view that are kept; nobody watches on after so many.
const MAX_STALLS: usize = 2_000;

/// A contiguous stretch of media, ms of media time.
#[derive(Debug, Clone, Copy, Default)]
struct Range {
    start_ms: u64,
    end_ms: u64,
}

/// Playback of one view. All moments are ms on one monotonic clock.
#[derive(Debug, Clone)]
pub struct Playback {
    phase: Phase,
    start_after_ms: u64,
    resume_after_ms: u64,
    joined_ms: u64,
    now_ms: u64,
    playhead_ms: u64,
    ranges: [Option<Range>; 2],
    tracks: usize,
    first_frame_ms: Option<u64>,
    playing_ms: u64,
    stall_ms: u64,
    stalls: Vec<Stall>,
    stall_count: u64,
}

impl Playback {
    /// A view that joined at `joined_ms` and shows its first picture once `start_after_ms` of media are buffered.
    #[must_use]
    pub fn new(joined_ms: u64, start_after_ms: u64, with_audio: bool) -> Self {
        Self {
            phase: Phase::Starting,
            start_after_ms,
            resume_after_ms: start_after_ms.min(2_000),
            joined_ms,
            now_ms: joined_ms,
            playhead_ms: 0,
            ranges: [None, None],
            tracks: if with_audio { 2 } else { 1 },
            first_frame_ms: None,
            playing_ms: 0,
            stall_ms: 0,
            stalls: Vec::new(),
            stall_count: 0,
        }
    }

    /// Whether audio is a track of its own; known once the playlist is read.
    pub fn set_tracks(&mut self, with_audio: bool) {
        self.tracks = if with_audio { 2 } else { 1 };
    }

    /// Lets the clock run to `now_ms`.
    pub fn advance(&mut self, now_ms: u64) {
        let passed_ms = now_ms.saturating_sub(self.now_ms);
        match self.phase {
            Phase::Starting => {}
            Phase::Stalled => self.stall_ms += passed_ms,
            Phase::Playing => {
                let left_ms = self.ahead_ms();
                let played_ms = passed_ms.min(left_ms);
                self.playhead_ms += played_ms;
                self.playing_ms += played_ms;
                if passed_ms > left_ms {
                    self.stall_ms += passed_ms - left_ms;
                    self.phase = Phase::Stalled;
                    self.stall_count += 1;
                    if self.stalls.len() < MAX_STALLS {
                        self.stalls.push(Stall { start_ms: self.now_ms + left_ms, end_ms: None });
                    }
                }
            }
        }
        self.now_ms = self.now_ms.max(now_ms);
    }

    /// A segment of `track` arrived: media from `start_ms` to `end_ms` of media time.
    pub fn append(&mut self, now_ms: u64, track: Track, start_ms: u64, end_ms: u64) {
        self.advance(now_ms);
        let range = &mut self.ranges[track as usize];
        match range {
            Some(range) if start_ms <= range.end_ms => range.end_ms = range.end_ms.max(end_ms),
            // A gap: what the live window lost. Playback goes on behind it.
            _ => *range = Some(Range { start_ms, end_ms }),
        }
        let needed_ms = if self.phase == Phase::Starting { self.start_after_ms } else { self.resume_after_ms };
        if self.phase != Phase::Playing && self.ahead_ms() >= needed_ms.max(1) {
            if let Some(stall) = self.stalls.last_mut().filter(|stall| stall.end_ms.is_none()) {
                stall.end_ms = Some(now_ms);
            }
            self.playhead_ms = self.playable_from_ms();
            self.first_frame_ms = self.first_frame_ms.or(Some(now_ms));
            self.phase = Phase::Playing;
        }
    }

    /// Media that is there for all tracks ahead of the playhead.
    #[must_use]
    pub fn ahead_ms(&self) -> u64 {
        let ends = self.ranges[..self.tracks].iter().map(|range| range.map_or(0, |range| range.end_ms));
        ends.min().unwrap_or(0).saturating_sub(self.playable_from_ms())
    }

    /// Media of one track ahead of the playhead.
    #[must_use]
    pub fn track_ahead_ms(&self, track: Track) -> u64 {
        self.ranges[track as usize].map_or(0, |range| range.end_ms.saturating_sub(self.playhead_ms.max(range.start_ms)))
    }

    fn playable_from_ms(&self) -> u64 {
        let starts = self.ranges[..self.tracks].iter().flatten().map(|range| range.start_ms);
        starts.max().unwrap_or(0).max(self.playhead_ms)
    }

    /// What the player does.
    #[must_use]
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// When it joined.
    #[must_use]
    pub fn joined_ms(&self) -> u64 {
        self.joined_ms
    }

    /// When the first picture was shown.
    #[must_use]
    pub fn first_frame_ms(&self) -> Option<u64> {
        self.first_frame_ms
    }

    /// Media time of the playhead.
    #[must_use]
    pub fn playhead_ms(&self) -> u64 {
        self.playhead_ms
    }

    /// Time in which the picture moved.
    #[must_use]
    pub fn playing_ms(&self) -> u64 {
        self.playing_ms
    }

    /// Time of all stalls, an open one included.
    #[must_use]
    pub fn stall_ms(&self) -> u64 {
        self.stall_ms
    }

    /// Number of stalls.
    #[must_use]
    pub fn stall_count(&self) -> u64 {
        self.stall_count
    }

    /// Every stall in order.
    #[must_use]
    pub fn stalls(&self) -> &[Stall] {
        &self.stalls
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Appends segment `index` of both tracks.
    fn segment(playback: &mut Playback, now_ms: u64, index: u64) {
        for track in [Track::Video, Track::Audio] {
            playback.append(now_ms, track, index * 2_000, (index + 1) * 2_000);
        }
    }

    #[test]
    fn playback_starts_when_enough_of_both_tracks_is_there() {
        let mut playback = Playback::new(1_000, 3_000, true);
        segment(&mut playback, 1_200, 0);
        playback.append(1_300, Track::Video, 2_000, 4_000);
        assert_eq!((playback.phase(), playback.ahead_ms()), (Phase::Starting, 2_000));
        playback.append(1_500, Track::Audio, 2_000, 4_000);
        assert_eq!((playback.phase(), playback.first_frame_ms()), (Phase::Playing, Some(1_500)));
    }

    #[test]
    fn a_dry_buffer_stalls_at_the_exact_moment_and_resumes_with_the_next_segment() {
        let mut playback = Playback::new(0, 2_000, true);
        segment(&mut playback, 100, 0);
        playback.advance(5_000);
        assert_eq!(playback.stalls(), [Stall { start_ms: 2_100, end_ms: None }]);
        assert_eq!((playback.stall_ms(), playback.playing_ms()), (2_900, 2_000));
        segment(&mut playback, 6_100, 1);
        assert_eq!(playback.stalls(), [Stall { start_ms: 2_100, end_ms: Some(6_100) }]);
        playback.advance(7_100);
        assert_eq!((playback.phase(), playback.playhead_ms(), playback.stall_ms()), (Phase::Playing, 3_000, 4_000));
    }

    #[test]
    fn a_gap_left_by_the_live_window_is_jumped() {
        let mut playback = Playback::new(0, 2_000, true);
        segment(&mut playback, 0, 0);
        playback.advance(20_000);
        playback.append(20_000, Track::Video, 14_000, 16_000);
        playback.append(20_100, Track::Audio, 16_000, 18_000);
        assert_eq!(playback.phase(), Phase::Stalled, "the tracks don't overlap yet");
        playback.append(20_200, Track::Video, 16_000, 18_000);
        assert_eq!((playback.phase(), playback.playhead_ms(), playback.ahead_ms()), (Phase::Playing, 16_000, 2_000));
    }

    #[test]
    fn a_view_without_separate_audio_needs_video_only() {
        let mut playback = Playback::new(0, 2_000, false);
        playback.append(10, Track::Video, 0, 2_000);
        assert_eq!(playback.phase(), Phase::Playing);
    }
}
