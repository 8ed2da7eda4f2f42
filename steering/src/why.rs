//! Who sees an answer beside its player: the lake (a share of them), and whoever holds the signed debug header, who gets
//! its why in the answer's own headers.
//!
//! `/v1/explain` gives one to an operator with a viewer's bearer token. It opens nothing else, is good for an hour on every
//! node with the same token keys, and can be handed to a player's network panel or a viewer on the telephone.

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::response::Response;
use spillway_model::{Millis, TimestampMs};

use crate::SteerState;
use crate::asker::Asker;
use crate::samples::Sample;

/// Request header that asks.
pub(crate) const DEBUG_HEADER: HeaderName = HeaderName::from_static("x-spillway-debug");
/// Response header that says why: JSON in ASCII.
pub(crate) const WHY_HEADER: &str = "x-spillway-why";
/// How long one is good.
const GOOD_FOR: Millis = Millis::from_secs(3_600);

/// A value of [`DEBUG_HEADER`].
pub(crate) fn issue(state: &SteerState, now: TimestampMs) -> String {
    state.settings.keys.sign_debug(now.after(GOOD_FOR))
}

/// Who looks on at an answer.
pub(crate) struct Onlookers {
    /// The lake gets it, and it stands for such a share; `None`: it doesn't.
    sampled: Option<f64>,
    /// A debug header that holds was shown.
    asked: bool,
}

impl Onlookers {
    /// `debug`: the session asks to be reported. `None`: nobody looks on.
    pub(crate) fn of(
        state: &SteerState,
        asker: &Asker,
        headers: &HeaderMap,
        debug: bool,
        now: TimestampMs,
    ) -> Option<Self> {
        let sampled = state.samples.as_ref().and_then(|samples| samples.rate(asker, debug, now));
        let asked = is_asked(state, headers, now);
        (asked || sampled.is_some()).then_some(Self { sampled, asked })
    }

    /// Shows them what the answer was made of.
    pub(crate) fn show(self, state: &SteerState, response: Response, sample: Sample) -> Response {
        let response = if self.asked { tell(response, &sample) } else { response };
        if let (Some(samples), Some(rate)) = (&state.samples, self.sampled) {
            samples.push(sample, rate);
        }
        response
    }
}

/// Whether the request shows one that holds.
fn is_asked(state: &SteerState, headers: &HeaderMap, now: TimestampMs) -> bool {
    let shown = headers.get(DEBUG_HEADER).and_then(|value| value.to_str().ok());
    shown.is_some_and(|text| state.settings.keys.verifies_debug(text, now))
}

/// The response with its why.
fn tell(mut response: Response, sample: &Sample) -> Response {
    let mut why = sample.why();
    why["reason"] = sample.reason().into();
    why["epoch"] = sample.current.manifest.epoch.into();
    let plain: String = why.to_string().chars().map(|c| if c.is_ascii() { c } else { '?' }).collect();
    if let Ok(value) = HeaderValue::from_str(&plain) {
        response.headers_mut().insert(WHY_HEADER, value);
    }
    response
}
