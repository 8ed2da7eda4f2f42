//! The lines, for people and for programs.

use std::fmt;

use serde::Serialize;

use super::target::Target;
use super::verdict::{Line, Verdict};

/// What was found. Serialises as `{"pathway", "base_url", "path", "faults", "warnings", "lines": […]}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Id of the pathway, where it is one of the configuration.
    pub pathway: Option<String>,
    /// What was asked.
    pub base_url: String,
    /// Where it began.
    pub path: String,
    /// Lines of [`Verdict::Fault`].
    pub faults: usize,
    /// Lines of [`Verdict::Warn`].
    pub warnings: usize,
    /// A line per question.
    pub lines: Vec<Line>,
}

impl Report {
    pub(super) fn new(target: &Target, lines: Vec<Line>) -> Self {
        let count = |verdict| lines.iter().filter(|line| line.verdict == verdict).count();
        Self {
            pathway: target.name.clone(),
            base_url: target.base_url.clone(),
            path: target.paths[0].clone(),
            faults: count(Verdict::Fault),
            warnings: count(Verdict::Warn),
            lines,
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.pathway.as_deref().unwrap_or("pathway");
        writeln!(out, "{name} at {}, from /{} on", self.base_url, self.path)?;
        for line in &self.lines {
            writeln!(out, "{line}")?;
        }
        write!(out, "{} faults, {} warnings, {} questions", self.faults, self.warnings, self.lines.len())
    }
}

impl fmt::Display for Line {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = match self.verdict {
            Verdict::Ok => "ok",
            Verdict::Untried => "-",
            Verdict::Warn => "warn",
            Verdict::Fault => "FAULT",
        };
        write!(out, "{verdict:<5}  {:<16}  {}: {}", self.check, self.asked, self.came)?;
        if self.valid.is_empty() { Ok(()) } else { write!(out, " (valid: {})", self.valid) }
    }
}
