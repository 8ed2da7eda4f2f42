//! `[steer.dns]`: the zone, its names, and where pathways are.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use hickory_proto::rr::{LowerName, Name};
use serde::Deserialize;
use spillway_model::PathwayId;
use spillway_service::config::ConfigError;

/// A set of addresses fits an answer of 512 bytes.
const ADDRESSES_MAX: usize = 8;
/// Longest time that resolvers may keep an answer: an hour on a dead pathway is no steering any more.
const TTL_MAX_S: u32 = 3_600;
/// Names of a zone; each is one line of configuration.
const NAMES_MAX: usize = 10_000;

/// `[steer.dns]`: an authoritative zone that answers by the manifests. Default: none.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DnsConfig {
    /// Addresses to listen on, UDP and TCP (`["192.0.2.53:53", "[2001:db8::53]:53"]`). On a machine with several
    /// addresses name each: an answer from another address than was asked is dropped by resolvers.
    pub listen: Vec<SocketAddr>,
    /// The zone (`cdn.example.net`), delegated to `nameservers`.
    pub zone: String,
    /// Its name servers, each with its addresses; only one inside the zone has some.
    pub nameservers: BTreeMap<String, Vec<IpAddr>>,
    /// Mail address of those who look after the zone.
    pub contact: String,
    /// Seconds that an answer may be kept. Default 30.
    #[serde(default = "default_ttl_s")]
    pub ttl_s: u32,
    /// Path of the title by name below the zone: it tells content class and own node as a playlist's path does. `*.live`
    /// stands for every name below `live`, whose labels are the rest of the path.
    pub names: BTreeMap<String, String>,
    /// Where pathways are. Default: the host of their `base_url`.
    #[serde(default)]
    pub targets: BTreeMap<String, TargetConfig>,
    /// Answers per second over UDP to one /24 (IPv6: /56) of resolvers; of those above, every second one is told to ask
    /// over TCP. Default 2,000.
    #[serde(default = "default_answers_per_prefix")]
    pub answers_per_prefix_per_s: u32,
    /// TCP connections at a time. Default 256.
    #[serde(default = "default_connections")]
    pub tcp_connections_max: u32,
}

/// `[steer.dns.targets.PATHWAY]`: addresses, or a name.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TargetConfig {
    /// IPv4 addresses.
    #[serde(default)]
    pub a: Vec<Ipv4Addr>,
    /// IPv6 addresses.
    #[serde(default)]
    pub aaaa: Vec<Ipv6Addr>,
    /// Host name, outside the zone.
    pub cname: Option<String>,
}

const fn default_ttl_s() -> u32 {
    30
}

const fn default_answers_per_prefix() -> u32 {
    2_000
}

const fn default_connections() -> u32 {
    256
}

/// Where a pathway is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// Under another name.
    Alias(Name),
    /// At these addresses.
    Addresses {
        /// IPv4.
        a: Vec<Ipv4Addr>,
        /// IPv6.
        aaaa: Vec<Ipv6Addr>,
    },
}

/// Checked configuration; names are absolute.
#[derive(Clone, Debug)]
pub(crate) struct DnsSettings {
    pub(crate) listen: Vec<SocketAddr>,
    pub(crate) apex: LowerName,
    pub(crate) nameservers: Vec<(Name, Vec<IpAddr>)>,
    pub(crate) contact: Name,
    pub(crate) ttl_s: u32,
    /// Path by name; a name that begins with `*` stands for all below the rest.
    pub(crate) names: BTreeMap<LowerName, String>,
    pub(crate) targets: BTreeMap<PathwayId, Target>,
    pub(crate) answers_per_prefix_per_s: u32,
    pub(crate) tcp_connections_max: u32,
}

impl DnsConfig {
    /// Checks every value, without opening anything.
    pub(crate) fn check(&self) -> Result<DnsSettings, ConfigError> {
        let invalid = |key: &str, value: &dyn ToString, valid: &str| {
            ConfigError::invalid(format!("steer.dns.{key}"), value.to_string(), valid)
        };
        if self.listen.is_empty() {
            return Err(invalid("listen", &"none", "at least one address, as \"192.0.2.53:53\""));
        }
        let apex = absolute(&self.zone).filter(|name| !name.is_root() && !name.is_wildcard());
        let apex = apex.ok_or_else(|| invalid("zone", &self.zone, "a domain, as cdn.example.net"))?;
        if !(1..=TTL_MAX_S).contains(&self.ttl_s) {
            return Err(invalid("ttl_s", &self.ttl_s, &format!("1 to {TTL_MAX_S}")));
        }
        for (key, value) in [
            ("answers_per_prefix_per_s", self.answers_per_prefix_per_s),
            ("tcp_connections_max", self.tcp_connections_max),
        ] {
            if value == 0 {
                return Err(invalid(key, &value, "1 or more"));
            }
        }
        let contact = self.contact.split_once('@').filter(|(local, domain)| !local.is_empty() && !domain.is_empty());
        let contact = contact
            .and_then(|(local, domain)| Name::new().append_label(local).ok()?.append_domain(&absolute(domain)?).ok());
        Ok(DnsSettings {
            listen: self.listen.clone(),
            nameservers: self.nameservers(&apex)?,
            contact: contact.ok_or_else(|| invalid("contact", &self.contact, "a mail address"))?,
            ttl_s: self.ttl_s,
            names: self.names(&apex)?,
            targets: self.targets(&apex)?,
            answers_per_prefix_per_s: self.answers_per_prefix_per_s,
            tcp_connections_max: self.tcp_connections_max,
            apex: LowerName::new(&apex),
        })
    }

    fn nameservers(&self, apex: &Name) -> Result<Vec<(Name, Vec<IpAddr>)>, ConfigError> {
        let mut out = Vec::new();
        for (text, addresses) in &self.nameservers {
            let key = || format!("steer.dns.nameservers.{text}");
            let name = absolute(text).filter(|name| !name.is_root() && !name.is_wildcard() && name != apex);
            let name = name.ok_or_else(|| ConfigError::invalid(key(), text, "a host name, as ns1.example.net"))?;
            match (apex.zone_of(&name), addresses.len()) {
                (true, 0) => {
                    return Err(ConfigError::invalid(key(), "no address", "addresses, since it is in the zone"));
                }
                (false, 1..) => {
                    return Err(ConfigError::invalid(
                        key(),
                        addresses[0],
                        "none, since its own zone tells its addresses",
                    ));
                }
                (_, count) if count > ADDRESSES_MAX => {
                    return Err(ConfigError::invalid(key(), count, format!("at most {ADDRESSES_MAX} addresses")));
                }
                _ => out.push((name, addresses.clone())),
            }
        }
        match out.len() {
            1..=13 => Ok(out),
            other => Err(ConfigError::invalid("steer.dns.nameservers", other, "1 to 13 host names")),
        }
    }

    fn names(&self, apex: &Name) -> Result<BTreeMap<LowerName, String>, ConfigError> {
        let servers: BTreeSet<LowerName> =
            self.nameservers.keys().filter_map(|name| Some(LowerName::new(&absolute(name)?))).collect();
        let mut out = BTreeMap::new();
        for (text, path) in &self.names {
            let invalid = |valid: &str| ConfigError::invalid(format!("steer.dns.names.{text}"), path, valid);
            let relative = Name::from_ascii(text)
                .ok()
                .filter(|name| !name.is_fqdn() && !name.is_empty() && name.iter().next().is_some());
            let inner_stars = relative.as_ref().is_some_and(|name| name.iter().skip(1).any(|label| label == b"*"));
            let name = relative.filter(|_| !inner_stars).and_then(|name| name.append_domain(apex).ok());
            let name = name.map(|name| LowerName::new(&name)).ok_or_else(|| {
                invalid("a name below the zone and without its end, as \"live\" or \"*.live\"; the zone itself can't be one")
            })?;
            if servers.contains(&name) {
                return Err(invalid("a name that no name server has"));
            }
            out.insert(name, path.trim_start_matches('/').to_owned());
        }
        match out.len() {
            1..=NAMES_MAX => Ok(out),
            other => Err(ConfigError::invalid("steer.dns.names", other, format!("1 to {NAMES_MAX} names"))),
        }
    }

    fn targets(&self, apex: &Name) -> Result<BTreeMap<PathwayId, Target>, ConfigError> {
        let mut out = BTreeMap::new();
        for (text, config) in &self.targets {
            let key = |name: &str| format!("steer.dns.targets.{text}{name}");
            let id = PathwayId::new(text).map_err(|error| ConfigError::invalid(key(""), error, "a pathway's id"))?;
            let addresses = config.a.len() + config.aaaa.len();
            let target = match &config.cname {
                Some(name) if addresses > 0 => {
                    return Err(ConfigError::invalid(
                        key(".cname"),
                        name,
                        "alone: a name with addresses can't be an alias",
                    ));
                }
                Some(name) => Target::Alias(
                    alias(name, apex)
                        .ok_or_else(|| ConfigError::invalid(key(".cname"), name, "a host name outside the zone"))?,
                ),
                None if addresses == 0 => return Err(ConfigError::invalid(key(""), "nothing", "a, aaaa or cname")),
                None => Target::Addresses { a: config.a.clone(), aaaa: config.aaaa.clone() },
            };
            if config.a.len().max(config.aaaa.len()) > ADDRESSES_MAX {
                return Err(ConfigError::invalid(
                    key(""),
                    addresses,
                    format!("at most {ADDRESSES_MAX} addresses of a kind"),
                ));
            }
            out.insert(id, target);
        }
        Ok(out)
    }
}

fn absolute(text: &str) -> Option<Name> {
    let mut name = Name::from_ascii(text).ok()?;
    name.set_fqdn(true);
    Some(name)
}

fn alias(host: &str, apex: &Name) -> Option<Name> {
    absolute(host).filter(|name| !name.is_root() && !name.is_wildcard() && !apex.zone_of(name))
}

/// Where the host of `base_url` is; `None` for a name inside the zone: it would lead back to us.
pub(crate) fn target_of(base_url: &str, apex: &Name) -> Option<Target> {
    match url::Url::parse(base_url).ok()?.host()? {
        url::Host::Ipv4(address) => Some(Target::Addresses { a: vec![address], aaaa: vec![] }),
        url::Host::Ipv6(address) => Some(Target::Addresses { a: vec![], aaaa: vec![address] }),
        url::Host::Domain(host) => alias(host, apex).map(Target::Alias),
    }
}
