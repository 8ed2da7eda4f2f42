//! Which series gets which colour: own edges shades of one hue, commercial CDNs hues of their own. The same pathway
//! has the same colour in every region.

use std::collections::{BTreeMap, BTreeSet};

use spillway_wire::overview::Overview;

const OWN: [&str; 5] = ["own-0", "own-1", "own-2", "own-3", "own-4"];
const CDN: [&str; 6] = ["cdn-0", "cdn-1", "cdn-2", "cdn-3", "cdn-4", "cdn-5"];

/// Pathway → style class, and the order of stacking.
#[derive(Debug, Default)]
pub(crate) struct Palette {
    classes: BTreeMap<String, &'static str>,
}

/// Whether the overview, or else the id, says that it is an own edge.
pub(crate) fn is_own(overview: &Overview, pathway: &str) -> bool {
    match overview.pathways.get(pathway) {
        Some(totals) if !totals.kind.is_empty() => totals.kind == "own",
        _ => pathway.starts_with("own-"),
    }
}

impl Palette {
    /// Colours in order of ids.
    pub(crate) fn new(overview: &Overview) -> Self {
        let names: BTreeSet<&String> = overview
            .pathways
            .keys()
            .chain(overview.regions.values().flat_map(|region| region.pathways.keys()))
            .collect();
        let (mut own, mut cdn) = (OWN.iter().cycle(), CDN.iter().cycle());
        let classes = names
            .into_iter()
            .filter_map(|name| {
                let class = if is_own(overview, name) { own.next() } else { cdn.next() };
                class.map(|class| (name.clone(), *class))
            })
            .collect();
        Self { classes }
    }

    /// The class of `pathway`.
    pub(crate) fn class(&self, pathway: &str) -> &'static str {
        self.classes.get(pathway).copied().unwrap_or(CDN[0])
    }

    /// Pathways of all regions.
    pub(crate) fn pathways(&self) -> impl Iterator<Item = &str> {
        self.classes.keys().map(String::as_str)
    }
}
