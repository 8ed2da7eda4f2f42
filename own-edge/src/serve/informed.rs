//! Informational answers of the origin (103) on their way to the client whose request caused the fetch.

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use tokio::sync::mpsc;

use crate::cache::object::strip_hop_by_hop;
use crate::serve::http1;

/// Answers that may wait for a client; more are dropped, since nothing depends on them.
const WAITING_MAX: usize = 8;
/// Bytes of one.
const ANSWER_MAX_BYTES: usize = 8 * 1024;

/// A client that hears of them. HTTP/1.0 has none, and for HTTP/2 there is no way yet.
#[derive(Clone, Debug)]
pub(crate) struct Informed(mpsc::Sender<Bytes>);

/// What a client is to hear, as it goes out.
pub(crate) type Hearing = mpsc::Receiver<Bytes>;

impl Informed {
    pub(crate) fn new() -> (Self, Hearing) {
        let (sender, hearing) = mpsc::channel(WAITING_MAX);
        (Self(sender), hearing)
    }

    /// Sends one on; those of a protocol's own (100, 101) are nobody else's.
    pub(crate) fn hear(&self, status: StatusCode, headers: &HeaderMap) {
        if !status.is_informational() || matches!(status, StatusCode::CONTINUE | StatusCode::SWITCHING_PROTOCOLS) {
            return;
        }
        let mut headers = headers.clone();
        strip_hop_by_hop(&mut headers);
        let answer = http1::informational(status, &headers);
        if answer.len() <= ANSWER_MAX_BYTES {
            let _ = self.0.try_send(answer);
        }
    }
}
