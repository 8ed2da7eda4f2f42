//! Sending a body chunk by chunk, at the pace of the ceiling and of the faults in force.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use futures::stream;

use super::Cdn;
use super::client::Client;
use super::connection::Connection;
use super::handler::HANG_AT_MOST;

const CHUNK_BYTES: usize = 16 * 1024;
const MIN_CHUNK_BYTES: usize = 64;
const THROTTLED_CHUNK_MS: u64 = 100;
/// Lets the first half reach the client before the reset discards what is unsent.
const BEFORE_RESET: Duration = Duration::from_millis(20);

/// One response on its way.
pub(crate) struct Sending {
    pub(crate) cdn: Arc<Cdn>,
    pub(crate) client: Client,
    pub(crate) connection: Option<Connection>,
    pub(crate) request_id: u64,
    pub(crate) body: Bytes,
}

/// Why a body ends before its length; the client sees a broken connection.
#[derive(Debug, thiserror::Error)]
#[error("end the body: a fault broke it off")]
struct BrokenOff;

impl Sending {
    /// The body as a stream that looks at the faults anew before every chunk.
    pub(crate) fn into_body(self) -> Body {
        let chunks = stream::unfold((self, 0), |(sending, sent)| async move {
            if sent >= sending.body.len() {
                return None;
            }
            match sending.next_chunk(sent).await {
                Ok(chunk) => {
                    let sent = sent + chunk.len();
                    Some((Ok(chunk), (sending, sent)))
                }
                Err(broken) => {
                    sending.break_off();
                    let end = sending.body.len();
                    Some((Err(broken), (sending, end)))
                }
            }
        });
        Body::from_stream(chunks)
    }

    fn break_off(&self) {
        self.cdn.counters.broken(&self.client.region);
        if let Some(connection) = &self.connection {
            connection.break_off();
        }
    }

    async fn next_chunk(&self, sent: usize) -> Result<Bytes, BrokenOff> {
        let mut effect = self.cdn.faults.effect(&self.client, self.request_id);
        if effect.hang {
            if !self.cdn.faults.outlast_hang(&self.client, self.request_id, HANG_AT_MOST).await {
                return Err(BrokenOff);
            }
            effect = self.cdn.faults.effect(&self.client, self.request_id);
        }
        let mut end = self.body.len().min(sent + chunk_bytes(effect.throttle_kbps));
        if effect.reset {
            if sent > 0 {
                tokio::time::sleep(BEFORE_RESET).await;
                return Err(BrokenOff);
            }
            end = end.min(self.body.len().div_ceil(2));
        }
        let size_bytes = end - sent;
        if let Some(kbps) = effect.throttle_kbps {
            tokio::time::sleep(Duration::from_millis(size_bytes as u64 * 8 / kbps)).await;
        }
        self.cdn.pacer.wait(size_bytes).await;
        self.cdn.counters.bytes(&self.client.region, size_bytes as u64);
        Ok(self.body.slice(sent..end))
    }
}

fn chunk_bytes(throttle_kbps: Option<u64>) -> usize {
    let Some(kbps) = throttle_kbps else { return CHUNK_BYTES };
    let bytes = kbps.saturating_mul(THROTTLED_CHUNK_MS) / 8;
    usize::try_from(bytes).unwrap_or(CHUNK_BYTES).clamp(MIN_CHUNK_BYTES, CHUNK_BYTES)
}
