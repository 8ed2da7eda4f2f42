//! Each region's last good manifest. A refusal concerns one region, keeps what is there, and is counted.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use ed25519_dalek::VerifyingKey;
use spillway_model::{RegionId, TimestampMs};
use spillway_routing::Manifest;
use spillway_service::deployment::Deployment;
use spillway_wire::envelope::{self, EnvelopeError};
use spillway_wire::manifest::{self, ManifestError};

use crate::prepared::Prepared;
use crate::signers::Signers;
use crate::static_plan;

/// Why a manifest is refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    #[error(transparent)]
    Envelope(#[from] EnvelopeError),
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    #[error("epoch {offered} is not newer than {held}")]
    OlderEpoch { offered: u64, held: u64 },
    #[error("the manifest of region {0} stands under another region's key")]
    WrongRegion(RegionId),
}

impl Refusal {
    /// Stable name, for counters.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Envelope(error) => error.name(),
            Self::Manifest(error) => error.name(),
            Self::OlderEpoch { .. } => "older_epoch",
            Self::WrongRegion(_) => "wrong_region",
        }
    }
}

/// Where an answer's plan came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// A manifest in its time.
    Manifest,
    /// The static weights of a manifest whose time is over.
    Expired,
    /// The configuration's static weights.
    Static,
}

impl Source {
    pub(crate) const ALL: [Self; 3] = [Self::Manifest, Self::Expired, Self::Static];

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Manifest => "manifest",
            Self::Expired => "expired",
            Self::Static => "static",
        }
    }
}

/// The plan in force.
#[derive(Clone)]
pub(crate) struct Current {
    pub(crate) manifest: Arc<Prepared>,
    pub(crate) source: Source,
}

struct Held {
    manifest: Arc<Prepared>,
    expired: Arc<Prepared>,
    accepted: TimestampMs,
    from: String,
}

#[derive(Clone)]
struct Slot {
    fallback: Arc<Prepared>,
    held: Arc<RwLock<Option<Held>>>,
    refusals: Arc<Mutex<Refusals>>,
}

/// Refusals of a region since the start.
#[derive(Clone, Debug, Default)]
pub(crate) struct Refusals {
    pub(crate) by_reason: BTreeMap<&'static str, u64>,
    /// The last one, for people.
    pub(crate) last: Option<String>,
}

/// A region as operators see it.
#[derive(Clone)]
pub(crate) struct RegionStatus {
    pub(crate) current: Current,
    pub(crate) accepted: Option<TimestampMs>,
    /// Source of the manifest, if there is one.
    pub(crate) from: Option<String>,
    pub(crate) refusals: Refusals,
}

/// The plans of all regions.
pub(crate) struct Manifests {
    regions: RwLock<Arc<BTreeMap<RegionId, Slot>>>,
    keys: RwLock<BTreeMap<String, VerifyingKey>>,
    signers: Arc<Signers>,
}

impl Manifests {
    pub(crate) fn new(deployment: &Deployment, signers: Arc<Signers>) -> anyhow::Result<Self> {
        let out = Self { regions: RwLock::default(), keys: RwLock::default(), signers };
        out.deploy(deployment)?;
        Ok(out)
    }

    /// Goes on with another deployment: its static plans, and the manifests that are held of regions that stay.
    pub(crate) fn deploy(&self, deployment: &Deployment) -> anyhow::Result<()> {
        let before = self.slots();
        let mut regions = BTreeMap::new();
        for (id, config) in &deployment.regions {
            let fallback = prepared(static_plan::of_deployment(deployment, id, config)?, &self.signers);
            let slot = match before.get(id) {
                Some(slot) => Slot { fallback, ..slot.clone() },
                None => Slot { fallback, held: Arc::default(), refusals: Arc::default() },
            };
            regions.insert(id.clone(), slot);
        }
        *self.regions.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(regions);
        Ok(())
    }

    fn slots(&self) -> Arc<BTreeMap<RegionId, Slot>> {
        Arc::clone(&self.regions.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The plan in force; for a region that is no longer configured, the first one's.
    pub(crate) fn current(&self, region: &RegionId, now: TimestampMs) -> Current {
        let slots = self.slots();
        let slot = slots.get(region).or_else(|| slots.values().next());
        slot.expect("a deployment has at least one region").current(now)
    }

    pub(crate) fn knows(&self, region: &str) -> bool {
        self.slots().contains_key(region)
    }

    pub(crate) fn set_keys(&self, keys: BTreeMap<String, VerifyingKey>) {
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = keys;
    }

    /// Takes an envelope for `region`, or refuses it and counts why. The same manifest again is neither: false.
    pub(crate) fn offer(&self, region: &RegionId, bytes: &[u8], now: TimestampMs) -> Result<bool, Refusal> {
        let slots = self.slots();
        let Some(slot) = slots.get(region) else { return Err(Refusal::WrongRegion(region.clone())) };
        let read = self.read(region, bytes).and_then(|manifest| slot.accept(manifest, &self.signers, now));
        if let Err(refusal) = &read {
            let mut refusals = slot.refusals.lock().unwrap_or_else(PoisonError::into_inner);
            *refusals.by_reason.entry(refusal.name()).or_default() += 1;
            refusals.last = Some(refusal.to_string());
        }
        read
    }

    fn read(&self, region: &RegionId, bytes: &[u8]) -> Result<Manifest, Refusal> {
        let payload = envelope::open(bytes, &self.keys.read().unwrap_or_else(PoisonError::into_inner))?;
        let manifest = manifest::parse(&payload)?;
        if manifest.region == *region { Ok(manifest) } else { Err(Refusal::WrongRegion(manifest.region)) }
    }

    /// Says where the manifest in force came from.
    pub(crate) fn came_from(&self, region: &RegionId, source: &str) {
        let slots = self.slots();
        let mut held = slots.get(region).map(|slot| slot.held.write().unwrap_or_else(PoisonError::into_inner));
        if let Some(held) = held.as_deref_mut().and_then(Option::as_mut) {
            source.clone_into(&mut held.from);
        }
    }

    /// Whether these bytes are signed by a key that is not known yet.
    pub(crate) fn needs_keys(&self, bytes: &[u8]) -> bool {
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        matches!(envelope::open(bytes, &keys), Err(EnvelopeError::UnknownKey(..)))
    }

    pub(crate) fn status(&self, now: TimestampMs) -> BTreeMap<RegionId, RegionStatus> {
        let held = |slot: &Slot| {
            let held = slot.held.read().unwrap_or_else(PoisonError::into_inner);
            held.as_ref().map(|held| (held.accepted, held.from.clone())).unzip()
        };
        let status = |slot: &Slot| RegionStatus {
            current: slot.current(now),
            accepted: held(slot).0,
            from: held(slot).1,
            refusals: slot.refusals.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        };
        self.slots().iter().map(|(id, slot)| (id.clone(), status(slot))).collect()
    }
}

/// Ready to rank, without pathways that this node has no key for.
fn prepared(manifest: Manifest, signers: &Signers) -> Arc<Prepared> {
    Arc::new(Prepared::new(manifest).with_keys(|name| signers.has(name)))
}

impl Slot {
    fn current(&self, now: TimestampMs) -> Current {
        let held = self.held.read().unwrap_or_else(PoisonError::into_inner);
        let (manifest, source) = match held.as_ref() {
            None => (&self.fallback, Source::Static),
            Some(held) if now > held.manifest.valid_until => (&held.expired, Source::Expired),
            Some(held) => (&held.manifest, Source::Manifest),
        };
        Current { manifest: Arc::clone(manifest), source }
    }

    /// False if it is there already.
    fn accept(&self, manifest: Manifest, signers: &Signers, now: TimestampMs) -> Result<bool, Refusal> {
        // Built before the lock is taken: a swap must not delay an answer.
        let expired = prepared(static_plan::expired(&manifest), signers);
        let manifest = prepared(manifest, signers);
        let mut held = self.held.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(held) = held.as_ref() {
            if **held.manifest == **manifest {
                return Ok(false);
            }
            if manifest.epoch <= held.manifest.epoch {
                return Err(Refusal::OlderEpoch { offered: manifest.epoch, held: held.manifest.epoch });
            }
        }
        *held = Some(Held { manifest, expired, accepted: now, from: String::new() });
        Ok(true)
    }
}
