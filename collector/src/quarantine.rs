//! Quarantine: refused events that an analyst may want to see, kept as text beside their reason.
//!
//! They stay counted as discarded. Keeping them is an extra: nobody waits for it, a beacon is answered the same whether
//! it succeeds, and each write key has a budget, so that garbage fills no disk. What does not fit is counted. A beacon
//! that is sent again brings its refused events again.

use std::num::NonZeroU32;
use std::sync::Arc;

use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use spillway_lake::quarantine::{Quarantined, QuarantinedEvent, to_arrow};
use spillway_lake::schema::TableName;
use spillway_model::limits::QUARANTINE_MAX_BYTES;
use spillway_wire::scrub;

use crate::App;

/// What a row costs beside its text.
const ROW_BYTES: usize = 64;
/// Seconds of the budget that may come at once.
const BURST_S: u32 = 256;

/// The budgets, bytes by property.
pub(crate) struct Budget {
    by_property: Option<DefaultKeyedRateLimiter<String>>,
}

impl Budget {
    /// `bytes_per_s` for each property; 0: nothing is kept.
    pub(crate) fn new(bytes_per_s: u32) -> Self {
        let quota = |rate: NonZeroU32| {
            let burst = rate.get().saturating_mul(BURST_S).max(64 << 10);
            Quota::per_second(rate).allow_burst(NonZeroU32::new(burst).unwrap_or(rate))
        };
        Self { by_property: NonZeroU32::new(bytes_per_s).map(|rate| RateLimiter::keyed(quota(rate))) }
    }

    /// Only properties of the deployment come here, so that their number is bounded.
    fn allows(&self, property: &str, bytes: usize) -> bool {
        let (Some(limiter), Ok(bytes)) = (&self.by_property, u32::try_from(bytes.max(1))) else { return false };
        let bytes = NonZeroU32::new(bytes).unwrap_or(NonZeroU32::MIN);
        matches!(limiter.check_key_n(&property.to_owned(), bytes), Ok(Ok(())))
    }
}

/// The text of a refused event as it may come to rest: no URL queries, at most [`QUARANTINE_MAX_BYTES`]. What is no
/// JSON has escapes that hide them, and is left out.
pub(crate) fn scrubbed(json: &str) -> Option<String> {
    let value = serde_json::from_str(json).ok()?;
    let mut text = scrub::json_without_queries(value).to_string();
    scrub::truncate(&mut text, QUARANTINE_MAX_BYTES);
    Some(text)
}

/// The text of a refused line that is no JSON, as it may come to rest: up to the first character that may begin a URL's
/// query or hide one, since nobody knows what its escapes mean.
pub(crate) fn scrubbed_line(line: &str) -> Option<String> {
    let bare = line.split(['?', '#', '&', '%', '\\']).next().unwrap_or_default();
    let mut text = scrub::without_queries(bare).into_owned();
    scrub::truncate(&mut text, QUARANTINE_MAX_BYTES);
    (!text.is_empty()).then_some(text)
}

/// Keeps what fits the budget; the rest of the request does not wait for it.
pub(crate) fn keep(app: &Arc<App>, mut batch: Quarantined) {
    let size = |event: &QuarantinedEvent| ROW_BYTES + event.raw.as_ref().map_or(0, String::len);
    let came = batch.events.len();
    batch.events.retain(|event| app.quarantine.allows(&batch.property, size(event)));
    count("over_budget", came - batch.events.len());
    if batch.events.is_empty() {
        return;
    }
    let app = Arc::clone(app);
    tokio::spawn(async move {
        let (rows, bytes) = (batch.events.len(), batch.events.iter().map(size).sum());
        let stored = match to_arrow(&batch) {
            Ok(arrow) => {
                app.log.append_rows(TableName::Quarantine, &arrow, bytes).await.map_err(|error| error.to_string())
            }
            Err(error) => Err(error.to_string()),
        };
        match stored {
            Ok(_) => count("stored", rows),
            Err(error) => {
                tracing::debug!(error, rows, "refused events could not be kept");
                count("failed", rows);
            }
        }
    });
}

fn count(outcome: &'static str, rows: usize) {
    if rows > 0 {
        metrics::counter!("spillway_collector_quarantine_rows_total", "outcome" => outcome).increment(rows as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_property_has_its_own_budget_and_no_more() {
        let budget = Budget::new(10);
        let burst = 64 << 10;
        assert!(budget.allows("a", burst));
        assert!(!budget.allows("a", 1_000));
        assert!(budget.allows("b", 1_000));
        assert!(!budget.allows("c", burst + 1), "more than can ever be");
        assert!(!Budget::new(0).allows("a", 1), "switched off");
    }

    #[test]
    fn the_text_has_no_query_however_it_was_written_and_is_short() {
        let hidden = r#"{"message":"https://x.example/a\u003ftoken=secret","n":1}"#;
        assert_eq!(scrubbed(hidden).as_deref(), Some(r#"{"message":"https://x.example/a","n":1}"#));
        assert_eq!(scrubbed("{"), None);
        assert_eq!(
            scrubbed_line("e=rr,url=\"https://u:p@x.example/a?t=secret").as_deref(),
            Some("e=rr,url=\"https://x.example/a")
        );
        assert_eq!(scrubbed_line("e=rr,url=\"/a%3Ft=secret").as_deref(), Some("e=rr,url=\"/a"));
        assert_eq!(scrubbed_line("?t=secret"), None);
        let long = format!(r#"{{"message":"{}"}}"#, "ä".repeat(9_000));
        assert!(scrubbed(&long).expect("text").len() <= QUARANTINE_MAX_BYTES);
    }
}
