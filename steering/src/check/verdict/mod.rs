//! What came, judged: a line per question. Pure: the same answers give the same lines.

mod answers;
mod caching;
mod ranges;
mod reach;
#[cfg(test)]
mod tests;
mod tokens;

use serde::Serialize;

use super::seen::Seen;

/// How a question ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// Not asked, and why.
    Untried,
    /// Viewers are served, with less than there could be.
    Warn,
    /// Some viewers are not served, or not the right thing.
    Fault,
}

/// One question.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Line {
    /// How it ended.
    pub verdict: Verdict,
    /// Stable name, as `cors.404`.
    pub check: &'static str,
    /// What was asked.
    pub asked: String,
    /// What came.
    pub came: String,
    /// What would be valid; empty where it is.
    pub valid: String,
}

impl Line {
    fn new(
        verdict: Verdict,
        check: &'static str,
        asked: &str,
        came: impl Into<String>,
        valid: impl Into<String>,
    ) -> Self {
        Self { verdict, check, asked: asked.to_owned(), came: came.into(), valid: valid.into() }
    }

    fn ok(check: &'static str, asked: &str, came: impl Into<String>) -> Self {
        Self::new(Verdict::Ok, check, asked, came, "")
    }

    fn warn(check: &'static str, asked: &str, came: impl Into<String>, valid: impl Into<String>) -> Self {
        Self::new(Verdict::Warn, check, asked, came, valid)
    }

    fn fault(check: &'static str, asked: &str, came: impl Into<String>, valid: impl Into<String>) -> Self {
        Self::new(Verdict::Fault, check, asked, came, valid)
    }

    fn untried(check: &'static str, asked: &str, why: impl Into<String>, valid: impl Into<String>) -> Self {
        Self::new(Verdict::Untried, check, asked, why, valid)
    }
}

/// All lines, in the order of the questions.
pub(super) fn judge(seen: &Seen) -> Vec<Line> {
    let mut lines = reach::addresses(&seen.addresses);
    if !seen.addresses.tried.is_empty() {
        lines.extend(reach::tls(&seen.tls, &seen.addresses.host, seen.now.0 / 1_000));
    }
    if let Some(why) = &seen.stopped {
        lines.push(Line::untried("get", "everything else", why, ""));
        return lines;
    }
    for object in &seen.objects {
        lines.extend(answers::object(object));
        lines.extend(answers::cors_of(object, seen));
        lines.extend(caching::object(object));
        lines.extend(ranges::object(object, seen));
    }
    lines.extend(answers::path(seen));
    lines.extend(seen.absent.iter().flat_map(|absent| answers::absent(absent, seen)));
    lines.extend(tokens::lines(seen));
    lines.push(reach::clock(seen));
    lines
}
