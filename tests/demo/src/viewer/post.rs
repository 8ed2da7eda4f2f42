//! Beacons on their way: one request at a time, retried with the same numbers.

use std::sync::atomic::Ordering;
use std::time::Duration;

use spillway_wire::beacon::{Accepted, Refused};
use tokio::time::Instant;

use super::rng::SplitMix64;
use super::view::View;

const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
const FIRST_BACKOFF_MS: u64 = 500;
const MAX_BACKOFF_MS: u64 = 60_000;
/// After the end of a view its beacons are tried for so long.
const REST: Duration = Duration::from_secs(12);

/// What a beacon came to.
enum Outcome {
    Settled,
    Retry { after_ms: Option<u64> },
}

impl View {
    /// Sends what is urgent as it comes, and what is left when the view is over.
    pub(crate) async fn send_beacons(&self) {
        let mut rng = SplitMix64::for_item(self.plan.seed, 0xBEAC, 0);
        let mut attempt = 0;
        let mut give_up_at = None;
        loop {
            let over = self.over.is_cancelled();
            if over {
                let at = *give_up_at.get_or_insert_with(|| Instant::now() + REST);
                if self.state().reporter.queued() == 0 {
                    return;
                }
                if Instant::now() >= at {
                    let left = self.state().reporter.queued() as u64;
                    self.around.totals.events_given_up.fetch_add(left, Ordering::Relaxed);
                    return;
                }
            } else if attempt == 0 && !self.state().reporter.take_urgency() {
                tokio::select! {
                    () = self.wake_sender.notified() => {}
                    () = self.over.cancelled() => {}
                }
                continue;
            }
            match self.post().await {
                Outcome::Settled => attempt = 0,
                Outcome::Retry { after_ms } => {
                    attempt += 1;
                    let most_ms = (FIRST_BACKOFF_MS << attempt.min(7)).min(MAX_BACKOFF_MS);
                    let most_ms = if over { most_ms.min(2_000) } else { most_ms };
                    #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
                    let jittered_ms = (rng.unit() * most_ms as f64) as u64;
                    let pause = tokio::time::sleep(Duration::from_millis(jittered_ms.max(after_ms.unwrap_or(0))));
                    tokio::select! {
                        () = pause => {}
                        // The end of the view shortens a long pause once.
                        () = self.over.cancelled(), if !over => {}
                    }
                }
            }
        }
    }

    async fn post(&self) -> Outcome {
        let Some((body, count)) = self.state().reporter.batch(self.moment().wall_ms) else { return Outcome::Settled };
        let totals = &self.around.totals;
        totals.beacons_sent.fetch_add(1, Ordering::Relaxed);
        let begun_ms = self.moment().now_ms;
        let mut url = self.around.beacon_url.clone();
        url.query_pairs_mut().append_pair("v", &self.plan.view_id);
        let request = self.client.post(url).header("content-type", "text/plain").body(body).timeout(ANSWER_TIMEOUT);
        let Ok(answer) = request.send().await else {
            totals.beacons_retried.fetch_add(1, Ordering::Relaxed);
            return Outcome::Retry { after_ms: None };
        };
        let status = answer.status().as_u16();
        match status {
            202 => {
                let accepted: Option<Accepted> = answer.json().await.ok();
                let rtt_ms = self.moment().now_ms.saturating_sub(begun_ms);
                for rejected in accepted.iter().flat_map(|answer| &answer.rejected) {
                    totals.refuse(&rejected.reason, 1);
                }
                let mut state = self.state();
                let durable = state.reporter.acknowledged(count, accepted.as_ref(), rtt_ms);
                state.record.events_acknowledged += durable;
                Outcome::Settled
            }
            408 | 429 | 500.. => {
                totals.beacons_retried.fetch_add(1, Ordering::Relaxed);
                let after_s: Option<u64> =
                    answer.headers().get("retry-after").and_then(|value| value.to_str().ok()?.parse().ok());
                Outcome::Retry { after_ms: after_s.map(|after_s| after_s * 1_000) }
            }
            _ => {
                let reason = answer.json::<Refused>().await.map_or_else(|_| format!("status_{status}"), |r| r.error);
                totals.refuse(&reason, count as u64);
                self.state().reporter.refused(count);
                Outcome::Settled
            }
        }
    }
}
