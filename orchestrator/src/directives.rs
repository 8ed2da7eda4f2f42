//! What own edges should do, made anew after each round: the answer to their load reports.

use std::collections::BTreeMap;

use spillway_model::limits::LOAD_REPORT_INTERVAL_MS;
use spillway_model::{Millis, PathwayId, RegionId, TimestampMs};
use spillway_service::deployment::{Deployment, PathwayConfig};
use spillway_wire::load::{Directives, LOAD_VERSION, LoadReport, PREWARM_MAX};
use spillway_wire::overview::{Overview, RegionView};

use crate::origins::GONE_MS;
use crate::prewarm::{StoredPrewarm, is_own};

/// Above this share of its ceiling an own edge takes no new session, ppm.
const ADMIT_BELOW_PPM: u32 = 980_000;
/// Nobody is sent to a pathway that is used above this, ppm: what is under way there already doesn't show yet.
const REDIRECT_BELOW_PPM: u32 = 900_000;
/// An edge that began to report so long ago has the cache of a new one.
const COLD_MS: u64 = 60_000;

/// Directives by own pathway.
pub(crate) type ByPathway = BTreeMap<PathwayId, Directives>;

/// What they are made of.
pub(crate) struct Known<'a> {
    pub(crate) now: TimestampMs,
    pub(crate) deployment: &'a Deployment,
    /// Of the round.
    pub(crate) overview: &'a Overview,
    /// The newest report of each edge, and when it came.
    pub(crate) reports: &'a BTreeMap<PathwayId, (LoadReport, TimestampMs)>,
    /// Orders in force.
    pub(crate) prewarm: Vec<&'a StoredPrewarm>,
    /// So many of the most watched titles are fetched into an edge that is new or comes back.
    pub(crate) prewarm_top: usize,
    /// Whether edges may send new sessions elsewhere.
    pub(crate) redirect: bool,
}

impl Known<'_> {
    /// The directives of every own pathway.
    pub(crate) fn directives(&self) -> ByPathway {
        let epoch = self.overview.regions.values().map(|region| region.epoch).max().unwrap_or(0);
        let own = self.deployment.pathways.iter().filter(|(id, _)| is_own(id));
        own.map(|(id, config)| (id.clone(), Directives { epoch, ..self.of(id, config) })).collect()
    }

    fn of(&self, id: &PathwayId, config: &PathwayConfig) -> Directives {
        let states: Vec<&str> =
            self.regions(id).filter_map(|(_, region)| Some(region.pathways.get(id.as_str())?.state.as_str())).collect();
        let report = self.report(id);
        let is_cold = report.is_some_and(|report| report.seq.saturating_mul(LOAD_REPORT_INTERVAL_MS) < COLD_MS);
        Directives {
            v: LOAD_VERSION,
            epoch: 0,
            admit: self.used_ppm(id).is_none_or(|used| used < ADMIT_BELOW_PPM),
            redirect_to: self.redirect.then(|| self.next(id, config)).flatten(),
            prewarm: self.prewarm(id, report, is_cold || states.contains(&"RECOVERING")),
            drain: !states.is_empty() && states.iter().all(|state| *state == "DRAINING"),
        }
    }

    /// Regions that it serves.
    fn regions<'s>(&'s self, id: &'s PathwayId) -> impl Iterator<Item = (RegionId, &'s RegionView)> {
        let regions = self.overview.regions.iter().filter_map(|(name, view)| Some((RegionId::new(name).ok()?, view)));
        regions.filter(|(region, _)| self.deployment.serves(id, region))
    }

    fn used_ppm(&self, id: &PathwayId) -> Option<u32> {
        self.overview.pathways.get(id.as_str())?.utilisation_ppm
    }

    fn report(&self, id: &PathwayId) -> Option<&LoadReport> {
        let (report, at) = self.reports.get(id)?;
        (self.now.since(*at) <= Millis(GONE_MS)).then_some(report)
    }

    /// Where new sessions of `from` may go: well, able to carry whatever it carries, under URLs that hold there as well,
    /// with room. Own edges go before others, since they cost nothing; of each kind the one with the most room.
    fn next(&self, from: &PathwayId, config: &PathwayConfig) -> Option<String> {
        let stands_in = self.report(from).and_then(|report| RegionId::new(&report.region).ok());
        let (_, region) = self
            .regions(from)
            .filter(|(_, view)| view.mode == "control")
            .min_by_key(|(id, _)| (Some(id) != stands_in.as_ref(), id.clone()))?;
        let room = |(name, view): (&String, &spillway_wire::overview::PathwayView)| {
            let (id, other) = self.deployment.pathways.get_key_value(name.as_str())?;
            let usable = id != from && view.state == "HEALTHY" && takes_over(config, other);
            let used_ppm = match self.used_ppm(id) {
                Some(used_ppm) => used_ppm,
                // A CDN's load is not told by itself; an edge that says nothing is none.
                None if is_own(id) => return None,
                None => 0,
            };
            let totals = self.overview.pathways.get(name)?;
            let room_bps = totals.capacity_bps / 1_000_000 * u64::from(1_000_000 - used_ppm.min(1_000_000));
            (usable && used_ppm < REDIRECT_BELOW_PPM).then_some((is_own(id), room_bps, id))
        };
        let (_, _, to) = region.pathways.iter().filter_map(room).max_by_key(|(own, room, id)| {
            // The first of equals.
            (*own, *room, std::cmp::Reverse((*id).clone()))
        })?;
        Some(self.deployment.pathways[to].base_url.clone())
    }

    /// What operators named, then what is watched most.
    fn prewarm(&self, id: &PathwayId, report: Option<&LoadReport>, is_cold: bool) -> Vec<String> {
        let Some(report) = report else { return Vec::new() };
        let orders = || self.prewarm.iter().filter(|order| order.is_for(id, self.deployment));
        let mut paths: Vec<String> = orders().flat_map(|order| order.titles.iter().cloned()).collect();
        for order in orders() {
            let region = order.top_of_region.as_deref().unwrap_or(&report.region);
            paths.extend(self.top(region, order.top.unwrap_or(0)));
        }
        if is_cold {
            paths.extend(self.top(&report.region, self.prewarm_top));
        }
        let mut seen = std::collections::BTreeSet::new();
        paths.retain(|path| seen.insert(path.clone()));
        paths.truncate(PREWARM_MAX);
        paths
    }

    /// Most watched titles by what the edges that stand in `region` said last; the first of equals by name.
    fn top(&self, region: &str, count: usize) -> Vec<String> {
        if count == 0 {
            return Vec::new();
        }
        let mut requests: BTreeMap<&str, u64> = BTreeMap::new();
        for report in self.reports.keys().filter_map(|id| self.report(id)).filter(|report| report.region == region) {
            for title in &report.top_titles {
                *requests.entry(&title.playlist).or_default() += title.requests;
            }
        }
        let mut titles: Vec<(&str, u64)> = requests.into_iter().collect();
        titles.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(b.0)));
        titles.into_iter().take(count).map(|(title, _)| title.to_owned()).collect()
    }
}

/// Whether what a viewer asks of `from` can be asked of `to` in the same words.
fn takes_over(from: &PathwayConfig, to: &PathwayConfig) -> bool {
    let limits = |of: &PathwayConfig| {
        [&of.classes, &of.codecs, &of.drm, &of.territories, &of.address_families].map(|list| list.clone())
    };
    let covers = |(from, to): (Vec<String>, Vec<String>)| {
        to.is_empty() || (!from.is_empty() && from.iter().all(|word| to.contains(word)))
    };
    let is_plain = |url: &str| url.starts_with("http://");
    from.signer == to.signer
        && (is_plain(&from.base_url) || !is_plain(&to.base_url))
        && limits(from).into_iter().zip(limits(to)).all(covers)
}

#[cfg(test)]
mod tests {
    use spillway_wire::load::TitleLoad;
    use spillway_wire::overview::{PathwayTotals, PathwayView};

    use super::*;
    use crate::fixtures::{NOW, deployment, id};

    /// Everything is well and half used; `eu-a` has all pathways, `eu-b` the CDNs.
    fn overview() -> Overview {
        let view = PathwayView { state: "HEALTHY".into(), ..PathwayView::default() };
        let region = |names: &[&str], epoch| RegionView {
            epoch,
            mode: "control".into(),
            pathways: names.iter().map(|name| ((*name).to_owned(), view.clone())).collect(),
            ..RegionView::default()
        };
        let all = ["cdn-a", "cdn-b", "cdn-c", "own-x-1", "own-x-2", "own-x-3"];
        let totals =
            PathwayTotals { utilisation_ppm: Some(500_000), capacity_bps: 100_000_000, ..PathwayTotals::default() };
        Overview {
            regions: [("eu-a".to_owned(), region(&all, 7)), ("eu-b".to_owned(), region(&all[..3], 9))].into(),
            pathways: all.map(|name| (name.to_owned(), totals.clone())).into(),
            ..Overview::default()
        }
    }

    fn report(seq: u64, titles: &[(&str, u64)]) -> (LoadReport, TimestampMs) {
        let top_titles =
            titles.iter().map(|(name, requests)| TitleLoad { playlist: (*name).to_owned(), requests: *requests });
        let report =
            LoadReport { seq, region: "eu-a".into(), top_titles: top_titles.collect(), ..LoadReport::default() };
        (report, TimestampMs(NOW.0 - 1_000))
    }

    fn is(overview: &mut Overview, name: &str, state: &str) {
        let region = overview.regions.get_mut("eu-a").expect("there");
        region.pathways.get_mut(name).expect("there").state = state.into();
    }

    fn uses(overview: &mut Overview, name: &str, used_ppm: Option<u32>) {
        overview.pathways.get_mut(name).expect("there").utilisation_ppm = used_ppm;
    }

    /// Two edges that have run for long, and one that is new.
    fn reports() -> BTreeMap<PathwayId, (LoadReport, TimestampMs)> {
        [
            (id("own-x-1"), report(500, &[("/film", 10), ("/show", 8), ("/news", 1)])),
            (id("own-x-2"), report(500, &[("/show", 5)])),
            (id("own-x-3"), report(3, &[])),
        ]
        .into()
    }

    fn order(titles: &[&str], top: Option<usize>) -> StoredPrewarm {
        StoredPrewarm {
            id: "p-1".into(),
            by: "ann".into(),
            target: None,
            region: None,
            titles: titles.iter().map(|title| (*title).to_owned()).collect(),
            top,
            top_of_region: None,
            reason: "premiere".into(),
            since_ms: 0,
            expires_ms: u64::MAX,
        }
    }

    fn directives(
        overview: &Overview,
        reports: &BTreeMap<PathwayId, (LoadReport, TimestampMs)>,
        prewarm: &[StoredPrewarm],
        redirect: bool,
    ) -> ByPathway {
        let prewarm = prewarm.iter().collect();
        Known { now: NOW, deployment: &deployment(), overview, reports, prewarm, prewarm_top: 2, redirect }.directives()
    }

    #[test]
    fn own_pathways_are_told_what_the_round_found() {
        let mut overview = overview();
        uses(&mut overview, "own-x-1", Some(980_000));
        is(&mut overview, "own-x-2", "DRAINING");
        let all = directives(&overview, &reports(), &[], false);
        assert_eq!(all.keys().map(PathwayId::as_str).collect::<Vec<_>>(), ["own-x-1", "own-x-2", "own-x-3"]);
        assert!(all.values().all(|one| one.v == 1 && one.epoch == 9 && one.redirect_to.is_none()));
        let of = |name: &str| (all[&id(name)].admit, all[&id(name)].drain);
        assert_eq!([of("own-x-1"), of("own-x-2"), of("own-x-3")], [(false, false), (true, true), (true, false)]);
    }

    #[test]
    fn a_new_edge_and_one_that_comes_back_get_what_is_watched_most() {
        let mut overview = overview();
        let all = directives(&overview, &reports(), &[], false);
        assert_eq!(all[&id("own-x-3")].prewarm, ["/show", "/film"]);
        assert!(all[&id("own-x-1")].prewarm.is_empty());
        is(&mut overview, "own-x-1", "RECOVERING");
        assert_eq!(directives(&overview, &reports(), &[], false)[&id("own-x-1")].prewarm, ["/show", "/film"]);
    }

    #[test]
    fn edges_that_are_gone_say_nothing_and_are_told_to_fetch_nothing() {
        let mut reports = reports();
        reports.get_mut(&id("own-x-1")).expect("there").1 = TimestampMs(NOW.0 - GONE_MS - 1);
        let all = directives(&overview(), &reports, &[order(&["/x"], None)], false);
        assert_eq!(all[&id("own-x-3")].prewarm, ["/x", "/show"]);
        assert!(all[&id("own-x-1")].prewarm.is_empty());
    }

    #[test]
    fn operators_titles_come_first_each_once_and_no_more_than_may() {
        let orders = [
            order(&["/premiere", "/show"], Some(3)),
            StoredPrewarm {
                target: Some("own-x-1".into()),
                top_of_region: Some("eu-b".into()),
                ..order(&["/own"], Some(3))
            },
        ];
        let all = directives(&overview(), &reports(), &orders, false);
        assert_eq!(all[&id("own-x-2")].prewarm, ["/premiere", "/show", "/film", "/news"]);
        assert_eq!(all[&id("own-x-1")].prewarm, ["/premiere", "/show", "/own", "/film", "/news"]);
        let many: Vec<String> = (0..PREWARM_MAX).map(|n| format!("/{n}")).collect();
        let many = StoredPrewarm { titles: many, ..order(&[], Some(3)) };
        assert_eq!(directives(&overview(), &reports(), &[many], false)[&id("own-x-3")].prewarm.len(), PREWARM_MAX);
    }

    #[test]
    fn new_sessions_may_go_where_there_is_most_room_on_own_edges_first() {
        let mut overview = overview();
        let to = |overview: &Overview| {
            directives(overview, &reports(), &[], true)[&id("own-x-1")].redirect_to.clone().unwrap_or_default()
        };
        uses(&mut overview, "own-x-3", Some(400_000));
        assert_eq!(to(&overview), "http://own-x-3.example/p/");
        uses(&mut overview, "own-x-3", Some(900_000));
        assert_eq!(to(&overview), "http://own-x-2.example/p/");
        // Silent, so its room is not known.
        uses(&mut overview, "own-x-2", None);
        assert_eq!(to(&overview), "http://cdn-a.example/p/", "the first of equals");
        uses(&mut overview, "cdn-c", None);
        assert_eq!(to(&overview), "http://cdn-c.example/p/");
        for name in ["cdn-a", "cdn-b", "cdn-c"] {
            is(&mut overview, name, "DEGRADED");
        }
        assert_eq!(to(&overview), "");
        is(&mut overview, "cdn-b", "HEALTHY");
        assert_eq!(to(&overview), "http://cdn-b.example/p/");
        overview.regions.get_mut("eu-a").expect("there").mode = "shadow".into();
        assert_eq!(to(&overview), "", "nobody is steered there");
    }

    #[test]
    fn only_what_can_be_asked_in_the_same_words_takes_over() {
        let from = &deployment().pathways[&id("own-x-1")];
        let https = |of: &PathwayConfig| PathwayConfig { base_url: "https://x.example/".into(), ..of.clone() };
        let kids = |of: &PathwayConfig| PathwayConfig { classes: vec!["kids".into()], ..of.clone() };
        let signed = |of: &PathwayConfig| PathwayConfig { signer: Some("own".into()), ..of.clone() };
        for (from, to, expected) in [
            (from.clone(), from.clone(), true),
            (from.clone(), https(from), true),
            (https(from), from.clone(), false),
            (from.clone(), kids(from), false),
            (kids(from), from.clone(), true),
            (kids(from), kids(from), true),
            (signed(from), from.clone(), false),
            (from.clone(), signed(from), false),
            (signed(from), signed(from), true),
        ] {
            assert_eq!(takes_over(&from, &to), expected, "{from:?} {to:?}");
        }
    }
}
