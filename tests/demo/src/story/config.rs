//! `deploy/demo.toml`: an ordinary configuration of `spillway`, and `[demo]` beside it.

use std::collections::BTreeMap;

use anyhow::{Context as _, bail};
use serde::Deserialize;
use toml::{Table, Value};

use crate::cdn::CdnConfig;
use crate::story::timeline::StoryShares;
use crate::viewer::population::{Manners, RegionShare};

/// `[demo]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DemoConfig {
    /// Title that is watched: `live/NAME`.
    pub content: String,
    /// Latency that distance adds, ms, of the origin and of each CDN. Default 0.
    #[serde(default)]
    pub latency_ms: BTreeMap<String, u64>,
    /// When things happen.
    pub story: StoryShares,
    /// What breaks.
    pub outage: OutageConfig,
    /// What is drained.
    pub drain: DrainConfig,
    /// Who watches.
    pub viewers: Vec<RegionShare>,
    /// What they are like.
    pub manners: Manners,
}

/// `[demo.outage]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OutageConfig {
    /// CDN that fails.
    pub pathway: String,
    /// Region in which.
    pub region: String,
    /// What it answers first.
    pub status: u16,
    /// What it leaves of each response's speed then.
    pub throttle_kbps: u64,
}

/// `[demo.drain]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DrainConfig {
    /// Own edge.
    pub target: String,
}

/// What the demo needs of a `[[pathway]]`.
#[derive(Debug, Clone, Deserialize, PartialEq)]
pub struct Pathway {
    /// Id; own nodes begin with `own-`.
    pub id: String,
    /// Where viewers reach it.
    pub base_url: String,
    /// Regions that it serves; empty: all.
    #[serde(default)]
    pub regions: Vec<String>,
    /// Own cluster.
    pub group: Option<String>,
    /// Ceiling.
    pub capacity_mbps: f64,
    /// Price.
    #[serde(default)]
    pub price_usd_per_gb: f64,
}

impl Pathway {
    /// Whether it is an own edge.
    #[must_use]
    pub fn is_own(&self) -> bool {
        self.id.starts_with("own-")
    }
}

#[derive(Debug, Deserialize)]
struct Named {
    id: String,
}

#[derive(Debug, Deserialize)]
struct Property {
    write_key: String,
}

#[derive(Debug, Deserialize)]
struct Prefix {
    prefix: String,
    asn: Option<u32>,
}

/// The filled-in file, taken apart.
#[derive(Debug, Clone)]
pub struct Parts {
    /// `[demo]`.
    pub demo: DemoConfig,
    /// All that `spillway` reads, as TOML.
    pub spillway_toml: String,
    /// `[[pathway]]`.
    pub pathways: Vec<Pathway>,
    /// Region ids.
    pub regions: Vec<String>,
    /// Of the first property.
    pub write_key: String,
    /// Third octet of viewers' addresses → network.
    pub asns: BTreeMap<u8, u32>,
    table: Table,
}

impl Parts {
    /// Takes a filled-in file apart.
    ///
    /// # Errors
    /// If it is not TOML, lacks something, or `[demo]` names what the rest does not have.
    pub fn read(text: &str) -> anyhow::Result<Self> {
        let mut table: Table = text.parse().context("read the demo's configuration")?;
        let demo = table.remove("demo").context("find [demo] in the demo's configuration")?;
        let demo: DemoConfig = demo.try_into().context("read [demo]")?;
        let pathways: Vec<Pathway> = list(&table, "pathway")?;
        let regions: Vec<String> = list::<Named>(&table, "region")?.into_iter().map(|region| region.id).collect();
        let property = list::<Property>(&table, "property")?.into_iter().next().context("find a [[property]]")?;
        let asns = list::<Prefix>(&table, "prefix")?
            .iter()
            .filter_map(|prefix| Some((prefix.prefix.split('.').nth(2)?.parse().ok()?, prefix.asn?)))
            .collect();
        let parts = Self {
            spillway_toml: toml::to_string(&table).context("write the configuration of spillway")?,
            write_key: property.write_key,
            demo,
            pathways,
            regions,
            asns,
            table,
        };
        parts.check()?;
        Ok(parts)
    }

    fn check(&self) -> anyhow::Result<()> {
        let (outage, drain) = (&self.demo.outage, &self.demo.drain);
        for region in self.demo.viewers.iter().map(|share| &share.region).chain([&outage.region]) {
            if !self.regions.contains(region) {
                bail!("use the region {region:?} in [demo] (valid: {})", self.regions.join(", "));
            }
        }
        let ids = |own: bool| -> Vec<&str> {
            self.pathways.iter().filter(|pathway| pathway.is_own() == own).map(|pathway| pathway.id.as_str()).collect()
        };
        if !ids(false).contains(&outage.pathway.as_str()) {
            bail!("use demo.outage.pathway {:?} (valid: {})", outage.pathway, ids(false).join(", "));
        }
        if !ids(true).contains(&drain.target.as_str()) {
            bail!("use demo.drain.target {:?} (valid: {})", drain.target, ids(true).join(", "));
        }
        Ok(())
    }

    /// The emulated CDNs.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "capacities are positive and small")]
    pub fn cdns(&self, origin_base_url: &str) -> Vec<CdnConfig> {
        let regions = self.demo.viewers.iter().map(|share| (share.octet, share.region.clone()));
        let regions: BTreeMap<u8, String> = regions.collect();
        let commercial = self.pathways.iter().filter(|pathway| !pathway.is_own());
        commercial
            .map(|pathway| CdnConfig {
                name: pathway.id.clone(),
                origin_base_url: origin_base_url.to_owned(),
                capacity_bps: (pathway.capacity_mbps * 1e6) as u64,
                price_usd_per_gb: pathway.price_usd_per_gb,
                base_latency_ms: self.demo.latency_ms.get(&pathway.id).copied().unwrap_or(0),
                cache_bytes: 64 * 1024 * 1024,
                regions: regions.clone(),
                asns: self.asns.clone(),
            })
            .collect()
    }

    /// The own configuration file of each own edge, by pathway.
    ///
    /// # Errors
    /// If the common part lacks something.
    pub fn edges(
        &self,
        origin_url: &str,
        orchestrator_url: &str,
        collector_url: &str,
    ) -> anyhow::Result<BTreeMap<String, String>> {
        let mut out = BTreeMap::new();
        for pathway in self.pathways.iter().filter(|pathway| pathway.is_own()) {
            let listen = pathway.base_url.strip_prefix("http://").context("find http:// in an own edge's base_url")?;
            let mut edge = Table::new();
            edge.insert("listen".into(), listen.into());
            edge.insert("pathway".into(), pathway.id.as_str().into());
            if let Some(group) = &pathway.group {
                edge.insert("group".into(), group.as_str().into());
            }
            let region = pathway.regions.first().context("find the region of an own edge")?;
            edge.insert("region".into(), region.as_str().into());
            edge.insert("base_url".into(), pathway.base_url.as_str().into());
            edge.insert("origin".into(), origin_url.into());
            edge.insert("ceiling_mbps".into(), pathway.capacity_mbps.into());
            edge.insert("orchestrators".into(), Value::Array(vec![orchestrator_url.into()]));
            edge.insert("collectors".into(), Value::Array(vec![collector_url.into()]));
            let mut file = Table::new();
            for key in ["data_dir", "service_token"] {
                file.insert(key.into(), self.table.get(key).with_context(|| format!("find {key}"))?.clone());
            }
            file.insert("edge".into(), Value::Table(edge));
            out.insert(pathway.id.clone(), toml::to_string(&file).context("write an edge's configuration")?);
        }
        Ok(out)
    }
}

fn list<T: serde::de::DeserializeOwned>(table: &Table, key: &str) -> anyhow::Result<Vec<T>> {
    let value = table.get(key).with_context(|| format!("find [[{key}]]"))?.clone();
    value.try_into().with_context(|| format!("read [[{key}]]"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::story::template;
    use crate::story::timeline::Timeline;

    fn filled() -> String {
        let text = include_str!("../../../../deploy/demo.toml");
        let mut values: BTreeMap<String, String> = BTreeMap::new();
        for (index, name) in template::ports(text).into_iter().enumerate() {
            values.insert(format!("port:{name}"), (4_000 + index).to_string());
        }
        for name in ["data_dir", "service_token", "operator_sha256", "mode", "token_key"] {
            values.insert(name.to_owned(), format!("the-{name}"));
        }
        template::fill(text, &values).expect("every placeholder has a value")
    }

    #[test]
    fn the_committed_file_has_what_the_story_needs() {
        let parts = Parts::read(&filled()).expect("valid");
        assert_eq!(parts.regions, ["eu-west", "eu-central", "eu-south", "eu-north"]);
        let own: Vec<_> = parts.pathways.iter().filter(|p| p.is_own()).map(|p| p.regions[0].as_str()).collect();
        assert_eq!(own, ["eu-west", "eu-west", "eu-central"], "two in one region, one in another");
        assert_eq!(parts.cdns("http://o").len(), 3);
        assert_eq!(parts.asns.len(), 4);
        let shares: f64 = parts.demo.viewers.iter().map(|share| share.share + share.spike_share).sum();
        assert!((shares - 1.0).abs() < 1e-9, "{shares}");
        let outage = parts.demo.viewers.iter().find(|share| share.region == parts.demo.outage.region).expect("there");
        assert!(outage.share * 400.0 >= 150.0, "enough views for the outage");
        assert!(outage.share >= 0.45);
        Timeline::new(&parts.demo.story, 90).expect("in order");
    }

    #[test]
    fn spillway_never_sees_what_belongs_to_the_demo() {
        let parts = Parts::read(&filled()).expect("valid");
        let table: Table = parts.spillway_toml.parse().expect("TOML");
        assert!(!table.contains_key("demo") && table.contains_key("policy"));
        let policy: Vec<_> = table["policy"].as_table().expect("table").keys().map(String::as_str).collect();
        assert_eq!(policy, ["drain_s", "hold_s", "recovery_step_s", "ttl_live_s"], "nothing else is shortened");
    }

    #[test]
    fn each_own_edge_gets_a_file_of_its_own() {
        let parts = Parts::read(&filled()).expect("valid");
        let edges = parts.edges("http://127.0.0.1:1", "http://127.0.0.1:2", "http://127.0.0.1:3").expect("valid");
        assert_eq!(edges.len(), 3);
        let file: Table = edges["own-west-2"].parse().expect("TOML");
        assert_eq!(file["edge"]["group"].as_str(), Some("own-west"));
        assert_eq!(file["edge"]["orchestrators"][0].as_str(), Some("http://127.0.0.1:2"));
        assert_eq!(file["edge"]["collectors"][0].as_str(), Some("http://127.0.0.1:3"));
        assert_eq!(file["service_token"].as_str(), Some("the-service_token"));
    }

    #[test]
    fn names_that_do_not_exist_are_refused() {
        let text = filled().replace("target = \"own-west-1\"", "target = \"own-moon-1\"");
        let error = Parts::read(&text).expect_err("refused").to_string();
        assert_eq!(error, "use demo.drain.target \"own-moon-1\" (valid: own-west-1, own-west-2, own-central-1)");
    }
}
