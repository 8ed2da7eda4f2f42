//! The formats: which field of a log is which column.

use std::str::FromStr;

/// Form of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// JSON lines in our own words, with CMCD: as own edges write them, and as anyone can. The fields are those of a
    /// row of `/v1/deliveries`; `timestamp`, `url` and `client_ip` are understood too, and CMCD comes as `cmcd` (an
    /// object, or the text of the parameter), as the headers `cmcd_object`, `cmcd_request`, `cmcd_session` and
    /// `cmcd_status`, or in the URL's query.
    CmcdLog,
    /// Fastly's JSON lines, in the format that its guides give (`timestamp`, `client_ip`, `host`, `url`,
    /// `response_state`, `response_status`, `response_body_size` …); fields are the customer's to choose, hence maps.
    Fastly,
    /// `CloudFront`'s standard log (W3C, tabs, `#Fields:`), also as JSON lines (standard logging v2).
    CloudFront,
    /// Akamai's `DataStream` 2 as JSON lines.
    Akamai,
}

/// A column that a field can fill.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Column {
    DeliveredMs,
    Pathway,
    Host,
    Address,
    Region,
    Asn,
    Country,
    /// A path or a whole URL; its query may hold CMCD.
    Path,
    /// A query; may hold CMCD.
    Query,
    Status,
    Bytes,
    Requests,
    TtfbMs,
    DurationMs,
    /// Time from the first byte to the last: with the time to first byte it makes the duration.
    TransferMs,
    CacheStatus,
    Protocol,
    ViewId,
    Cmcd,
}

/// Names of columns for maps.
const COLUMNS: [(&str, Column); 19] = [
    ("delivered_ms", Column::DeliveredMs),
    ("pathway", Column::Pathway),
    ("host", Column::Host),
    ("address", Column::Address),
    ("region", Column::Region),
    ("asn", Column::Asn),
    ("country", Column::Country),
    ("path", Column::Path),
    ("query", Column::Query),
    ("status", Column::Status),
    ("bytes", Column::Bytes),
    ("requests", Column::Requests),
    ("ttfb_ms", Column::TtfbMs),
    ("duration_ms", Column::DurationMs),
    ("transfer_ms", Column::TransferMs),
    ("cache_status", Column::CacheStatus),
    ("protocol", Column::Protocol),
    ("view_id", Column::ViewId),
    ("cmcd", Column::Cmcd),
];

/// A field of a log and the column that it fills; of several that fill one the first that says something counts, but
/// of bytes the largest.
#[derive(Clone, Debug, PartialEq)]
pub struct FieldMap {
    pub(super) field: String,
    pub(super) column: Column,
    /// To the column's unit.
    pub(super) scale: f64,
}

impl FromStr for FieldMap {
    type Err = String;

    /// `field=column`, or `field=column:s` or `:us` where a time is in seconds or microseconds.
    fn from_str(text: &str) -> Result<Self, String> {
        let valid = || {
            let names: Vec<&str> = COLUMNS.iter().map(|(name, _)| *name).collect();
            format!(
                "{text:?} is not valid (valid: field=column, field=column:s, field=column:us; columns: {})",
                names.join(", ")
            )
        };
        let (field, column) = text.split_once('=').filter(|(field, _)| !field.is_empty()).ok_or_else(valid)?;
        let (column, scale) = match column.split_once(':') {
            None | Some((_, "ms")) => (column.trim_end_matches(":ms"), 1.0),
            Some((column, "s")) => (column, 1e3),
            Some((column, "us")) => (column, 1e-3),
            Some(_) => return Err(valid()),
        };
        let column = COLUMNS.iter().find(|(name, _)| *name == column).ok_or_else(valid)?.1;
        Ok(Self { field: field.to_owned(), column, scale })
    }
}

type Fields = &'static [(&'static str, Column, f64)];

const CMCD_LOG: Fields = &[
    ("delivered_ms", Column::DeliveredMs, 1.0),
    ("timestamp", Column::DeliveredMs, 1.0),
    ("pathway", Column::Pathway, 1.0),
    ("host", Column::Host, 1.0),
    ("address", Column::Address, 1.0),
    ("client_ip", Column::Address, 1.0),
    ("region", Column::Region, 1.0),
    ("asn", Column::Asn, 1.0),
    ("country", Column::Country, 1.0),
    ("path", Column::Path, 1.0),
    ("url", Column::Path, 1.0),
    ("query", Column::Query, 1.0),
    ("status", Column::Status, 1.0),
    ("bytes", Column::Bytes, 1.0),
    ("requests", Column::Requests, 1.0),
    ("ttfb_ms", Column::TtfbMs, 1.0),
    ("duration_ms", Column::DurationMs, 1.0),
    ("cache_status", Column::CacheStatus, 1.0),
    ("protocol", Column::Protocol, 1.0),
    ("view_id", Column::ViewId, 1.0),
    ("cmcd", Column::Cmcd, 1.0),
    ("cmcd_object", Column::Cmcd, 1.0),
    ("cmcd_request", Column::Cmcd, 1.0),
    ("cmcd_session", Column::Cmcd, 1.0),
    ("cmcd_status", Column::Cmcd, 1.0),
];

/// fastly.com/documentation/guides/integrations/logging-endpoints, "Example format"; the last six are VCL variables
/// that customers often add under these names.
const FASTLY: Fields = &[
    ("timestamp", Column::DeliveredMs, 1.0),
    ("client_ip", Column::Address, 1.0),
    ("geo_country", Column::Country, 1.0),
    ("host", Column::Host, 1.0),
    ("url", Column::Path, 1.0),
    ("request_protocol", Column::Protocol, 1.0),
    ("response_state", Column::CacheStatus, 1.0),
    ("response_status", Column::Status, 1.0),
    ("response_body_size", Column::Bytes, 1.0),
    ("geo_country_code", Column::Country, 1.0),
    ("client_country_code", Column::Country, 1.0),
    ("client_as_number", Column::Asn, 1.0),
    ("response_bytes", Column::Bytes, 1.0),
    ("time_elapsed_msec", Column::DurationMs, 1.0),
    ("time_to_first_byte", Column::TtfbMs, 1e3),
];

/// docs.aws.amazon.com/AmazonCloudFront, "Standard logging reference"; times are seconds.
const CLOUDFRONT: Fields = &[
    ("timestamp", Column::DeliveredMs, 1.0),
    ("timestamp(ms)", Column::DeliveredMs, 1.0),
    ("x-host-header", Column::Host, 1.0),
    ("cs(Host)", Column::Host, 1.0),
    ("c-ip", Column::Address, 1.0),
    ("asn", Column::Asn, 1.0),
    ("c-country", Column::Country, 1.0),
    ("cs-uri-stem", Column::Path, 1.0),
    ("cs-uri-query", Column::Query, 1.0),
    ("sc-status", Column::Status, 1.0),
    ("sc-bytes", Column::Bytes, 1.0),
    ("time-to-first-byte", Column::TtfbMs, 1e3),
    ("time-taken", Column::DurationMs, 1e3),
    ("x-edge-result-type", Column::CacheStatus, 1.0),
    ("cs-protocol-version", Column::Protocol, 1.0),
];

/// techdocs.akamai.com/datastream2, "Data set parameters".
const AKAMAI: Fields = &[
    ("reqTimeSec", Column::DeliveredMs, 1.0),
    ("reqHost", Column::Host, 1.0),
    ("cliIP", Column::Address, 1.0),
    ("asn", Column::Asn, 1.0),
    ("country", Column::Country, 1.0),
    ("reqPath", Column::Path, 1.0),
    ("queryStr", Column::Query, 1.0),
    ("statusCode", Column::Status, 1.0),
    ("totalBytes", Column::Bytes, 1.0),
    ("bytes", Column::Bytes, 1.0),
    ("timeToFirstByte", Column::TtfbMs, 1.0),
    ("turnAroundTimeMSec", Column::TtfbMs, 1.0),
    ("transferTimeMSec", Column::TransferMs, 1.0),
    ("cacheStatus", Column::CacheStatus, 1.0),
    ("proto", Column::Protocol, 1.0),
    ("cmcd", Column::Cmcd, 1.0),
];

/// Columns of a `CloudFront` log that does not name them.
pub(super) const CLOUDFRONT_COLUMNS: [&str; 33] = [
    "date",
    "time",
    "x-edge-location",
    "sc-bytes",
    "c-ip",
    "cs-method",
    "cs(Host)",
    "cs-uri-stem",
    "sc-status",
    "cs(Referer)",
    "cs(User-Agent)",
    "cs-uri-query",
    "cs(Cookie)",
    "x-edge-result-type",
    "x-edge-request-id",
    "x-host-header",
    "cs-protocol",
    "cs-bytes",
    "time-taken",
    "x-forwarded-for",
    "ssl-protocol",
    "ssl-cipher",
    "x-edge-response-result-type",
    "cs-protocol-version",
    "fle-status",
    "fle-encrypted-fields",
    "c-port",
    "time-to-first-byte",
    "x-edge-detailed-result-type",
    "sc-content-type",
    "sc-content-len",
    "sc-range-start",
    "sc-range-end",
];

impl LogFormat {
    /// Every format.
    pub const ALL: [Self; 4] = [Self::CmcdLog, Self::Fastly, Self::CloudFront, Self::Akamai];

    /// Its name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::CmcdLog => "cmcd-log",
            Self::Fastly => "fastly",
            Self::CloudFront => "cloudfront",
            Self::Akamai => "akamai",
        }
    }

    /// Its fields, those of `maps` first.
    pub(super) fn fields(self, maps: &[FieldMap]) -> Vec<FieldMap> {
        let own = match self {
            Self::CmcdLog => CMCD_LOG,
            Self::Fastly => FASTLY,
            Self::CloudFront => CLOUDFRONT,
            Self::Akamai => AKAMAI,
        };
        let own = own.iter().map(|(field, column, scale)| FieldMap {
            field: (*field).to_owned(),
            column: *column,
            scale: *scale,
        });
        maps.iter().cloned().chain(own).collect()
    }
}

impl FromStr for LogFormat {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|format| format.as_str() == text).ok_or_else(|| {
            let names = Self::ALL.map(Self::as_str).join(", ");
            format!("{text:?} is no format (valid: {names})")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_names_field_column_and_unit() {
        let map = |text: &str| text.parse::<FieldMap>();
        let is = |field: &str, column, scale| Ok(FieldMap { field: field.into(), column, scale });
        assert_eq!(map("edge_ms=ttfb_ms"), is("edge_ms", Column::TtfbMs, 1.0));
        assert_eq!(map("time_elapsed=duration_ms:us"), is("time_elapsed", Column::DurationMs, 1e-3));
        assert_eq!(map("t=duration_ms:s"), is("t", Column::DurationMs, 1e3));
        for bad in ["", "a", "=bytes", "a=nothing", "a=bytes:h", "a=bytes:s:s"] {
            let error = map(bad).expect_err(bad);
            assert!(error.contains("delivered_ms") && error.contains(&format!("{bad:?}")), "{error}");
        }
    }

    #[test]
    fn every_format_has_a_name_that_reads_back() {
        for format in LogFormat::ALL {
            assert_eq!(format.as_str().parse(), Ok(format));
        }
        assert!("nginx".parse::<LogFormat>().expect_err("none").contains("cmcd-log, fastly, cloudfront, akamai"));
    }
}
