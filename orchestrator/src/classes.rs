//! How many views of each content class collectors count.

use std::collections::{BTreeMap, BTreeSet};

use spillway_model::{ContentClass, RegionId, TimestampMs};
use spillway_orchestrator_core::ClassEvidence;
use spillway_service::classes::ClassTable;
use spillway_service::deployment::Deployment;
use spillway_wire::frame::Frame;

/// A collector that is silent for so long counts no more, ms.
const SOURCE_KEPT_MS: u64 = 5_000;
/// Collectors that are remembered; a fleet has fewer.
const SOURCES_MAX: usize = 1_000;

/// Views by class and region, of one collector or of all.
type Counts = BTreeMap<(ContentClass, RegionId), u64>;

/// What collectors' content tables say of classes. A table holds a collector's 200 largest titles: views of others
/// count for no class.
#[derive(Debug)]
pub(crate) struct ClassViews {
    table: ClassTable,
    /// Every class in every region, without views: who is counted no more has none.
    nobody: Counts,
    newest: BTreeMap<String, (TimestampMs, Counts)>,
}

impl ClassViews {
    pub(crate) fn new(table: ClassTable, deployment: &Deployment) -> Self {
        Self { nobody: nobody(&table, deployment), table, newest: BTreeMap::new() }
    }

    /// Goes on with another deployment's regions. What was counted in one that is gone is forgotten.
    pub(crate) fn deploy(&mut self, deployment: &Deployment) {
        self.nobody = nobody(&self.table, deployment);
        for (_, counts) in self.newest.values_mut() {
            counts.retain(|key, _| self.nobody.contains_key(key));
        }
    }

    /// Takes a collector's newest table.
    pub(crate) fn add(&mut self, frame: &Frame, now: TimestampMs) {
        let is_known = self.newest.len() < SOURCES_MAX || self.newest.contains_key(&frame.source);
        if self.nobody.is_empty() || frame.kind == "steer" || !is_known {
            return;
        }
        let mut counts = Counts::new();
        for title in &frame.content {
            let class = self.table.class_of(&title.content);
            if let Some((class, region)) = class.zip(RegionId::new(&title.region).ok()) {
                let key = (class.clone(), region);
                if self.nobody.contains_key(&key) {
                    *counts.entry(key).or_default() += title.views_active;
                }
            }
        }
        self.newest.insert(frame.source.clone(), (now, counts));
    }

    /// Sums over the collectors that spoke lately; nothing if none did: silence is not an empty house.
    pub(crate) fn evidence(&mut self, now: TimestampMs) -> Vec<ClassEvidence> {
        self.newest.retain(|_, (at, _)| now.since(*at).0 <= SOURCE_KEPT_MS);
        if self.newest.is_empty() {
            return Vec::new();
        }
        let mut sums = self.nobody.clone();
        for (key, views) in self.newest.values().flat_map(|(_, counts)| counts) {
            *sums.entry(key.clone()).or_default() += views;
        }
        let evidence = |((class, region), views_active)| ClassEvidence { class, region, views_active };
        sums.into_iter().map(evidence).collect()
    }
}

fn nobody(table: &ClassTable, deployment: &Deployment) -> Counts {
    let classes: BTreeSet<&ContentClass> = table.classes().collect();
    let in_regions = |class: &ContentClass| {
        let class = class.clone();
        deployment.regions.keys().map(move |region| ((class.clone(), region.clone()), 0))
    };
    classes.into_iter().flat_map(in_regions).collect()
}

#[cfg(test)]
mod tests {
    use spillway_wire::frame::ContentViews;

    use super::*;
    use crate::fixtures::deployment;

    fn table(of: &[(&str, &str)]) -> ClassTable {
        let of = of.iter().map(|(prefix, class)| ((*prefix).to_owned(), (*class).to_owned())).collect();
        ClassTable::new(&of).expect("valid")
    }

    fn frame(source: &str, titles: &[(&str, &str, u64)]) -> Frame {
        let views = |(content, region, views): &(&str, &str, u64)| ContentViews {
            content: (*content).into(),
            region: (*region).into(),
            views_active: *views,
        };
        let content = titles.iter().map(views).collect();
        Frame { source: source.into(), kind: "collector".into(), content, ..Frame::default() }
    }

    fn told(views: &mut ClassViews, now: TimestampMs) -> Vec<(String, String, u64)> {
        let evidence = views.evidence(now).into_iter();
        evidence.map(|of| (of.class.to_string(), of.region.to_string(), of.views_active)).collect()
    }

    #[test]
    fn the_newest_table_of_each_collector_counts_once() {
        let mut views = ClassViews::new(table(&[("live/", "live"), ("kids/", "kids")]), &deployment());
        let at = |s: u64| TimestampMs(1_000_000 + s * 1_000);
        let row = |class: &str, region: &str, views| (class.to_owned(), region.to_owned(), views);
        assert_eq!(told(&mut views, at(0)), [], "nobody has said anything yet");
        for s in 0..2 {
            views.add(&frame("one", &[("live/a", "eu-a", 10), ("live/b", "eu-a", 5), ("vod/x", "eu-a", 9)]), at(s));
            views.add(&frame("two", &[("live/a", "eu-a", 1), ("live/a", "mars", 7)]), at(s));
        }
        let steer = Frame { kind: "steer".into(), ..frame("three", &[("live/a", "eu-a", 99)]) };
        views.add(&steer, at(1));
        let zero = |class: &str, region: &str| row(class, region, 0);
        let both = [zero("kids", "eu-a"), zero("kids", "eu-b"), row("live", "eu-a", 16), zero("live", "eu-b")];
        assert_eq!(told(&mut views, at(2)), both);
        views.add(&frame("two", &[("kids/k", "eu-b", 3)]), at(6));
        let one = [zero("kids", "eu-a"), row("kids", "eu-b", 3), zero("live", "eu-a"), zero("live", "eu-b")];
        assert_eq!(told(&mut views, at(7)), one, "a silent collector's views are forgotten");
        assert_eq!(told(&mut views, at(20)), [], "silence of all says nothing");
    }
}
