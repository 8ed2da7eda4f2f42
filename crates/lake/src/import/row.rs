//! A line as a delivery.

use spillway_model::limits::CMCD_MAX_KEYS;
use spillway_model::{PathwayId, RegionId, ViewId};
use spillway_wire::delivery::Delivery;
use spillway_wire::rows::Row as _;
use spillway_wire::scrub;

use super::fields::Fields;
use super::format::{CLOUDFRONT_COLUMNS, Column, FieldMap, LogFormat};
use super::{Complete, ImportOptions, cmcd, values};

/// No log is older than this (2000-01-01), ms since epoch: an earlier time is no time.
const EARLIEST_MS: u64 = 946_684_800_000;
/// Nor from later than tomorrow.
const AHEAD_MAX_MS: u64 = 86_400_000;

/// What a line was.
pub(super) enum Parsed {
    /// A delivery.
    Row(Box<Delivery>),
    /// A header, or empty.
    Nothing,
    /// A request that is no delivery to a client, and its kind.
    Skipped(&'static str),
    /// Unreadable, and why.
    Bad(&'static str),
}

/// Reads the lines of one log.
pub(super) struct Parser {
    format: LogFormat,
    fields: Vec<FieldMap>,
    columns: Vec<String>,
    pathway: Option<String>,
    complete: Complete,
    latest_ms: u64,
}

impl Parser {
    pub(super) fn new(options: &ImportOptions) -> Self {
        Self {
            format: options.format,
            fields: options.format.fields(&options.maps),
            columns: CLOUDFRONT_COLUMNS.map(str::to_owned).to_vec(),
            pathway: options.pathway.clone(),
            complete: std::sync::Arc::clone(&options.complete),
            latest_ms: options.received_ms + AHEAD_MAX_MS,
        }
    }

    pub(super) fn parse(&mut self, text: &str) -> Parsed {
        // A log may begin with a byte order mark; an array of JSON has its brackets on lines of their own.
        let text = text.trim_start_matches('\u{feff}').trim_end();
        if matches!(text.trim(), "" | "[" | "]") {
            return Parsed::Nothing;
        }
        if let Some(header) = text.strip_prefix('#') {
            if let Some(names) = header.strip_prefix("Fields:") {
                self.columns = names.split_ascii_whitespace().map(str::to_owned).collect();
            }
            return Parsed::Nothing;
        }
        let fields = if text.starts_with('{') || self.format != LogFormat::CloudFront {
            Fields::json(text)
        } else {
            Fields::columns(&self.columns, text)
        };
        let row = fields.and_then(|fields| match self.skipped(&fields) {
            Some(kind) => Ok(Err(kind)),
            None => self.row(&fields).map(Ok),
        });
        match row {
            Ok(Ok(row)) => Parsed::Row(Box::new(row)),
            Ok(Err(kind)) => Parsed::Skipped(kind),
            Err(reason) => Parsed::Bad(reason),
        }
    }

    /// Fastly logs a request at the shield once more, which delivers to Fastly.
    fn skipped(&self, fields: &Fields<'_>) -> Option<&'static str> {
        let shield = self.format == LogFormat::Fastly
            && fields.get("fastly_is_edge").is_some_and(|edge| matches!(edge.as_ref(), "false" | "0"));
        shield.then_some("shield")
    }

    fn row(&self, fields: &Fields<'_>) -> Result<Delivery, &'static str> {
        let mut row = Delivery::default();
        let mut at_ms = self.of_date_and_time(fields)?;
        let (mut transfer_ms, mut queries, mut records) = (None, Vec::new(), Vec::new());
        for map in &self.fields {
            if map.column == Column::Cmcd
                && let Some(object) = fields.object(&map.field)
            {
                row.cmcd.extend(object);
                continue;
            }
            let Some(text) = fields.get(&map.field) else { continue };
            let number = || values::number(&text, map.scale).ok_or("bad_number");
            match map.column {
                Column::DeliveredMs if at_ms.is_none() => at_ms = Some(values::time_ms(&text).ok_or("bad_time")?),
                Column::Status if row.status.is_none() => {
                    row.status =
                        Some(u16::try_from(number()?).ok().filter(|status| *status < 1000).ok_or("bad_number")?);
                }
                Column::Bytes => row.bytes = row.bytes.max(Some(number()?)),
                Column::Requests => row.requests = number()?,
                Column::TtfbMs if row.ttfb_ms.is_none() => row.ttfb_ms = Some(number()?),
                Column::DurationMs if row.duration_ms.is_none() => row.duration_ms = Some(number()?),
                Column::TransferMs if transfer_ms.is_none() => transfer_ms = Some(number()?),
                // A network that is no number is unknown, as a country is that is no code.
                Column::Asn if row.asn.is_none() => row.asn = text.trim_start_matches("AS").parse().ok(),
                Column::Path if row.path.is_none() => {
                    queries.extend(text.split_once('?').map(|(_, query)| query.to_owned()));
                    row.path = path(&text);
                }
                Column::Query => queries.push(text.into_owned()),
                Column::Cmcd => records.push(values::percent_decoded(&text).into_owned()),
                Column::CacheStatus if row.cache_status.is_none() => {
                    row.cache_status = Some(values::cache_status(&text));
                }
                Column::Protocol if row.protocol.is_none() => row.protocol = Some(values::protocol(&text)),
                Column::Pathway => fill(&mut row.pathway, &text, |id| PathwayId::new(id).is_ok()),
                Column::Region => fill(&mut row.region, &text, |id| RegionId::new(id).is_ok()),
                Column::ViewId => fill(&mut row.view_id, &text, |id| ViewId::new(id).is_ok()),
                Column::Host => fill(&mut row.host, &text, |_| true),
                Column::Address => fill(&mut row.address, &text, |_| true),
                Column::Country => fill(&mut row.country, &text, |code| code.len() == 2),
                _ => {}
            }
        }
        row.delivered_ms = at_ms.ok_or("missing_time")?;
        if !(EARLIEST_MS..=self.latest_ms).contains(&row.delivered_ms) {
            return Err("bad_time");
        }
        row.duration_ms = row.duration_ms.or(transfer_ms.map(|ms| ms + row.ttfb_ms.unwrap_or(0)));
        row.cmcd.extend(cmcd::pairs(&queries, &records));
        while row.cmcd.len() > CMCD_MAX_KEYS {
            row.cmcd.pop_last();
        }
        if row.view_id.is_none() {
            row.view_id = row.cmcd.get("sid").filter(|sid| ViewId::new(sid).is_ok()).cloned();
        }
        (self.complete)(&mut row);
        row.scrub();
        row.pathway = row.pathway.or_else(|| self.pathway.clone());
        row.check()?;
        Ok(row)
    }

    /// W3C logs have day and time in two columns.
    fn of_date_and_time(&self, fields: &Fields<'_>) -> Result<Option<u64>, &'static str> {
        if self.format != LogFormat::CloudFront {
            return Ok(None);
        }
        let (Some(day), Some(time)) = (fields.get("date"), fields.get("time")) else { return Ok(None) };
        values::time_ms(&format!("{day}T{time}Z")).map(Some).ok_or("bad_time")
    }
}

/// The first that holds stays.
fn fill(into: &mut Option<String>, text: &str, holds: impl Fn(&str) -> bool) {
    let text = text.trim();
    if into.is_none() && holds(text) {
        *into = Some(text.to_owned());
    }
}

/// The path of a path or URL, with a slash before it.
fn path(text: &str) -> Option<String> {
    let path = scrub::path_only(text.trim());
    match path {
        "" => None,
        _ if path.starts_with('/') => Some(path.to_owned()),
        _ => Some(format!("/{path}")),
    }
}

#[cfg(test)]
#[path = "row_tests.rs"]
mod tests;
