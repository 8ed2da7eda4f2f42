//! What a CDN publishes of itself: `FCI.CapacityLimits` (RFC 9808) in an FCI advertisement (RFC 8008).
//!
//! ```json
//! {"capabilities": [{"capability-type": "FCI.CapacityLimits",
//!   "capability-value": {"limits": [{"id": "all", "limit-type": "egress", "maximum-hard": 50000000000,
//!                                    "maximum-soft": 40000000000, "scope": {"type": "published-host", "value": ["…"]}}]},
//!   "footprints": [{"footprint-type": "countrycode", "footprint-value": ["de"]}]}]}
//! ```
//!
//! Only limits of type `egress` (bit/s) are taken; other capabilities, limit types and keys are none of our business.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::Value;
use spillway_model::{BitsPerSecond, RegionId};

/// The capability that is read.
const CAPACITY_LIMITS: &str = "FCI.CapacityLimits";
/// Traffic to clients, bit/s.
const EGRESS: &str = "egress";
/// The limit holds for these host names alone.
const PUBLISHED_HOST: &str = "published-host";
/// Limits and footprints of a document that are looked at.
const ENTRIES_MAX: usize = 10_000;

#[derive(Deserialize)]
struct Advertisement {
    capabilities: Vec<Capability>,
}

#[derive(Deserialize)]
struct Capability {
    #[serde(rename = "capability-type")]
    kind: String,
    #[serde(rename = "capability-value", default)]
    value: Value,
    #[serde(default)]
    footprints: Vec<Footprint>,
}

#[derive(Deserialize)]
struct Footprint {
    #[serde(rename = "footprint-type")]
    kind: String,
    #[serde(rename = "footprint-value")]
    values: Vec<String>,
}

#[derive(Deserialize)]
struct Limits {
    limits: Vec<Limit>,
}

#[derive(Deserialize)]
struct Limit {
    #[serde(rename = "limit-type")]
    kind: String,
    #[serde(rename = "maximum-hard")]
    hard: u64,
    #[serde(rename = "maximum-soft", default)]
    soft: Option<u64>,
    #[serde(default)]
    scope: Option<Scope>,
}

#[derive(Deserialize)]
struct Scope {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    value: Vec<String>,
}

/// What a document says of one place: traffic to stay below, and traffic beyond which it refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Egress {
    pub(crate) soft: Option<BitsPerSecond>,
    pub(crate) hard: BitsPerSecond,
}

/// What a document says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Published {
    /// By region; `None`: everywhere.
    pub(crate) limits: BTreeMap<Option<RegionId>, Egress>,
    /// Egress limits that hold for us in places that no region is configured for.
    pub(crate) elsewhere: usize,
}

/// Reads a document for the pathway whose base URL has `host`, with its regions by footprint (`type:value`, in lower
/// case). Of limits for the same place the lowest counts; those of several places in one region add up.
///
/// # Errors
/// What is wrong, for people. A document is taken whole or not at all.
pub(crate) fn parse(bytes: &[u8], host: &str, regions: &BTreeMap<String, RegionId>) -> Result<Published, String> {
    let document: Advertisement = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    let mut by_place: BTreeMap<BTreeSet<String>, Egress> = BTreeMap::new();
    let mut entries = 0;
    for capability in document.capabilities.into_iter().filter(|capability| capability.kind == CAPACITY_LIMITS) {
        let place: BTreeSet<String> = capability
            .footprints
            .iter()
            .flat_map(|footprint| footprint.values.iter().map(|value| format!("{}:{value}", footprint.kind)))
            .map(|name| name.to_ascii_lowercase())
            .collect();
        let limits = limits(capability.value)?;
        entries += place.len() + limits.len();
        if entries > ENTRIES_MAX {
            return Err(format!("more than {ENTRIES_MAX} limits and footprints"));
        }
        for limit in limits.iter().filter(|limit| limit.kind == EGRESS && limit.is_for(host)) {
            let read = Egress { soft: limit.soft.map(BitsPerSecond), hard: BitsPerSecond(limit.hard) };
            let known = by_place.entry(place.clone()).or_insert(read);
            *known = Egress { soft: lower(known.soft, read.soft), hard: known.hard.min(read.hard) };
        }
    }
    Ok(placed(by_place, regions))
}

/// The RFC has an object here; Apache Traffic Control publishes a list of them.
fn limits(value: Value) -> Result<Vec<Limit>, String> {
    let read = |value| serde_json::from_value::<Limits>(value).map_err(|error| format!("{CAPACITY_LIMITS}: {error}"));
    let values = match value {
        Value::Array(values) => values,
        value => vec![value],
    };
    let lists: Vec<Limits> = values.into_iter().map(read).collect::<Result<_, _>>()?;
    Ok(lists.into_iter().flat_map(|list| list.limits).collect())
}

impl Limit {
    /// Without a scope a limit is of all traffic that is delegated. A scope of a kind that is not known here may be of
    /// other traffic than ours.
    fn is_for(&self, host: &str) -> bool {
        self.scope.as_ref().is_none_or(|scope| {
            scope.kind == PUBLISHED_HOST && scope.value.iter().any(|name| name.eq_ignore_ascii_case(host))
        })
    }
}

fn lower(a: Option<BitsPerSecond>, b: Option<BitsPerSecond>) -> Option<BitsPerSecond> {
    a.into_iter().chain(b).min()
}

fn placed(by_place: BTreeMap<BTreeSet<String>, Egress>, regions: &BTreeMap<String, RegionId>) -> Published {
    let mut out = Published::default();
    for (place, egress) in by_place {
        if place.is_empty() {
            out.limits.insert(None, egress);
            continue;
        }
        let named: BTreeSet<&RegionId> = place.iter().filter_map(|footprint| regions.get(footprint)).collect();
        out.elsewhere += usize::from(named.is_empty());
        for region in named {
            out.limits
                .entry(Some(region.clone()))
                .and_modify(|sum| {
                    // A part without a soft limit asks for nothing less than its hard one.
                    let soft = |part: &Egress| part.soft.unwrap_or(part.hard).0;
                    let both = soft(sum).saturating_add(soft(&egress));
                    sum.soft = (sum.soft.is_some() || egress.soft.is_some()).then_some(BitsPerSecond(both));
                    sum.hard = BitsPerSecond(sum.hard.0.saturating_add(egress.hard.0));
                })
                .or_insert(egress);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn region(name: &str) -> RegionId {
        RegionId::new(name).expect("id")
    }

    fn read(document: &Value) -> Result<Published, String> {
        let regions = [("countrycode:de", "eu"), ("countrycode:fr", "eu"), ("asn:as64500", "us")];
        let regions = regions.map(|(footprint, name)| (footprint.to_owned(), region(name))).into();
        parse(document.to_string().as_bytes(), "a.cdn.example", &regions)
    }

    fn egress(soft: Option<u64>, hard: u64) -> Egress {
        Egress { soft: soft.map(BitsPerSecond), hard: BitsPerSecond(hard) }
    }

    fn capability(limits: Value, countries: &[&str]) -> Value {
        let footprints = json!([{"footprint-type": "countrycode", "footprint-value": countries}]);
        let value = json!({"limits": limits});
        json!({"capability-type": "FCI.CapacityLimits", "capability-value": value, "footprints": footprints})
    }

    /// The shape of RFC 9808, 2.2.2, with what stands beside it in an advertisement.
    #[test]
    fn egress_limits_are_read_and_the_rest_is_left_alone() {
        let source = json!({"id": "capacity_metrics_region1", "metric": "egress_5m"});
        let document = json!({"capabilities": [
            {"capability-type": "FCI.Telemetry", "capability-value": {"sources": []}},
            {"capability-type": "FCI.CapacityLimits",
             "capability-value": {"limits": [
                {"id": "capacity_limit_region1", "limit-type": "egress", "maximum-hard": 50_000_000_000_u64,
                 "maximum-soft": 25_000_000_000_u64, "current": 7, "telemetry-source": source},
                {"id": "r", "limit-type": "requests", "maximum-hard": 5}]}},
        ]});
        let expected = BTreeMap::from([(None, egress(Some(25_000_000_000), 50_000_000_000))]);
        assert_eq!(read(&document), Ok(Published { limits: expected, elsewhere: 0 }));
        let as_list = json!({"capabilities": [{"capability-type": "FCI.CapacityLimits",
            "capability-value": [{"limits": [{"limit-type": "egress", "maximum-hard": 9}]}]}]});
        assert_eq!(read(&as_list).expect("valid").limits[&None], egress(None, 9));
        assert_eq!(read(&json!({"capabilities": []})), Ok(Published::default()));
    }

    #[test]
    fn a_scope_counts_if_it_names_our_host() {
        let limit = |kind: &str, host: &str, hard: u64| json!({"limit-type": "egress", "maximum-hard": hard, "scope": {"type": kind, "value": [host]}});
        let limits = json!([
            {"limit-type": "egress", "maximum-hard": 100},
            limit("published-host", "A.cdn.example", 70),
            limit("published-host", "b.cdn.example", 3),
            limit("customer", "a.cdn.example", 2),
        ]);
        let document = json!({"capabilities": [
            {"capability-type": "FCI.CapacityLimits", "capability-value": {"limits": limits}}]});
        assert_eq!(read(&document).expect("valid").limits, BTreeMap::from([(None, egress(None, 70))]));
    }

    #[test]
    fn footprints_are_regions_as_configured_and_their_parts_add_up() {
        let limit =
            |soft: Option<u64>, hard: u64| json!({"limit-type": "egress", "maximum-hard": hard, "maximum-soft": soft});
        let document = json!({"capabilities": [
            capability(json!([limit(Some(30), 40), limit(None, 45)]), &["DE"]),
            capability(json!([limit(None, 20)]), &["fr"]),
            capability(json!([limit(None, 9)]), &["nz"]),
        ]});
        let read = read(&document).expect("valid");
        assert_eq!(read.limits, BTreeMap::from([(Some(region("eu")), egress(Some(50), 60))]));
        assert_eq!(read.elsewhere, 1);
    }

    #[test]
    fn a_document_is_taken_whole_or_not_at_all() {
        for (document, word) in [
            (json!({"capabilities": {}}), "sequence"),
            (json!([1]), "sequence"),
            (json!({"capabilities": [{"capability-type": "FCI.CapacityLimits"}]}), "FCI.CapacityLimits"),
            (json!({"capabilities": [capability(json!([{"limit-type": "egress"}]), &[])]}), "maximum-hard"),
            (json!({"capabilities": [capability(json!([{"limit-type": "egress", "maximum-hard": -1}]), &[])]}), "-1"),
            (json!({"capabilities": [capability(json!([{"limit-type": "egress", "maximum-hard": "9"}]), &[])]}), "u64"),
        ] {
            let error = read(&document).expect_err("refused");
            assert!(error.contains(word), "{document}: {error}");
        }
    }
}
