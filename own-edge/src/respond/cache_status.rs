//! `Cache-Status` (RFC 9211).

use http::HeaderName;

use crate::edge::Edge;
use crate::load::account::CacheResult;

pub(crate) const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");

/// How a request was served, as `Cache-Status` (RFC 9211) tells it and counters count it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Note {
    pub result: CacheResult,
    /// `hit`, or why the origin was asked.
    pub forward: Option<&'static str>,
    pub collapsed: bool,
    pub stored: bool,
    pub ttl_s: Option<u64>,
    pub detail: Option<&'static str>,
}

impl Note {
    pub(crate) const fn new(result: CacheResult, forward: Option<&'static str>) -> Self {
        Self { result, forward, collapsed: false, stored: false, ttl_s: None, detail: None }
    }

    /// The line's text.
    pub(crate) fn text(&self, edge: &Edge) -> String {
        let mut text = String::with_capacity(128);
        text.push_str(edge.plan.pathway.as_str());
        match self.forward {
            None => text.push_str("; hit"),
            Some(reason) => {
                text.push_str("; fwd=");
                text.push_str(reason);
            }
        }
        if self.stored {
            text.push_str("; stored");
        }
        if self.collapsed {
            text.push_str("; collapsed");
        }
        if let Some(ttl_s) = self.ttl_s {
            text.push_str("; ttl=");
            text.push_str(itoa::Buffer::new().format(ttl_s));
        }
        if let Some(detail) = self.detail {
            text.push_str("; detail=");
            text.push_str(detail);
        }
        text
    }
}
