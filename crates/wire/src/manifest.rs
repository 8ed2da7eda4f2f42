//! Routing manifest v1, the JSON inside the envelope.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use spillway_model::{
    BitsPerSecond, ContentClass, ContentId, GroupId, IdError, OriginGroupId, PathwayId, Ppm, RegionId, TimestampMs,
    UnknownWord,
};
use spillway_routing as routing;
use spillway_routing::{Target, Weights};

/// The version that this module reads and writes.
pub const MANIFEST_VERSION: u32 = 1;

/// The payload.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ManifestV1 {
    /// 1.
    pub v: u32,
    /// Region.
    pub region: String,
    /// Version, monotonic per region.
    pub epoch: u64,
    /// When it was made, ms since epoch.
    pub issued_ms: u64,
    /// After this, static weights.
    pub valid_until_ms: u64,
    /// Policy that made it.
    pub policy: String,
    /// Modes by class.
    pub modes: Vec<ModeV1>,
    /// By pathway.
    pub pathways: BTreeMap<String, PathwayV1>,
    /// By group.
    pub groups: BTreeMap<String, GroupV1>,
    /// By cohort.
    pub cohorts: Vec<CohortV1>,
    /// Highest bitrates by class.
    pub max_bitrate_kbps: Vec<MaxBitrateV1>,
    /// DOWN pathways that a few running views try; absent: none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub probes: BTreeMap<String, ProbeV1>,
    /// Titles with the number of nodes that share them.
    pub hot_titles: BTreeMap<String, u32>,
    /// Polling.
    pub ttl: TtlV1,
    /// Weights when all else is lost, ppm.
    pub static_weights: BTreeMap<String, u32>,
    /// The plan beside the incumbent rules, in shadow mode.
    pub shadow: Vec<CohortV1>,
    /// Overrides in force.
    pub overrides: Vec<OverrideV1>,
    /// Drill in progress.
    pub drill: Option<DrillV1>,
}

/// See [`routing::ModeRule`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModeV1 {
    /// Content class; null = all others.
    pub class: Option<String>,
    /// `observe`, `shadow` or `control`.
    pub mode: String,
    /// Share under control, ppm.
    pub control_ppm: u32,
}

/// See [`routing::Pathway`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PathwayV1 {
    /// `own` or `commercial`.
    pub kind: String,
    /// State word.
    pub state: String,
    /// Why.
    pub reason: String,
    /// In this state since, ms since epoch.
    pub since_ms: u64,
    /// 10 s mean bits out ÷ ceiling, ppm.
    pub utilisation_ppm: u32,
    /// Ceiling, bit/s.
    pub capacity_bps: u64,
    /// Ceiling as learned, bit/s.
    pub learned_capacity_bps: u64,
    /// What it can carry; an empty list = everything.
    pub serves: ServesV1,
    /// Own cluster.
    pub group: Option<String>,
    /// Where its misses go.
    pub origin_group: Option<String>,
    /// What dies together.
    pub failure_domains: Vec<String>,
    /// Absolute base URL.
    pub base_url: String,
    /// Signer of its URLs.
    pub signer: Option<String>,
}

/// See [`routing::Serves`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServesV1 {
    /// Content classes.
    pub classes: Vec<String>,
    /// Codecs.
    pub codecs: Vec<String>,
    /// DRM systems.
    pub drm: Vec<String>,
    /// Territories.
    pub territories: Vec<String>,
    /// `v4`, `v6`.
    pub address_families: Vec<String>,
}

/// See [`routing::Group`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupV1 {
    /// Parts per million by node.
    pub nodes: BTreeMap<String, u32>,
}

/// See [`routing::CohortRule`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CohortV1 {
    /// Network; null = all.
    pub asn: Option<u32>,
    /// Content class; null = all.
    pub class: Option<String>,
    /// Device class; null = all.
    pub device_class: Option<String>,
    /// New views, ppm by pathway or group.
    pub weights_new: BTreeMap<String, u32>,
    /// Running views, ppm.
    pub weights_running: BTreeMap<String, u32>,
    /// Views that started before this are running ones, ms since epoch.
    pub running_before_ms: u64,
    /// Spare capacity, ppm.
    pub spare: BTreeMap<String, u32>,
    /// Why.
    pub reason: String,
}

/// Highest bitrate of a class.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MaxBitrateV1 {
    /// Content class; null = all others.
    pub class: Option<String>,
    /// kbit/s.
    pub kbps: u32,
}

/// See [`routing::ProbeShare`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeV1 {
    /// Share of running views, ppm.
    pub share_ppm: u32,
    /// Whose turn it is.
    pub turn: String,
}

/// See [`routing::TtlPolicy`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TtlV1 {
    /// On demand, s.
    pub vod_s: u32,
    /// Live, s.
    pub live_s: u32,
    /// In a suspect cell, s.
    pub suspect_s: u32,
    /// Spread, ppm.
    pub jitter_ppm: u32,
}

/// See [`routing::OverrideNote`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OverrideV1 {
    /// Its id.
    pub id: String,
    /// `drain`, `exclude`, `pin`, `weight`, `cap`.
    pub kind: String,
    /// Pathway or group.
    pub target: String,
    /// Who.
    pub by: String,
    /// Why.
    pub reason: String,
    /// Ends by itself, ms since epoch.
    pub expires_ms: u64,
}

/// See [`routing::DrillNote`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrillV1 {
    /// Its id.
    pub id: String,
    /// Its kind.
    pub kind: String,
    /// Pathway.
    pub pathway: String,
    /// Phase.
    pub phase: String,
    /// Begun, ms since epoch.
    pub started_ms: u64,
}

/// Why a payload is refused; [`ManifestError::name`] is the stable name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// Not the JSON of a manifest.
    #[error("the payload is not a manifest: {0}")]
    Unreadable(String),
    /// Not version 1.
    #[error("manifest version {0} is unknown (valid: 1)")]
    UnknownVersion(u32),
    /// An id that is none.
    #[error(transparent)]
    Id(#[from] IdError),
    /// A word outside its set.
    #[error(transparent)]
    Word(#[from] UnknownWord),
    /// A base URL that is not absolute.
    #[error("base URL {0:?} of a pathway is not absolute (http:// or https://)")]
    BaseUrl(String),
    /// It contradicts itself.
    #[error(transparent)]
    Invalid(#[from] routing::Invalid),
}

impl ManifestError {
    /// Stable name, for counters.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Unreadable(_) => "unreadable",
            Self::UnknownVersion(_) => "unknown_version",
            Self::Id(_) => "bad_id",
            Self::Word(_) => "unknown_word",
            Self::BaseUrl(_) => "bad_base_url",
            Self::Invalid(invalid) => invalid.name(),
        }
    }
}

/// Reads and checks a payload.
///
/// # Errors
/// [`ManifestError`] for the first thing that a consumer must refuse.
pub fn parse(payload: &[u8]) -> Result<routing::Manifest, ManifestError> {
    #[derive(Deserialize)]
    struct Version {
        v: u32,
    }
    let unreadable = |error: serde_json::Error| ManifestError::Unreadable(error.to_string());
    let Version { v } = serde_json::from_slice(payload).map_err(unreadable)?;
    if v != MANIFEST_VERSION {
        return Err(ManifestError::UnknownVersion(v));
    }
    let wire: ManifestV1 = serde_json::from_slice(payload).map_err(unreadable)?;
    routing::Manifest::try_from(wire)
}

/// Writes a manifest; the bytes are what gets signed.
#[must_use]
pub fn to_bytes(manifest: &routing::Manifest) -> Vec<u8> {
    serde_json::to_vec(&ManifestV1::from(manifest)).expect("a manifest has only string keys, which JSON can write")
}

impl TryFrom<ManifestV1> for routing::Manifest {
    type Error = ManifestError;

    fn try_from(wire: ManifestV1) -> Result<Self, ManifestError> {
        let mut tables = Tables::new(&wire)?;
        let class = |class: Option<String>| class.map(|class| ContentClass::new(&class)).transpose();
        let mut modes = Vec::new();
        for mode in wire.modes {
            modes.push(routing::ModeRule {
                class: class(mode.class)?,
                mode: mode.mode.parse()?,
                control: Ppm(mode.control_ppm),
            });
        }
        let mut pathways = BTreeMap::new();
        for (id, pathway) in wire.pathways {
            pathways.insert(PathwayId::new(&id)?, pathway.try_into()?);
        }
        let mut domain_groups = BTreeMap::new();
        for (id, group) in wire.groups {
            let nodes = group.nodes.into_iter().map(|(node, ppm)| Ok((PathwayId::new(&node)?, ppm)));
            domain_groups.insert(GroupId::new(&id)?, routing::Group { nodes: nodes.collect::<Result<_, IdError>>()? });
        }
        let mut max_bitrate_kbps = Vec::new();
        for limit in wire.max_bitrate_kbps {
            max_bitrate_kbps.push((class(limit.class)?, limit.kbps));
        }
        let hot = wire.hot_titles.into_iter().map(|(title, count)| Ok((ContentId::new(&title)?, count)));
        let manifest = Self {
            region: RegionId::new(&wire.region)?,
            epoch: wire.epoch,
            issued: TimestampMs(wire.issued_ms),
            valid_until: TimestampMs(wire.valid_until_ms),
            policy: wire.policy,
            modes,
            pathways,
            cohorts: tables.cohorts(wire.cohorts)?,
            groups: domain_groups,
            max_bitrate_kbps,
            probes: wire
                .probes
                .into_iter()
                .map(|(id, probe)| {
                    let share = routing::ProbeShare { share: Ppm(probe.share_ppm), turn: probe.turn };
                    Ok((PathwayId::new(&id)?, share))
                })
                .collect::<Result<_, IdError>>()?,
            hot_titles: hot.collect::<Result<_, IdError>>()?,
            ttl: routing::TtlPolicy {
                vod_s: wire.ttl.vod_s,
                live_s: wire.ttl.live_s,
                suspect_s: wire.ttl.suspect_s,
                jitter: Ppm(wire.ttl.jitter_ppm),
            },
            static_weights: tables.weights(wire.static_weights)?,
            shadow: tables.cohorts(wire.shadow)?,
            overrides: wire.overrides.into_iter().map(Into::into).collect(),
            drill: wire.drill.map(TryInto::try_into).transpose()?,
        };
        manifest.check()?;
        Ok(manifest)
    }
}

/// Targets and tables of a manifest: cohorts that say the same share the memory of it.
struct Tables {
    targets: BTreeMap<String, Target>,
    seen: BTreeSet<Weights>,
}

impl Tables {
    fn new(wire: &ManifestV1) -> Result<Self, IdError> {
        let pathways = wire.pathways.keys().map(|name| Ok((name.clone(), Target::Pathway(PathwayId::new(name)?))));
        let groups = wire.groups.keys().map(|name| Ok((name.clone(), Target::Group(GroupId::new(name)?))));
        // Of a pathway and a group of one name, weights mean the group.
        Ok(Self { targets: pathways.chain(groups).collect::<Result<_, IdError>>()?, seen: BTreeSet::new() })
    }

    fn weights(&mut self, wire: BTreeMap<String, u32>) -> Result<Weights, IdError> {
        let target = |(name, ppm): (String, u32)| match self.targets.get(&name) {
            Some(target) => Ok((target.clone(), ppm)),
            None => Ok((Target::Pathway(PathwayId::new(&name)?), ppm)),
        };
        let table: Weights = wire.into_iter().map(target).collect::<Result<_, IdError>>()?;
        if let Some(seen) = self.seen.get(&table) {
            return Ok(seen.clone());
        }
        self.seen.insert(table.clone());
        Ok(table)
    }

    fn cohorts(&mut self, wire: Vec<CohortV1>) -> Result<Vec<routing::CohortRule>, IdError> {
        let cohort = |rule: CohortV1| {
            Ok(routing::CohortRule {
                asn: rule.asn,
                class: rule.class.map(|class| ContentClass::new(&class)).transpose()?,
                device_class: rule.device_class,
                weights_new: self.weights(rule.weights_new)?,
                weights_running: self.weights(rule.weights_running)?,
                running_before: TimestampMs(rule.running_before_ms),
                spare: self.weights(rule.spare)?,
                reason: rule.reason,
            })
        };
        wire.into_iter().map(cohort).collect()
    }
}

impl TryFrom<PathwayV1> for routing::Pathway {
    type Error = ManifestError;

    fn try_from(wire: PathwayV1) -> Result<Self, ManifestError> {
        if !(wire.base_url.starts_with("http://") || wire.base_url.starts_with("https://")) {
            return Err(ManifestError::BaseUrl(wire.base_url));
        }
        let mut families = BTreeSet::new();
        for family in wire.serves.address_families {
            let named = routing::AddressFamily::named(&family);
            let bad = || ManifestError::Unreadable(format!("address family {family:?} (valid: v4, v6)"));
            families.insert(named.ok_or_else(bad)?);
        }
        let classes = wire.serves.classes.iter().map(|class| ContentClass::new(class));
        Ok(Self {
            kind: wire.kind.parse()?,
            state: wire.state.parse()?,
            reason: wire.reason,
            since: TimestampMs(wire.since_ms),
            utilisation: Ppm(wire.utilisation_ppm),
            capacity: BitsPerSecond(wire.capacity_bps),
            learned_capacity: BitsPerSecond(wire.learned_capacity_bps),
            serves: routing::Serves {
                classes: classes.collect::<Result<_, _>>()?,
                codecs: wire.serves.codecs.into_iter().collect(),
                drm: wire.serves.drm.into_iter().collect(),
                territories: wire.serves.territories.into_iter().collect(),
                address_families: families,
            },
            group: wire.group.map(|group| GroupId::new(&group)).transpose()?,
            origin_group: wire.origin_group.map(|group| OriginGroupId::new(&group)).transpose()?,
            failure_domains: wire.failure_domains.into_iter().collect(),
            base_url: wire.base_url.trim_end_matches('/').to_owned(),
            signer: wire.signer,
        })
    }
}

impl From<OverrideV1> for routing::OverrideNote {
    fn from(wire: OverrideV1) -> Self {
        Self {
            id: wire.id,
            kind: wire.kind,
            target: wire.target,
            by: wire.by,
            reason: wire.reason,
            expires: TimestampMs(wire.expires_ms),
        }
    }
}

impl TryFrom<DrillV1> for routing::DrillNote {
    type Error = IdError;

    fn try_from(wire: DrillV1) -> Result<Self, IdError> {
        Ok(Self {
            id: wire.id,
            kind: wire.kind,
            pathway: PathwayId::new(&wire.pathway)?,
            phase: wire.phase,
            started: TimestampMs(wire.started_ms),
        })
    }
}

impl From<&routing::Manifest> for ManifestV1 {
    fn from(manifest: &routing::Manifest) -> Self {
        let class = |class: &Option<ContentClass>| class.as_ref().map(ToString::to_string);
        Self {
            v: MANIFEST_VERSION,
            region: manifest.region.to_string(),
            epoch: manifest.epoch,
            issued_ms: manifest.issued.0,
            valid_until_ms: manifest.valid_until.0,
            policy: manifest.policy.clone(),
            modes: manifest
                .modes
                .iter()
                .map(|rule| ModeV1 {
                    class: class(&rule.class),
                    mode: rule.mode.to_string(),
                    control_ppm: rule.control.0,
                })
                .collect(),
            pathways: manifest.pathways.iter().map(|(id, pathway)| (id.to_string(), pathway.into())).collect(),
            groups: manifest
                .groups
                .iter()
                .map(|(id, group)| {
                    let nodes = group.nodes.iter().map(|(node, ppm)| (node.to_string(), *ppm)).collect();
                    (id.to_string(), GroupV1 { nodes })
                })
                .collect(),
            cohorts: manifest.cohorts.iter().map(Into::into).collect(),
            max_bitrate_kbps: manifest
                .max_bitrate_kbps
                .iter()
                .map(|(of, kbps)| MaxBitrateV1 { class: class(of), kbps: *kbps })
                .collect(),
            probes: manifest
                .probes
                .iter()
                .map(|(id, probe)| (id.to_string(), ProbeV1 { share_ppm: probe.share.0, turn: probe.turn.clone() }))
                .collect(),
            hot_titles: manifest.hot_titles.iter().map(|(title, count)| (title.to_string(), *count)).collect(),
            ttl: TtlV1 {
                vod_s: manifest.ttl.vod_s,
                live_s: manifest.ttl.live_s,
                suspect_s: manifest.ttl.suspect_s,
                jitter_ppm: manifest.ttl.jitter.0,
            },
            static_weights: names(&manifest.static_weights),
            shadow: manifest.shadow.iter().map(Into::into).collect(),
            overrides: manifest.overrides.iter().map(Into::into).collect(),
            drill: manifest.drill.as_ref().map(Into::into),
        }
    }
}

fn names(weights: &Weights) -> BTreeMap<String, u32> {
    weights.iter().map(|(target, ppm)| (target.as_str().to_owned(), *ppm)).collect()
}

impl From<&routing::CohortRule> for CohortV1 {
    fn from(rule: &routing::CohortRule) -> Self {
        Self {
            asn: rule.asn,
            class: rule.class.as_ref().map(ToString::to_string),
            device_class: rule.device_class.clone(),
            weights_new: names(&rule.weights_new),
            weights_running: names(&rule.weights_running),
            running_before_ms: rule.running_before.0,
            spare: names(&rule.spare),
            reason: rule.reason.clone(),
        }
    }
}

impl From<&routing::Pathway> for PathwayV1 {
    fn from(pathway: &routing::Pathway) -> Self {
        let serves = &pathway.serves;
        let family = |family: &routing::AddressFamily| match family {
            routing::AddressFamily::V4 => "v4".to_owned(),
            routing::AddressFamily::V6 => "v6".to_owned(),
        };
        Self {
            kind: pathway.kind.to_string(),
            state: pathway.state.to_string(),
            reason: pathway.reason.clone(),
            since_ms: pathway.since.0,
            utilisation_ppm: pathway.utilisation.0,
            capacity_bps: pathway.capacity.0,
            learned_capacity_bps: pathway.learned_capacity.0,
            serves: ServesV1 {
                classes: serves.classes.iter().map(ToString::to_string).collect(),
                codecs: serves.codecs.iter().cloned().collect(),
                drm: serves.drm.iter().cloned().collect(),
                territories: serves.territories.iter().cloned().collect(),
                address_families: serves.address_families.iter().map(family).collect(),
            },
            group: pathway.group.as_ref().map(ToString::to_string),
            origin_group: pathway.origin_group.as_ref().map(ToString::to_string),
            failure_domains: pathway.failure_domains.iter().cloned().collect(),
            base_url: pathway.base_url.clone(),
            signer: pathway.signer.clone(),
        }
    }
}

impl From<&routing::OverrideNote> for OverrideV1 {
    fn from(note: &routing::OverrideNote) -> Self {
        Self {
            id: note.id.clone(),
            kind: note.kind.clone(),
            target: note.target.clone(),
            by: note.by.clone(),
            reason: note.reason.clone(),
            expires_ms: note.expires.0,
        }
    }
}

impl From<&routing::DrillNote> for DrillV1 {
    fn from(note: &routing::DrillNote) -> Self {
        Self {
            id: note.id.clone(),
            kind: note.kind.clone(),
            pathway: note.pathway.to_string(),
            phase: note.phase.clone(),
            started_ms: note.started.0,
        }
    }
}
