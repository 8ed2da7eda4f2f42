//! What a deployment consists of: properties, regions, pathways, groups and address prefixes, as configured, and the
//! tables host → pathway and address → cohort that follow from them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde::Deserialize;
use spillway_model::{Cohort, GroupId, PathwayId, PathwayKind, PropertyId, RegionId};

use crate::config::ConfigError;

/// A tenant's app.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PropertyConfig {
    /// Its id.
    pub id: String,
    /// Public key that its beacons carry (`?k=`).
    pub write_key: String,
    /// Web origins that may send (`https://www.example.com`); empty: all. Players without an `Origin` always may.
    #[serde(default)]
    pub origins: Vec<String>,
}

/// A routing region.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RegionConfig {
    /// Its id.
    pub id: String,
    /// `observe`, `shadow` or `control`. Default `control`.
    #[serde(default = "control")]
    pub mode: String,
    /// Share of sessions under control, 0 to 1; the others are the holdback. Default 0.99.
    #[serde(default = "default_control_share")]
    pub control_share: f64,
    /// Weights when all else is lost and for the holdback, by pathway or group; any positive numbers.
    pub static_weights: BTreeMap<String, f64>,
    /// Source address of probes for this region; default: the system's choice.
    pub probe_from: Option<IpAddr>,
}

/// One way to deliver.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PathwayConfig {
    /// Its id; own nodes begin with `own-`.
    pub id: String,
    /// Absolute URL that media paths are appended to.
    pub base_url: String,
    /// Regions that it may serve; empty: all.
    #[serde(default)]
    pub regions: Vec<String>,
    /// Own cluster that it is a node of (own nodes only).
    pub group: Option<String>,
    /// Ceiling, Mbit/s.
    pub capacity_mbps: f64,
    /// Price, USD per GB. Default 0.
    #[serde(default)]
    pub price_usd_per_gb: f64,
    /// What dies together with it. Its own id and its group are always among them.
    #[serde(default)]
    pub failure_domains: Vec<String>,
    /// Where its misses go. Default `origin`.
    #[serde(default = "default_origin_group")]
    pub origin_group: String,
    /// Content classes that it may serve; empty: all.
    #[serde(default)]
    pub classes: Vec<String>,
}

/// A prefix and what it says of an address.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PrefixConfig {
    /// `address/length`, IPv4 or IPv6.
    pub prefix: String,
    /// Region.
    pub region: String,
    /// Network.
    pub asn: Option<u32>,
}

fn control() -> String {
    "control".into()
}

const fn default_control_share() -> f64 {
    0.99
}

fn default_origin_group() -> String {
    "origin".into()
}

/// A checked deployment.
#[derive(Clone, Debug)]
pub struct Deployment {
    /// Property by write key.
    pub properties: BTreeMap<String, (PropertyId, Vec<String>)>,
    /// Regions.
    pub regions: BTreeMap<RegionId, RegionConfig>,
    /// Pathways.
    pub pathways: BTreeMap<PathwayId, PathwayConfig>,
    /// Nodes by group.
    pub groups: BTreeMap<GroupId, BTreeSet<PathwayId>>,
    cohorts: CohortTable,
    hosts: BTreeMap<String, PathwayId>,
}

impl Deployment {
    /// Checks the parts against each other.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] names key, value and what is valid.
    pub fn new(
        properties: Vec<PropertyConfig>,
        regions: Vec<RegionConfig>,
        pathways: Vec<PathwayConfig>,
        prefixes: Vec<PrefixConfig>,
    ) -> Result<Self, ConfigError> {
        let bad_id = |key: &str, error: spillway_model::IdError| ConfigError::invalid(key, error, "an id");
        let mut out = Self {
            properties: BTreeMap::new(),
            regions: BTreeMap::new(),
            pathways: BTreeMap::new(),
            groups: BTreeMap::new(),
            cohorts: CohortTable::default(),
            hosts: BTreeMap::new(),
        };
        for property in properties {
            let id = PropertyId::new(&property.id).map_err(|e| bad_id("property.id", e))?;
            if property.write_key.len() < 8 {
                return Err(ConfigError::invalid("property.write_key", property.write_key, "8 characters or more"));
            }
            out.properties.insert(property.write_key, (id, property.origins));
        }
        for region in regions {
            let id = RegionId::new(&region.id).map_err(|e| bad_id("region.id", e))?;
            out.regions.insert(id, region);
        }
        if out.regions.is_empty() {
            return Err(ConfigError::invalid("region", "none", "at least one [[region]]"));
        }
        for pathway in pathways {
            out.add_pathway(pathway)?;
        }
        out.check_regions()?;
        for prefix in prefixes {
            out.cohorts.add(&prefix, &out.regions)?;
        }
        out.cohorts.sort();
        Ok(out)
    }

    fn add_pathway(&mut self, pathway: PathwayConfig) -> Result<(), ConfigError> {
        let id = PathwayId::new(&pathway.id).map_err(|e| ConfigError::invalid("pathway.id", e, "an id"))?;
        let key = |name: &str| format!("pathway[{id}].{name}");
        let host = host_of(&pathway.base_url).ok_or_else(|| {
            ConfigError::invalid(key("base_url"), &pathway.base_url, "an absolute http:// or https:// URL")
        })?;
        if !(pathway.capacity_mbps > 0.0 && pathway.capacity_mbps.is_finite()) {
            return Err(ConfigError::invalid(key("capacity_mbps"), pathway.capacity_mbps, "a number above 0"));
        }
        if !(pathway.price_usd_per_gb >= 0.0 && pathway.price_usd_per_gb.is_finite()) {
            return Err(ConfigError::invalid(
                key("price_usd_per_gb"),
                pathway.price_usd_per_gb,
                "a number of 0 or more",
            ));
        }
        if let Some(unknown) = pathway.regions.iter().find(|region| !self.regions.contains_key(region.as_str())) {
            return Err(ConfigError::invalid(key("regions"), unknown, self.region_names()));
        }
        match (&pathway.group, kind_of(&id)) {
            (Some(group), PathwayKind::Own) => {
                let group = GroupId::new(group).map_err(|e| ConfigError::invalid(key("group"), e, "an id"))?;
                self.groups.entry(group).or_default().insert(id.clone());
            }
            (Some(group), PathwayKind::Commercial) => {
                return Err(ConfigError::invalid(
                    key("group"),
                    group,
                    "only own nodes, whose id begins with own-, have one",
                ));
            }
            (None, _) => {}
        }
        if self.hosts.insert(host.to_owned(), id.clone()).is_some() {
            return Err(ConfigError::invalid(key("base_url"), &pathway.base_url, "a host that no other pathway has"));
        }
        if self.pathways.insert(id.clone(), pathway).is_some() {
            return Err(ConfigError::invalid("pathway.id", &id, "an id that no other pathway has"));
        }
        Ok(())
    }

    fn check_regions(&self) -> Result<(), ConfigError> {
        for (id, region) in &self.regions {
            let key = |name: &str| format!("region[{id}].{name}");
            region
                .mode
                .parse::<spillway_model::Mode>()
                .map_err(|error| ConfigError::invalid(key("mode"), error, "observe, shadow, control"))?;
            if !(0.0..=1.0).contains(&region.control_share) {
                return Err(ConfigError::invalid(key("control_share"), region.control_share, "0 to 1"));
            }
            for (name, weight) in &region.static_weights {
                let serves_here = |pathway: &PathwayId| self.serves(pathway, id);
                let known = PathwayId::new(name).is_ok_and(|pathway| serves_here(&pathway))
                    || self.groups.get(name.as_str()).is_some_and(|nodes| nodes.iter().any(serves_here));
                if !known {
                    return Err(ConfigError::invalid(
                        key("static_weights"),
                        name,
                        "pathways and groups that serve the region",
                    ));
                }
                if !(*weight >= 0.0 && weight.is_finite()) {
                    return Err(ConfigError::invalid(key("static_weights"), weight, "numbers of 0 or more"));
                }
            }
            if region.static_weights.values().sum::<f64>() <= 0.0 {
                return Err(ConfigError::invalid(key("static_weights"), "no weight", "at least one above 0"));
            }
        }
        Ok(())
    }

    /// Whether `pathway` may serve `region`.
    #[must_use]
    pub fn serves(&self, pathway: &PathwayId, region: &RegionId) -> bool {
        self.pathways.get(pathway).is_some_and(|config| {
            config.regions.is_empty() || config.regions.iter().any(|name| name == region.as_str())
        })
    }

    /// The cohort of an address: the longest prefix that holds it; without one the first region and no network.
    #[must_use]
    pub fn cohort(&self, address: IpAddr) -> Cohort {
        self.cohorts.lookup(address).unwrap_or_else(|| Cohort {
            region: self.regions.keys().next().expect("a deployment has at least one region").clone(),
            asn: None,
        })
    }

    /// The pathway of a media URL's host (`host` or `host:port`).
    #[must_use]
    pub fn pathway_of_host(&self, host: &str) -> Option<&PathwayId> {
        self.hosts.get(host)
    }

    fn region_names(&self) -> String {
        self.regions.keys().map(RegionId::as_str).collect::<Vec<_>>().join(", ")
    }
}

/// Own nodes are told by their id.
#[must_use]
pub fn kind_of(id: &PathwayId) -> PathwayKind {
    if id.as_str().starts_with("own-") { PathwayKind::Own } else { PathwayKind::Commercial }
}

/// `host` or `host:port` of an absolute http(s) URL.
#[must_use]
pub fn host_of(url: &str) -> Option<&str> {
    let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"))?;
    let host = rest.split(['/', '?', '#']).next()?;
    (!host.is_empty()).then_some(host)
}

/// Prefix → cohort, longest first.
#[derive(Clone, Debug, Default)]
struct CohortTable {
    /// (is IPv6, length, network bits, cohort); longest first.
    prefixes: Vec<(bool, u8, u128, Cohort)>,
}

impl CohortTable {
    fn add(&mut self, config: &PrefixConfig, regions: &BTreeMap<RegionId, RegionConfig>) -> Result<(), ConfigError> {
        let bad = || {
            ConfigError::invalid("prefix.prefix", &config.prefix, "address/length, as 203.0.113.0/24 or 2001:db8::/32")
        };
        let (address, length) = config.prefix.split_once('/').ok_or_else(bad)?;
        let address: IpAddr = address.parse().map_err(|_| bad())?;
        let length: u8 = length.parse().map_err(|_| bad())?;
        if length > if address.is_ipv6() { 128 } else { 32 } {
            return Err(bad());
        }
        let region = regions.get_key_value(config.region.as_str()).ok_or_else(|| {
            let names: Vec<&str> = regions.keys().map(RegionId::as_str).collect();
            ConfigError::invalid("prefix.region", &config.region, names.join(", "))
        })?;
        let cohort = Cohort { region: region.0.clone(), asn: config.asn };
        self.prefixes.push((address.is_ipv6(), length, network(address, length), cohort));
        Ok(())
    }

    fn sort(&mut self) {
        self.prefixes.sort_by_key(|(_, length, ..)| std::cmp::Reverse(*length));
    }

    fn lookup(&self, address: IpAddr) -> Option<Cohort> {
        let address = address.to_canonical();
        self.prefixes
            .iter()
            .find(|(v6, length, bits, _)| *v6 == address.is_ipv6() && network(address, *length) == *bits)
            .map(|(.., cohort)| cohort.clone())
    }
}

fn network(address: IpAddr, length: u8) -> u128 {
    let (bits, width) = match address {
        IpAddr::V4(v4) => (u128::from(v4.to_bits()), 32),
        IpAddr::V6(v6) => (v6.to_bits(), 128),
    };
    if length == 0 { 0 } else { bits >> (width - u32::from(length)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn region(id: &str) -> RegionConfig {
        RegionConfig {
            id: id.into(),
            mode: control(),
            control_share: 0.99,
            static_weights: BTreeMap::from([("cdn-a".into(), 1.0)]),
            probe_from: None,
        }
    }

    fn pathway(id: &str, base_url: &str) -> PathwayConfig {
        PathwayConfig {
            id: id.into(),
            base_url: base_url.into(),
            regions: vec![],
            group: None,
            capacity_mbps: 100.0,
            price_usd_per_gb: 0.01,
            failure_domains: vec![],
            origin_group: default_origin_group(),
            classes: vec![],
        }
    }

    fn prefix(prefix: &str, region: &str, asn: u32) -> PrefixConfig {
        PrefixConfig { prefix: prefix.into(), region: region.into(), asn: Some(asn) }
    }

    #[test]
    fn the_longest_prefix_wins_and_hosts_find_their_pathway() {
        let deployment = Deployment::new(
            vec![],
            vec![region("eu-a"), region("eu-b")],
            vec![pathway("cdn-a", "http://a.example:8080/x")],
            vec![
                prefix("127.11.0.0/16", "eu-a", 1),
                prefix("127.11.2.0/24", "eu-b", 2),
                prefix("2001:db8::/32", "eu-b", 3),
            ],
        )
        .expect("valid");
        let cohort = |text: &str| deployment.cohort(text.parse().expect("address"));
        assert_eq!(cohort("127.11.1.9").asn, Some(1));
        assert_eq!(
            (cohort("127.11.2.9").asn, cohort("127.11.2.9").region.as_str().to_owned()),
            (Some(2), "eu-b".into())
        );
        assert_eq!(cohort("2001:db8::1").asn, Some(3));
        assert_eq!(cohort("::ffff:127.11.1.9").asn, Some(1));
        assert_eq!(cohort("8.8.8.8"), Cohort { region: RegionId::new("eu-a").expect("id"), asn: None });
        assert_eq!(deployment.pathway_of_host("a.example:8080").map(PathwayId::as_str), Some("cdn-a"));
    }

    #[test]
    fn a_wrong_value_names_key_value_and_what_is_valid() {
        let fails = |pathways, prefixes| {
            Deployment::new(vec![], vec![region("eu-a")], pathways, prefixes).expect_err("invalid").to_string()
        };
        let text = fails(vec![pathway("cdn-a", "ftp://x")], vec![]);
        assert_eq!(
            text,
            "configuration key `pathway[cdn-a].base_url`: value \"ftp://x\" is not valid (valid: an absolute http:// or https:// URL)"
        );
        let text = fails(vec![pathway("cdn-a", "http://a")], vec![prefix("10.0.0.0/8", "mars", 1)]);
        assert!(text.contains("mars") && text.contains("eu-a"), "{text}");
        let text = fails(vec![pathway("cdn-b", "http://b")], vec![]);
        assert!(text.contains("static_weights") && text.contains("cdn-a"), "{text}");
    }
}
