//! A fault from JSON, with errors that name what is wrong and what would be right.

use std::fmt::Display;

use serde_json::{Map, Value};

use super::faults::{Fault, FaultKind, ShareOf};
use super::{CdnConfig, UNKNOWN_ASN, UNKNOWN_REGION};

const COMMON_KEYS: [&str; 5] = ["kind", "region", "asn", "share_percent", "share_of"];
const KINDS: [&str; 5] = ["latency", "throttle", "status", "reset", "hang"];

/// Reads `{"kind": "status", "status": 503, "region": "eu-south", "asn": 64501,
/// "share_percent": 100, "share_of": "requests"}`; all but `kind` and its number are optional.
pub(crate) fn parse(body: &[u8], config: &CdnConfig) -> Result<Fault, String> {
    let object: Map<String, Value> =
        serde_json::from_slice(body).map_err(|error| format!("read a JSON object: {error}"))?;
    let name = object.get("kind").and_then(Value::as_str);
    let own_key = match name {
        Some("latency") => Some("ms"),
        Some("throttle") => Some("kbps"),
        Some("status") => Some("status"),
        Some("reset" | "hang") => None,
        _ => {
            let given = object.get("kind").unwrap_or(&Value::Null);
            return Err(unusable("kind", given, KINDS.join(", ")));
        }
    };
    let valid: Vec<_> = COMMON_KEYS.into_iter().chain(own_key).collect();
    if let Some(key) = object.keys().find(|key| !valid.contains(&key.as_str())) {
        return Err(format!("use the key `{key}` (valid: {})", valid.join(", ")));
    }
    let kind = match name {
        Some("latency") => FaultKind::Latency { ms: required(&object, "ms", 1, 60_000)? },
        Some("throttle") => FaultKind::Throttle { kbps: required(&object, "kbps", 1, 10_000_000)? },
        Some("status") => {
            let status = required(&object, "status", 400, 599)?;
            FaultKind::Status { status: u16::try_from(status).expect("below 600") }
        }
        Some("reset") => FaultKind::Reset,
        _ => FaultKind::Hang,
    };
    let share_percent = number(&object, "share_percent", 0, 100)?.unwrap_or(100);
    Ok(Fault {
        region: region(&object, config)?,
        asn: asn(&object, config)?,
        share_percent: u8::try_from(share_percent).expect("at most 100"),
        share_of: share_of(&object)?,
        kind,
    })
}

fn region(object: &Map<String, Value>, config: &CdnConfig) -> Result<Option<String>, String> {
    let Some(value) = object.get("region") else { return Ok(None) };
    let mut known: Vec<_> = config.regions.values().map(String::as_str).collect();
    known.push(UNKNOWN_REGION);
    match value.as_str().filter(|name| known.contains(name)) {
        Some(name) => Ok(Some(name.to_owned())),
        None => Err(unusable("region", value, known.join(", "))),
    }
}

fn asn(object: &Map<String, Value>, config: &CdnConfig) -> Result<Option<u32>, String> {
    let Some(value) = object.get("asn") else { return Ok(None) };
    let known: Vec<_> = config.asns.values().copied().chain([UNKNOWN_ASN]).collect();
    let asn = value.as_u64().and_then(|asn| u32::try_from(asn).ok());
    match asn.filter(|asn| known.contains(asn)) {
        Some(asn) => Ok(Some(asn)),
        None => {
            let known: Vec<_> = known.iter().map(ToString::to_string).collect();
            Err(unusable("asn", value, known.join(", ")))
        }
    }
}

fn share_of(object: &Map<String, Value>) -> Result<ShareOf, String> {
    match object.get("share_of") {
        None => Ok(ShareOf::default()),
        Some(value) => match value.as_str() {
            Some("requests") => Ok(ShareOf::Requests),
            Some("clients") => Ok(ShareOf::Clients),
            _ => Err(unusable("share_of", value, "requests, clients")),
        },
    }
}

fn required(object: &Map<String, Value>, key: &str, least: u64, most: u64) -> Result<u64, String> {
    number(object, key, least, most)?.ok_or_else(|| format!("find the key `{key}` (valid: {least} to {most})"))
}

fn number(object: &Map<String, Value>, key: &str, least: u64, most: u64) -> Result<Option<u64>, String> {
    let Some(value) = object.get(key) else { return Ok(None) };
    match value.as_u64().filter(|number| (least..=most).contains(number)) {
        Some(number) => Ok(Some(number)),
        None => Err(unusable(key, value, format!("{least} to {most}"))),
    }
}

fn unusable(key: &str, value: &Value, valid: impl Display) -> String {
    format!("use {key} {value} (valid: {valid})")
}
