//! A manifest that is made ready to rank once, and then answers many sessions.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::ops::Deref;
use std::sync::Arc;

use axum::http::HeaderValue;
use spillway_model::{ContentId, PathwayId, PathwayState};
use spillway_routing::{Manifest, Order, Ranked, Ranker, Session, rank};

thread_local! {
    /// The buffer of this thread's answers.
    static ORDER: RefCell<Order> = RefCell::default();
}

/// A manifest with what ranking by it needs.
pub(crate) struct Prepared {
    manifest: Arc<Manifest>,
    /// `None` for a manifest that is too large for one: it is ranked plainly.
    ranker: Option<Ranker<Arc<Manifest>>>,
    suspect: bool,
    asks_for_territory: bool,
    /// Value of the epoch's header.
    epoch: HeaderValue,
    /// Pathways whose signer this node has no key of.
    keyless: BTreeSet<PathwayId>,
}

impl Prepared {
    pub(crate) fn new(manifest: Manifest) -> Self {
        let manifest = Arc::new(manifest);
        let calm = |state| matches!(state, PathwayState::Healthy | PathwayState::Unknown);
        let suspect = manifest.pathways.values().any(|pathway| !calm(pathway.state));
        let asks_for_territory = manifest.pathways.values().any(|pathway| !pathway.serves.territories.is_empty());
        let ranker = Ranker::new(Arc::clone(&manifest));
        let epoch = HeaderValue::from(manifest.epoch);
        Self { ranker, suspect, asks_for_territory, epoch, keyless: BTreeSet::new(), manifest }
    }

    /// The same on a node that can sign for those pathways alone whose signer `has_key` knows.
    pub(crate) fn with_keys(mut self, has_key: impl Fn(&str) -> bool) -> Self {
        let lacks = |signer: &Option<String>| signer.as_deref().is_some_and(|name| !has_key(name));
        let keyless = self.manifest.pathways.iter().filter(|(_, pathway)| lacks(&pathway.signer));
        self.keyless = keyless.map(|(id, _)| id.clone()).collect();
        self
    }

    /// The epoch as a header has it.
    pub(crate) fn epoch_header(&self) -> HeaderValue {
        self.epoch.clone()
    }

    /// Pathways whose URLs this node can't sign.
    pub(crate) fn keyless(&self) -> &BTreeSet<PathwayId> {
        &self.keyless
    }

    /// Whether any pathway of the region is ill or being left. UNKNOWN is not: a CDN that nobody uses would halve every
    /// TTL.
    pub(crate) const fn is_suspect(&self) -> bool {
        self.suspect
    }

    /// Whether any pathway serves some territories only.
    pub(crate) const fn asks_for_territory(&self) -> bool {
        self.asks_for_territory
    }

    /// The order of [`rank()`].
    pub(crate) fn rank(&self, session: &Session<'_>, content: &ContentId) -> Vec<Ranked> {
        let Some(ranker) = &self.ranker else { return rank(session, content, &self.manifest) };
        ORDER.with_borrow_mut(|order| {
            ranker.rank(session, content, order);
            let placed = order.placed().iter();
            placed.map(|placed| Ranked { pathway: ranker.pathway(placed.index).clone(), place: placed.place }).collect()
        })
    }
}

impl Deref for Prepared {
    type Target = Manifest;

    fn deref(&self) -> &Manifest {
        &self.manifest
    }
}
