//! What a deployment consists of: properties, regions, pathways, groups and address prefixes, as configured, and the
//! tables host → pathway and address → cohort that follow from them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use http::HeaderMap;
use serde::Deserialize;
use spillway_model::{Cohort, ContentClass, GroupId, PathwayId, PathwayKind, PropertyId, RegionId};

use crate::capacity_feed::CapacityFeedConfig;
use crate::config::ConfigError;
use crate::geo::{CONTINENTS, Client, Country, Databases, GeoConfig, Place, PrefixTable, Proxies};
use crate::prices::PriceConfig;

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
    /// Countries that belong to it (`["DE", "FR"]`), where nothing nearer tells a client's region.
    #[serde(default)]
    pub countries: Vec<String>,
    /// Continents that belong to it (`["EU"]`), but for countries that another region names.
    #[serde(default)]
    pub continents: Vec<String>,
    /// Content classes with a mode and share of their own (`[region.classes.kids]`). What belongs to a class:
    /// `steer.class_of`.
    #[serde(default)]
    pub classes: BTreeMap<String, ClassModeConfig>,
}

/// `[region.classes.NAME]`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClassModeConfig {
    /// `observe`, `shadow` or `control`.
    pub mode: String,
    /// Share of sessions under control, 0 to 1. Default 0.99.
    #[serde(default = "default_control_share")]
    pub control_share: f64,
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
    /// How the price depends on what was used in the month.
    #[serde(default)]
    pub price: PriceConfig,
    /// Point of presence that it shares with others; ceilings of these: `[orchestrator.ceilings]`.
    pub pop: Option<String>,
    /// What dies together with it. Its own id and its group are always among them.
    #[serde(default)]
    pub failure_domains: Vec<String>,
    /// Where its misses go. Default `origin`.
    #[serde(default = "default_origin_group")]
    pub origin_group: String,
    /// Content classes that it may serve; empty: all.
    #[serde(default)]
    pub classes: Vec<String>,
    /// Codecs that it may serve, as `CODECS` begins (`avc1`, `hev1`, `av01`); empty: all.
    #[serde(default)]
    pub codecs: Vec<String>,
    /// DRM systems that it may serve, as sessions name them (`widevine`); empty: all.
    #[serde(default)]
    pub drm: Vec<String>,
    /// Countries whose viewers it may serve (`["DE", "AT"]`, ISO 3166-1); empty: all.
    #[serde(default)]
    pub territories: Vec<String>,
    /// IP versions of the viewers that it may serve, `v4` and `v6`; empty: all.
    #[serde(default)]
    pub address_families: Vec<String>,
    /// Signer of its URLs, a name of `[steer.signers]`. Default: none.
    pub signer: Option<String>,
    /// Where its CDN publishes what it can take (commercial pathways only). Default: nowhere.
    pub capacity_feed: Option<CapacityFeedConfig>,
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
    /// Country.
    #[serde(default)]
    pub country: Option<String>,
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
    prefixes: PrefixTable<(Cohort, Option<Country>)>,
    hosts: BTreeMap<String, PathwayId>,
    by_country: BTreeMap<Country, RegionId>,
    by_continent: BTreeMap<&'static str, RegionId>,
    default_region: RegionId,
    proxies: Proxies,
    databases: Arc<Databases>,
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
        let none = || ConfigError::invalid("region", "none", "at least one [[region]]");
        let by_id: BTreeMap<RegionId, RegionConfig> = regions
            .into_iter()
            .map(|region| Ok((RegionId::new(&region.id).map_err(|e| bad_id("region.id", e))?, region)))
            .collect::<Result<_, ConfigError>>()?;
        if by_id.contains_key("keys") {
            return Err(ConfigError::invalid("region.id", "keys", "another id: keys.json is the file of public keys"));
        }
        let mut out = Self {
            properties: BTreeMap::new(),
            default_region: by_id.keys().next().ok_or_else(none)?.clone(),
            regions: by_id,
            pathways: BTreeMap::new(),
            groups: BTreeMap::new(),
            prefixes: PrefixTable::default(),
            hosts: BTreeMap::new(),
            by_country: BTreeMap::new(),
            by_continent: BTreeMap::new(),
            proxies: Proxies::default(),
            databases: Arc::default(),
        };
        for property in properties {
            let id = PropertyId::new(&property.id).map_err(|e| bad_id("property.id", e))?;
            if property.write_key.len() < 8 {
                return Err(ConfigError::invalid("property.write_key", property.write_key, "8 characters or more"));
            }
            out.properties.insert(property.write_key, (id, property.origins));
        }
        for pathway in pathways {
            out.add_pathway(pathway)?;
        }
        out.check_regions()?;
        out.map_countries()?;
        for prefix in prefixes {
            out.add_prefix(&prefix)?;
        }
        Ok(out)
    }

    /// With the databases, trusted proxies and default region of `[geo]`.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] names key, value and what is valid; a database that can't be used among them.
    pub fn with_geo(mut self, config: &GeoConfig) -> Result<Self, ConfigError> {
        self.take_default_region(config)?;
        self.proxies = Proxies::new(config)?;
        self.databases = Arc::new(Databases::open(config)?);
        Ok(self)
    }

    /// With the databases and trusted proxies of `other`, which stay in use, and the default region of `[geo]`.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] names key, value and what is valid.
    pub fn with_geo_of(mut self, config: &GeoConfig, other: &Self) -> Result<Self, ConfigError> {
        self.take_default_region(config)?;
        (self.proxies, self.databases) = (other.proxies.clone(), Arc::clone(&other.databases));
        Ok(self)
    }

    fn take_default_region(&mut self, config: &GeoConfig) -> Result<(), ConfigError> {
        if let Some(name) = &config.default_region {
            let (id, _) = self
                .regions
                .get_key_value(name.as_str())
                .ok_or_else(|| ConfigError::invalid("geo.default_region", name, self.region_names()))?;
            self.default_region = id.clone();
        }
        Ok(())
    }

    fn add_prefix(&mut self, config: &PrefixConfig) -> Result<(), ConfigError> {
        let region = self
            .regions
            .get_key_value(config.region.as_str())
            .ok_or_else(|| ConfigError::invalid("prefix.region", &config.region, self.region_names()))?;
        let country = match &config.country {
            Some(code) => Some(country("prefix.country", code)?),
            None => None,
        };
        let cohort = Cohort { region: region.0.clone(), asn: config.asn };
        if !self.prefixes.add(&config.prefix, (cohort, country)) {
            let valid = "address/length, as 203.0.113.0/24 or 2001:db8::/32";
            return Err(ConfigError::invalid("prefix.prefix", &config.prefix, valid));
        }
        Ok(())
    }

    fn map_countries(&mut self) -> Result<(), ConfigError> {
        for (id, region) in &self.regions {
            let key = |name: &str| format!("region[{id}].{name}");
            let twice = |name: &str, code: &str, other: &RegionId| {
                Err(ConfigError::invalid(key(name), code, format!("in one region only; {other} has it too")))
            };
            for code in &region.countries {
                if let Some(other) = self.by_country.insert(country(&key("countries"), code)?, id.clone()) {
                    return twice("countries", code, &other);
                }
            }
            for code in &region.continents {
                let known = CONTINENTS.into_iter().find(|continent| continent.eq_ignore_ascii_case(code));
                let continent =
                    known.ok_or_else(|| ConfigError::invalid(key("continents"), code, CONTINENTS.join(", ")))?;
                if let Some(other) = self.by_continent.insert(continent, id.clone()) {
                    return twice("continents", code, &other);
                }
            }
        }
        Ok(())
    }

    fn add_pathway(&mut self, mut pathway: PathwayConfig) -> Result<(), ConfigError> {
        let id = PathwayId::new(&pathway.id).map_err(|e| ConfigError::invalid("pathway.id", e, "an id"))?;
        let key = |name: &str| format!("pathway[{id}].{name}");
        let host = host_of(&pathway.base_url).ok_or_else(|| {
            ConfigError::invalid(key("base_url"), &pathway.base_url, "an absolute http:// or https:// URL")
        })?;
        let host = host.to_owned();
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
        pathway.price.check(&key("price"))?;
        check_serves(&mut pathway, &key)?;
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
        if let Some(feed) = &pathway.capacity_feed {
            if kind_of(&id) == PathwayKind::Own {
                let valid = "only on commercial pathways; own edges report their ceiling";
                return Err(ConfigError::invalid(key("capacity_feed"), &feed.url, valid));
            }
            feed.check(&key("capacity_feed"), |region| self.regions.contains_key(region))?;
        }
        if self.hosts.insert(host, id.clone()).is_some() {
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
            check_mode(&format!("region[{id}]"), &region.mode, region.control_share)?;
            for (class, config) in &region.classes {
                let key = key(&format!("classes.{class}"));
                ContentClass::new(class).map_err(|error| ConfigError::invalid(&key, error, "an id"))?;
                check_mode(&key, &config.mode, config.control_share)?;
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

    /// The client of a request: its address by `trusted_header` (the role's own), and what a trusted proxy says.
    #[must_use]
    pub fn client(&self, peer: SocketAddr, headers: &HeaderMap, trusted_header: Option<&str>) -> Client {
        Client::new(peer, headers, trusted_header, &self.proxies)
    }

    /// Where a client is. Region, network and country each come from the first that knows: the longest `[[prefix]]`, a
    /// trusted proxy's headers, the databases; a region also from the country; else it is the default.
    #[must_use]
    pub fn locate(&self, client: &Client) -> Place {
        let told = &client.stated;
        let found = self.databases.find(client.address);
        let (prefix, prefix_country) = self.prefixes.lookup(client.address).cloned().unzip();
        let country = prefix_country.flatten().or(told.country).or(found.country);
        let asn = prefix.as_ref().and_then(|cohort| cohort.asn).or(told.asn).or(found.asn);
        let named = || {
            let (id, _) = self.regions.get_key_value(told.region.as_deref()?)?;
            Some((id.clone(), "header"))
        };
        let by_country = |country: Option<Country>, told_by| Some((self.region_of(country?)?.clone(), told_by));
        let (region, told_by) = prefix
            .map(|cohort| (cohort.region, "prefix"))
            .or_else(named)
            .or_else(|| by_country(told.country, "header"))
            .or_else(|| by_country(found.country, "database"))
            .unwrap_or_else(|| (self.default_region.clone(), "default"));
        Place { cohort: Cohort { region, asn }, country, told_by }
    }

    /// [`Deployment::locate`] of a bare address: only region and network.
    #[must_use]
    pub fn cohort(&self, address: IpAddr) -> Cohort {
        self.locate(&Client::at(address)).cohort
    }

    /// The region that a country belongs to, if any says so.
    #[must_use]
    pub fn region_of(&self, country: Country) -> Option<&RegionId> {
        self.by_country.get(&country).or_else(|| self.by_continent.get(country.continent()?))
    }

    /// The geo databases, for [`crate::geo::watch`].
    #[must_use]
    pub fn databases(&self) -> Arc<Databases> {
        Arc::clone(&self.databases)
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

fn check_mode(key: &str, mode: &str, control_share: f64) -> Result<(), ConfigError> {
    mode.parse::<spillway_model::Mode>()
        .map_err(|error| ConfigError::invalid(format!("{key}.mode"), error, "observe, shadow, control"))?;
    if !(0.0..=1.0).contains(&control_share) {
        return Err(ConfigError::invalid(format!("{key}.control_share"), control_share, "0 to 1"));
    }
    Ok(())
}

/// Longest word that a session may name a codec or DRM system by, bytes.
const WORD_MAX_BYTES: usize = 32;

/// Checks what a pathway may serve; countries are written as sessions have them.
fn check_serves(pathway: &mut PathwayConfig, key: &impl Fn(&str) -> String) -> Result<(), ConfigError> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    let is_word = |word: &str| (1..=WORD_MAX_BYTES).contains(&word.len()) && word.bytes().all(plain);
    for (name, words) in [("codecs", &pathway.codecs), ("drm", &pathway.drm)] {
        if let Some(bad) = words.iter().find(|word| !is_word(word)) {
            let valid = format!("words of 1 to {WORD_MAX_BYTES} of A-Z, a-z, 0-9, . _ -");
            return Err(ConfigError::invalid(key(name), bad, valid));
        }
    }
    for code in &mut pathway.territories {
        *code = country(&key("territories"), code)?.as_str().to_owned();
    }
    match pathway.address_families.iter().find(|word| !matches!(word.as_str(), "v4" | "v6")) {
        Some(bad) => Err(ConfigError::invalid(key("address_families"), bad, "v4, v6")),
        None => Ok(()),
    }
}

fn country(key: &str, code: &str) -> Result<Country, ConfigError> {
    Country::new(code).ok_or_else(|| ConfigError::invalid(key, code, "a country's two letters, as DE (ISO 3166-1)"))
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

#[cfg(test)]
#[path = "deployment_tests.rs"]
mod tests;
