//! `spillway pathway check`: whether a pathway serves players as everything else here takes for granted.
//!
//! The path of a check: `target` (what is asked, by arguments and configuration) → `walk` (addresses, certificate, then
//! playlist by playlist to a segment; `tokens` tries to get in without the right one) over `client` (one connection per
//! request, bounded) and `tls` (what a certificate is worth) and `playlist` (what comes next) → `seen` (everything that
//! came) → `verdict` (pure: a line per question) → `report`.
//!
//! Invariant: no token stands in a line, and none is sent where the certificate is not trusted. Another host that an
//! answer points to is named and not asked.

mod client;
mod playlist;
mod report;
mod seen;
mod target;
#[cfg(test)]
mod tests;
mod tls;
mod tokens;
mod verdict;
mod walk;

use std::sync::Arc;

use spillway_model::Clock;

pub use report::Report;
pub use target::{Known, Target, TargetError, Wanted};
pub use verdict::{Line, Verdict};

/// Asks the pathway, and judges what came. Takes seconds: at most some forty requests, one after the other.
///
/// # Errors
/// Only what keeps any request from being made: no TLS on this machine.
pub async fn run(target: &Target, clock: Arc<dyn Clock>) -> anyhow::Result<Report> {
    let seen = walk::walk(target, clock).await?;
    Ok(Report::new(target, verdict::judge(&seen)))
}
