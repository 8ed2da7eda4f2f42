//! What is broken, for whom.

use std::time::Duration;

use serde::Serialize;
use tokio::sync::watch;
use tokio::time::Instant;

use super::client::{Client, mixed};

/// Most faults a CDN can have at once.
pub const MAX_FAULTS: usize = 64;

/// How something is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum FaultKind {
    /// The answer starts later by this much; several add up.
    Latency {
        /// Milliseconds.
        ms: u64,
    },
    /// Each response body is sent at this rate; the lowest of several counts.
    Throttle {
        /// Kilobits per second.
        kbps: u64,
    },
    /// An error instead of the object.
    Status {
        /// HTTP status, 400 to 599.
        status: u16,
    },
    /// The connection is reset in the middle of the body.
    Reset,
    /// Nothing is sent until the fault is lifted or 30 s have passed.
    Hang,
}

/// What a share is a share of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ShareOf {
    /// Each request is drawn anew.
    #[default]
    Requests,
    /// A client address is hit always or never.
    Clients,
}

/// One fault and its scope.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// Only this region; everywhere if none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// Only this ASN; all if none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub asn: Option<u32>,
    /// How many are hit, 0 to 100.
    pub share_percent: u8,
    /// Of what.
    pub share_of: ShareOf,
    /// What happens to them.
    #[serde(flatten)]
    pub kind: FaultKind,
}

impl Fault {
    /// A fault for everyone, everywhere.
    #[must_use]
    pub fn everywhere(kind: FaultKind) -> Self {
        Self { region: None, asn: None, share_percent: 100, share_of: ShareOf::Requests, kind }
    }

    /// A fault for everyone in one region.
    #[must_use]
    pub fn in_region(region: &str, kind: FaultKind) -> Self {
        Self { region: Some(region.to_owned()), ..Self::everywhere(kind) }
    }

    fn hits(&self, client: &Client, request_hash: u64) -> bool {
        let drawn = match self.share_of {
            ShareOf::Requests => request_hash,
            ShareOf::Clients => client.address_hash,
        };
        self.region.as_ref().is_none_or(|region| *region == client.region)
            && self.asn.is_none_or(|asn| asn == client.asn)
            && drawn % 100 < u64::from(self.share_percent)
    }

    fn replaces(&self, other: &Self) -> bool {
        self.region == other.region
            && self.asn == other.asn
            && std::mem::discriminant(&self.kind) == std::mem::discriminant(&other.kind)
    }
}

/// All faults that hit one request, taken together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Effect {
    pub(crate) latency_ms: u64,
    pub(crate) throttle_kbps: Option<u64>,
    pub(crate) status: Option<u16>,
    pub(crate) reset: bool,
    pub(crate) hang: bool,
}

/// The faults of one CDN. A change holds at once, also for bodies that are being sent.
#[derive(Debug)]
pub struct Faults {
    list: watch::Sender<Vec<Fault>>,
}

impl Default for Faults {
    fn default() -> Self {
        Self { list: watch::Sender::new(Vec::new()) }
    }
}

impl Faults {
    /// Adds a fault; one of the same region, ASN and kind is replaced. False if there are
    /// [`MAX_FAULTS`] already.
    pub fn set(&self, fault: Fault) -> bool {
        let mut taken = true;
        self.list.send_modify(|list| {
            list.retain(|other| !fault.replaces(other));
            taken = list.len() < MAX_FAULTS;
            if taken {
                list.push(fault);
            }
        });
        taken
    }

    /// Lifts all faults.
    pub fn clear(&self) {
        self.list.send_modify(Vec::clear);
    }

    /// Lifts the faults that were set for this region.
    pub fn clear_region(&self, region: &str) {
        self.list.send_modify(|list| list.retain(|fault| fault.region.as_deref() != Some(region)));
    }

    /// The faults in force, oldest first.
    #[must_use]
    pub fn list(&self) -> Vec<Fault> {
        self.list.borrow().clone()
    }

    /// What happens to this request now. The same request always draws the same share.
    pub(crate) fn effect(&self, client: &Client, request_id: u64) -> Effect {
        let mut effect = Effect::default();
        let request_hash = mixed(request_id);
        for fault in self.list.borrow().iter().filter(|fault| fault.hits(client, request_hash)) {
            match fault.kind {
                FaultKind::Latency { ms } => effect.latency_ms += ms,
                FaultKind::Throttle { kbps } => {
                    let lowest = effect.throttle_kbps.map_or(kbps, |other| other.min(kbps));
                    effect.throttle_kbps = Some(lowest);
                }
                FaultKind::Status { status } => effect.status = Some(status),
                FaultKind::Reset => effect.reset = true,
                FaultKind::Hang => effect.hang = true,
            }
        }
        effect
    }

    /// Waits while this request hangs. False if it still does after `at_most`.
    pub(crate) async fn outlast_hang(&self, client: &Client, request_id: u64, at_most: Duration) -> bool {
        let deadline = Instant::now() + at_most;
        let mut changes = self.list.subscribe();
        while self.effect(client, request_id).hang {
            match tokio::time::timeout_at(deadline, changes.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) | Err(_) => return false,
            }
        }
        true
    }
}
