//! The signed debug header: whoever holds one sees with each answer why it is so, in the answer's own headers.
//!
//! `/v1/explain` gives one to an operator with a viewer's bearer token. It opens nothing else, is good for an hour on every
//! node with the same token keys, and can be handed to a player's network panel or a viewer on the telephone.

use axum::http::{HeaderMap, HeaderValue};
use axum::response::Response;
use spillway_model::{Millis, TimestampMs};

use crate::SteerState;
use crate::samples::Sample;

/// Request header that asks.
pub(crate) const DEBUG_HEADER: &str = "x-spillway-debug";
/// Response header that says why: JSON in ASCII.
pub(crate) const WHY_HEADER: &str = "x-spillway-why";
/// How long one is good.
const GOOD_FOR: Millis = Millis::from_secs(3_600);

/// A value of [`DEBUG_HEADER`].
pub(crate) fn issue(state: &SteerState, now: TimestampMs) -> String {
    state.settings.keys.sign_debug(now.after(GOOD_FOR))
}

/// Whether the request shows one that holds.
pub(crate) fn is_asked(state: &SteerState, headers: &HeaderMap, now: TimestampMs) -> bool {
    let shown = headers.get(DEBUG_HEADER).and_then(|value| value.to_str().ok());
    shown.is_some_and(|text| state.settings.keys.verifies_debug(text, now))
}

/// The response with its why.
pub(crate) fn tell(mut response: Response, sample: &Sample) -> Response {
    let mut why = sample.why();
    why["reason"] = sample.reason().into();
    why["epoch"] = sample.current.manifest.epoch.into();
    let plain: String = why.to_string().chars().map(|c| if c.is_ascii() { c } else { '?' }).collect();
    if let Ok(value) = HeaderValue::from_str(&plain) {
        response.headers_mut().insert(WHY_HEADER, value);
    }
    response
}
