//! The demo's origin: the clip as video on demand and as an endless live loop, in HLS and DASH.
//!
//! A request's path: `path` says which resource it names → `live` says whether that exists at
//! this moment → `hls` and `dash` write playlists, [`crate::media`] gives segments → `respond`
//! adds headers → `stats` counts.
//!
//! Live titles share one clip but not their URLs, so that caches see three streams. Everything
//! about the live loop follows from the wall clock alone: a restarted origin goes on where
//! another would have been. All URIs inside playlists are relative.

mod dash;
mod hls;
mod live;
mod path;
pub(crate) mod respond;
mod stats;
mod timestamp;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::response::Response;
use bytes::Bytes;
use http::Method;

use crate::media::Clip;
use live::{Availability, LiveLoop};
use path::{Protocol, Resource};
use respond::Answer;
use stats::Counters;

pub use live::{LIVE_EPOCH_MS, WINDOW_SEGMENTS};
pub use path::TITLES;
pub use stats::{ClassStats, OriginStats};

const MANIFEST_MAX_AGE_S: u32 = 2;
const LIVE_PLAYLIST_MAX_AGE_S: u32 = 1;
const NOT_YET_MAX_AGE_S: u32 = 1;
const GONE_MAX_AGE_S: u32 = 60;
const LIVE_SEGMENT_MAX_AGE_S: u32 = 60;
const STABLE_MAX_AGE_S: u32 = 3_600;

/// Wall clock: milliseconds since the Unix epoch.
pub type NowMs = Arc<dyn Fn() -> u64 + Send + Sync>;

/// What the origin serves, and what it has counted. Clones share everything.
#[derive(Clone)]
pub struct OriginState {
    inner: Arc<Inner>,
}

struct Inner {
    clip: Clip,
    live: LiveLoop,
    now_ms: NowMs,
    latency_ms: AtomicU64,
    counters: Counters,
}

impl OriginState {
    /// An origin for `clip` whose live edge follows `now_ms`.
    #[must_use]
    pub fn new(clip: Clip, now_ms: NowMs) -> Self {
        let live = LiveLoop::new(clip.fragment_count() as u64);
        let counters = Counters::default();
        let inner = Inner { clip, live, now_ms, latency_ms: AtomicU64::new(0), counters };
        Self { inner: Arc::new(inner) }
    }

    /// Delays every answer from now on; 0 ends it.
    pub fn set_latency_ms(&self, latency_ms: u64) {
        self.inner.latency_ms.store(latency_ms, Ordering::Relaxed);
    }

    /// Requests and bytes so far.
    #[must_use]
    pub fn stats(&self) -> OriginStats {
        self.inner.counters.snapshot()
    }
}

/// The origin's routes: `/vod/…` and `/live/{title}/…`, `GET` and `HEAD`.
///
/// # Example
/// `/vod/master.m3u8`, `/vod/manifest.mpd`, `/vod/v360/3.m4s`, `/live/river/master.m3u8`,
/// `/live/river/manifest.mpd`, `/live/river/hls/v360/123.m4s`.
pub fn router(state: OriginState) -> Router {
    Router::new().fallback(handle).with_state(state)
}

async fn handle(State(state): State<OriginState>, request: Request) -> Response {
    let inner = &state.inner;
    let latency_ms = inner.latency_ms.load(Ordering::Relaxed);
    if latency_ms > 0 {
        tokio::time::sleep(Duration::from_millis(latency_ms)).await;
    }
    let with_body = match *request.method() {
        Method::GET => true,
        Method::HEAD => false,
        Method::OPTIONS => return respond::preflight(),
        _ => return respond::method_not_allowed(),
    };
    let (class, answer) = match path::parse(request.uri().path(), &inner.clip) {
        Ok(resource) => (resource.class(), inner.answer(&resource)),
        Err(why) => ("not_found", Answer::not_found(why, NOT_YET_MAX_AGE_S)),
    };
    let class = if answer.is_not_found() { "not_found" } else { class };
    inner.counters.add(class, if with_body { answer.body.len() as u64 } else { 0 });
    answer.into_response(with_body)
}

impl Inner {
    fn answer(&self, resource: &Resource<'_>) -> Answer {
        let (clip, now_ms) = (&self.clip, (self.now_ms)());
        match *resource {
            Resource::Multivariant => Answer::ok(hls::multivariant(clip), respond::HLS, MANIFEST_MAX_AGE_S),
            Resource::MediaPlaylist { live: false, rendition } => {
                Answer::ok(hls::vod_playlist(rendition), respond::HLS, STABLE_MAX_AGE_S)
            }
            Resource::MediaPlaylist { live: true, rendition } => {
                let text = hls::live_playlist(rendition, &self.live, now_ms);
                Answer::ok(text, respond::HLS, LIVE_PLAYLIST_MAX_AGE_S)
            }
            Resource::Mpd { live: false } => Answer::ok(dash::vod(clip), respond::DASH, STABLE_MAX_AGE_S),
            Resource::Mpd { live: true } => Answer::ok(dash::live(clip, now_ms), respond::DASH, MANIFEST_MAX_AGE_S),
            Resource::Init { rendition } => {
                let media_type = respond::media_type(rendition);
                Answer::ok(rendition.init.clone(), media_type, STABLE_MAX_AGE_S)
            }
            Resource::VodSegment { rendition, index } => {
                let bytes = rendition.fragments[index].bytes.clone();
                Answer::ok(bytes, respond::media_type(rendition), STABLE_MAX_AGE_S)
            }
            Resource::LiveSegment { rendition, sequence, protocol } => {
                match self.live.availability(now_ms, sequence) {
                    Availability::Available => {}
                    Availability::Future => {
                        let why = format!("segment {sequence} does not exist yet");
                        return Answer::not_found(why, NOT_YET_MAX_AGE_S);
                    }
                    Availability::Gone => {
                        return Answer::not_found(format!("segment {sequence} is gone"), GONE_MAX_AGE_S);
                    }
                }
                let index = self.live.fragment_index(sequence);
                let bytes: Bytes = match protocol {
                    Protocol::Hls => rendition.fragments[index].bytes.clone(),
                    Protocol::Dash => rendition
                        .fragment_in_loop(index, self.live.loops(sequence))
                        .expect("every embedded fragment was rewritable when the clip was read"),
                };
                Answer::ok(bytes, respond::media_type(rendition), LIVE_SEGMENT_MAX_AGE_S)
            }
        }
    }
}
