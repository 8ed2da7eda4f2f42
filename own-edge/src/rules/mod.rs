//! What HTTP lets a shared cache do, as pure functions of headers and times: no clock, no I/O.
//!
//! `cache_control` (what the origin says) with `dates` → `policy` (whether an answer is kept, shared or passed on) →
//! `freshness` (what a kept one is good for later) → `vary` (for whom) → `conditions` with `ranges` (which part of it a request gets).

pub(crate) mod cache_control;
pub(crate) mod conditions;
pub(crate) mod dates;
pub(crate) mod freshness;
pub(crate) mod paths;
pub(crate) mod policy;
mod ranges;
pub(crate) mod vary;

/// Headers of (name, value), for tests.
#[cfg(test)]
pub(crate) fn map(lines: &[(&str, &str)]) -> http::HeaderMap {
    let mut headers = http::HeaderMap::new();
    for (name, value) in lines {
        let name: http::HeaderName = name.parse().expect("name");
        headers.append(name, value.parse().expect("value"));
    }
    headers
}
