//! The origin of all three caches, in this process: objects that never change, and slow ones that are watched.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use futures::stream;
use tokio::net::TcpListener;
use tokio::time::Instant;

/// Sizes of objects and how many there are of each: more than one core's caches hold, few enough for nginx's 1,000 open
/// files. Those of 64 KiB are more than the memory that our disk tier gets.
pub(crate) const OBJECTS: [(usize, usize); 3] = [(1024, 256), (64 * 1024, 512), (1024 * 1024, 64)];
/// Where an object's bytes begin in the noise, from one to the next: odd, so that no two look alike.
const STEP_BYTES: usize = 4_099;
const NOISE_BYTES: usize = 1024 * 1024 + 512 * STEP_BYTES;
/// A slow object comes in so many pieces, with this between them.
const SLOW_PIECES: usize = 16;
pub(crate) const SLOW_BYTES: usize = 1024 * 1024;
const SLOW_PAUSE: Duration = Duration::from_millis(40);

/// What may be asked for.
pub(crate) struct Origin {
    noise: Bytes,
    answered: AtomicU64,
    slow: Mutex<BTreeMap<usize, Slow>>,
}

/// What happened to a slow object.
#[derive(Clone, Copy, Default)]
pub(crate) struct Slow {
    pub(crate) fetches: u64,
    /// When its last piece was sent, first.
    pub(crate) last_sent: Option<Instant>,
}

impl Origin {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { noise: noise(NOISE_BYTES), answered: AtomicU64::new(0), slow: Mutex::default() })
    }

    /// Body of an object.
    pub(crate) fn body(&self, bytes: usize, number: usize) -> Bytes {
        let from = number * STEP_BYTES;
        self.noise.slice(from..from + bytes)
    }

    /// Requests so far.
    pub(crate) fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }

    pub(crate) fn slow(&self, number: usize) -> Slow {
        self.slow.lock().unwrap_or_else(PoisonError::into_inner).get(&number).copied().unwrap_or_default()
    }

    fn note(&self, number: usize, change: impl FnOnce(&mut Slow)) {
        change(self.slow.lock().unwrap_or_else(PoisonError::into_inner).entry(number).or_default());
    }
}

/// So many bytes of which no part looks like another one.
pub(crate) fn noise(bytes: usize) -> Bytes {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let noise = (0..bytes.div_ceil(8)).flat_map(|_| {
        // xorshift64
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    noise.collect()
}

/// Serves as long as the runtime runs.
pub(crate) fn serve(origin: Arc<Origin>, listener: TcpListener) {
    let router = Router::new().route("/slow/{number}", get(slow)).route("/{bytes}/{number}", get(object));
    let router = router.with_state(origin);
    tokio::spawn(async move { axum::serve(listener, router).await });
}

/// Path of an object.
pub(crate) fn path(bytes: usize, number: usize) -> String {
    format!("/{bytes}/{number}")
}

/// Path of a slow one.
pub(crate) fn slow_path(number: usize) -> String {
    format!("/slow/{number}")
}

async fn object(State(origin): State<Arc<Origin>>, Path((bytes, number)): Path<(usize, usize)>) -> Response {
    origin.answered.fetch_add(1, Ordering::Relaxed);
    if !OBJECTS.iter().any(|(size, count)| *size == bytes && number < *count) {
        return StatusCode::NOT_FOUND.into_response();
    }
    (HEAD, origin.body(bytes, number)).into_response()
}

async fn slow(State(origin): State<Arc<Origin>>, Path(number): Path<usize>) -> Response {
    origin.note(number, |slow| slow.fetches += 1);
    if number >= 512 {
        return StatusCode::NOT_FOUND.into_response();
    }
    let body = origin.body(SLOW_BYTES, number);
    let pieces = stream::unfold((0, body), move |(piece, mut rest)| {
        let origin = Arc::clone(&origin);
        async move {
            if piece == SLOW_PIECES {
                return None;
            }
            if piece > 0 {
                tokio::time::sleep(SLOW_PAUSE).await;
            }
            if piece + 1 == SLOW_PIECES {
                origin.note(number, |slow| slow.last_sent = slow.last_sent.or(Some(Instant::now())));
            }
            let next = rest.split_to(SLOW_BYTES / SLOW_PIECES);
            Some((Ok::<_, std::convert::Infallible>(next), (piece + 1, rest)))
        }
    });
    (HEAD, [(header::CONTENT_LENGTH, SLOW_BYTES.to_string())], Body::from_stream(pieces)).into_response()
}

/// As of a segment that never changes.
const HEAD: [(header::HeaderName, &str); 4] = [
    (header::CACHE_CONTROL, "max-age=86400"),
    (header::CONTENT_TYPE, "video/mp4"),
    (header::ETAG, "\"1\""),
    (header::LAST_MODIFIED, "Tue, 03 Nov 2026 10:00:00 GMT"),
];
