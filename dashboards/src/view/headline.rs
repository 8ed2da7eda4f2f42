//! The first glance: is anything wrong, where, what is done about it.

use std::collections::BTreeMap;

use spillway_model::PathwayState;
use spillway_wire::overview::{Overview, PathwayView, RegionView};

use super::anchor;
use super::format::{count, lasting, percent, percent_good, rate, shorten};
use super::palette::is_own;
use super::region::NEARLY_FULL_PPM;
use super::totals::{TELEMETRY_MIN_PPM, Totals};
use super::words::{self, Level, Tag};

/// Items under the headline; the rest is counted.
const ITEMS_MAX: usize = 5;
/// Regions or pathways named in a row.
const NAMED_MAX: usize = 3;
/// Pathways that take over, named.
const TAKERS_MAX: usize = 4;
const REASON_MAX_CHARS: usize = 160;
const FULL_PPM: u32 = 1_000_000;

/// The headline and what is behind it.
pub(crate) struct Headline {
    pub(crate) level: Level,
    pub(crate) title: String,
    pub(crate) note: String,
    pub(crate) items: Vec<Item>,
    /// How many items are not listed.
    pub(crate) more: usize,
}

/// One thing that asks for attention.
pub(crate) struct Item {
    pub(crate) key: String,
    pub(crate) level: Level,
    pub(crate) tag: Tag,
    /// What: a pathway, or a word.
    pub(crate) what: String,
    /// Where, in words; empty if everywhere.
    pub(crate) place: String,
    /// The card to look at.
    pub(crate) anchor: Option<String>,
    /// Why and since when.
    pub(crate) why: String,
    /// What is done.
    pub(crate) action: String,
}

impl Headline {
    /// Before the first overview.
    pub(crate) fn waiting() -> Self {
        Self {
            level: Level::Info,
            title: "Waiting for the first overview".to_owned(),
            note:
                "The orchestrator publishes one at the end of each round, every 2\u{202f}s. If none comes, check that \
                   it runs and that its bus reaches this dashboard."
                    .to_owned(),
            items: Vec::new(),
            more: 0,
        }
    }
}

/// What `overview` comes down to.
pub(crate) fn of(overview: &Overview) -> Headline {
    let mut items = pathway_items(overview);
    items.extend(overview.regions.iter().filter_map(|(name, region)| capped(name, region)));
    items.extend(over_ceiling(overview));
    items.extend(untrusted(overview));
    items.sort_by_key(|item| std::cmp::Reverse(item.level));
    let level = items.first().map_or(Level::Ok, |item| item.level);
    let title = title(overview, level, &items);
    let more = items.len().saturating_sub(ITEMS_MAX);
    items.truncate(ITEMS_MAX);
    Headline { level, title, note: note(overview), items, more }
}

/// Pathways that are not well, each once for all regions where it is in the same state.
fn pathway_items(overview: &Overview) -> Vec<Item> {
    type Cells<'a> = Vec<(&'a String, &'a RegionView, &'a PathwayView)>;
    let mut groups: BTreeMap<(&str, &str), Cells<'_>> = BTreeMap::new();
    for (region_name, region) in &overview.regions {
        for (name, pathway) in &region.pathways {
            if words::level(pathway) > Level::Ok {
                groups.entry((name, &pathway.state)).or_default().push((region_name, region, pathway));
            }
        }
    }
    groups
        .into_iter()
        .filter_map(|((name, state), cells)| {
            let (region_name, region, worst) = cells.iter().max_by_key(|(_, _, pathway)| pathway.views_active)?;
            let since_ms = cells.iter().map(|(_, _, pathway)| pathway.since_ms).min().unwrap_or(0);
            let lasts = lasting(since_ms, overview.at_ms).map(|span| format!("for {span}"));
            let reason = shorten(&worst.reason, REASON_MAX_CHARS);
            Some(Item {
                key: format!("{name}-{state}"),
                level: words::level(worst),
                tag: words::state(state),
                what: name.to_owned(),
                place: listed(&cells.iter().map(|(region, ..)| region.as_str()).collect::<Vec<_>>()),
                anchor: Some(anchor(region_name)),
                why: [Some(reason), lasts]
                    .into_iter()
                    .flatten()
                    .filter(|t| !t.is_empty())
                    .collect::<Vec<_>>()
                    .join(", "),
                action: action(region, worst),
            })
        })
        .collect()
}

/// What is left on the pathway, what it gets, and who takes over.
fn action(region: &RegionView, pathway: &PathwayView) -> String {
    let left = match pathway.views_active {
        0 => "No views left on it".to_owned(),
        1 => "1 view on it".to_owned(),
        views => format!("{} views on it", count(views)),
    };
    let gets = match pathway.weight_ppm {
        0 => "gets no new ones".to_owned(),
        weight => format!("gets {} of new ones", percent(weight)),
    };
    let mut takers: Vec<(&String, u32)> = region
        .pathways
        .iter()
        .filter(|(_, other)| !std::ptr::eq(*other, pathway) && other.weight_ppm > 0)
        .map(|(name, other)| (name, other.weight_ppm))
        .collect();
    takers.sort_by_key(|(_, weight)| std::cmp::Reverse(*weight));
    let others = takers.len().saturating_sub(TAKERS_MAX);
    let mut named: Vec<String> =
        takers.iter().take(TAKERS_MAX).map(|(name, weight)| format!("{name} {}", percent(*weight))).collect();
    if others > 0 {
        named.push(format!("{others} more"));
    }
    if named.is_empty() {
        format!("{left}, {gets}.")
    } else {
        format!("{left}, {gets}. New views go to {}.", named.join(", "))
    }
}

/// Demand above all capacity.
fn capped(name: &str, region: &RegionView) -> Option<Item> {
    let cap = rate(u64::from(region.max_bitrate_kbps?) * 1_000);
    Some(Item {
        key: format!("cap-{name}"),
        level: Level::Bad,
        tag: Tag { text: "CAPPED".to_owned(), class: "s-degraded" },
        what: "Bitrate".to_owned(),
        place: name.to_owned(),
        anchor: Some(anchor(name)),
        why: format!("demand of {} is more than all pathways can carry", rate(region.demand_bps)),
        action: format!("Highest bitrate allowed: {cap}."),
    })
}

/// Own edges beyond their ceiling.
fn over_ceiling(overview: &Overview) -> impl Iterator<Item = Item> {
    overview.pathways.iter().filter_map(move |(name, totals)| {
        let utilisation = totals.utilisation_ppm.filter(|ppm| *ppm > FULL_PPM && is_own(overview, name))?;
        Some(Item {
            key: format!("full-{name}"),
            level: Level::Bad,
            tag: Tag { text: "OVERFULL".to_owned(), class: "s-degraded" },
            what: name.clone(),
            place: String::new(),
            anchor: None,
            why: format!("{} of its ceiling of {}", percent(utilisation), rate(totals.capacity_bps)),
            action: String::new(),
        })
    })
}

fn untrusted(overview: &Overview) -> Option<Item> {
    (overview.telemetry_ppm < TELEMETRY_MIN_PPM && !overview.regions.is_empty()).then(|| Item {
        key: "telemetry".to_owned(),
        level: Level::Bad,
        tag: Tag { text: "BLIND".to_owned(), class: "s-unknown" },
        what: "Telemetry".to_owned(),
        place: String::new(),
        anchor: None,
        why: format!("only {} of frames arrive", percent(overview.telemetry_ppm)),
        action: format!("Below {} it is not trusted.", percent(TELEMETRY_MIN_PPM)),
    })
}

fn title(overview: &Overview, level: Level, items: &[Item]) -> String {
    if overview.regions.is_empty() {
        return "No region yet".to_owned();
    }
    let worst: Vec<&Item> = items.iter().filter(|item| item.level == level).collect();
    match (level, worst.as_slice()) {
        (Level::Ok, _) | (_, []) => {
            let mut states = overview.regions.values().flat_map(|region| region.pathways.values());
            let well = states.all(|pathway| pathway.state == PathwayState::Healthy.as_str());
            if well { "All pathways are well" } else { "No pathway needs attention" }.to_owned()
        }
        (_, [one]) => {
            let place = if one.place.is_empty() { String::new() } else { format!(" in {}", one.place) };
            format!("{} is {}{place}", one.what, one.tag.text)
        }
        (Level::Info, many) => format!("{} pathways are changing", many.len()),
        (_, many) => match many.iter().map(|item| &item.tag.text).all(|text| *text == many[0].tag.text) {
            true => format!("{} pathways are {}", many.len(), many[0].tag.text),
            false => format!("{} things need attention", many.len()),
        },
    }
}

fn note(overview: &Overview) -> String {
    if overview.regions.is_empty() {
        return "The orchestrator runs; no region is configured or heard of.".to_owned();
    }
    let totals = Totals::of(overview);
    if totals.views == 0 {
        return "Nobody is watching.".to_owned();
    }
    let mut text = totals.own_ppm.map_or_else(
        || format!("{} views", count(totals.views)),
        |own| format!("Own edges carry {} of {} views", percent(own), count(totals.views)),
    );
    if let Some(good) = totals.good_ppm {
        text.push_str(&format!("; {} of them are good", percent_good(good)));
    }
    text.push('.');
    let nearly_full: Vec<&str> = overview
        .pathways
        .iter()
        .filter(|(name, totals)| totals.utilisation_ppm >= Some(NEARLY_FULL_PPM) && is_own(overview, name))
        .map(|(name, _)| name.as_str())
        .collect();
    if !nearly_full.is_empty() {
        let limit = percent(NEARLY_FULL_PPM);
        text.push_str(&format!(" {}: at or above {limit} of the ceiling.", listed(&nearly_full)));
    }
    text
}

/// `a`, `a and b`, `a, b and c`, `a, b, c and 2 more`.
fn listed(names: &[&str]) -> String {
    match names {
        [] => String::new(),
        [one] => (*one).to_owned(),
        [first @ .., last] if names.len() <= NAMED_MAX => format!("{} and {last}", first.join(", ")),
        many => {
            let (named, rest) = many.split_at(NAMED_MAX);
            format!("{} and {} more", named.join(", "), rest.len())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;

    #[test]
    fn a_quiet_evening_has_nothing_to_report() {
        let headline = of(&sample::quiet());
        assert_eq!((headline.level, headline.title.as_str()), (Level::Ok, "All pathways are well"));
        assert!(headline.items.is_empty());
    }

    #[test]
    fn an_outage_is_named_with_its_place_and_what_is_done() {
        let headline = of(&sample::outage());
        assert_eq!((headline.level, headline.title.as_str()), (Level::Bad, "cdn-alto is DOWN in eu-central"));
        let item = &headline.items[0];
        assert!(item.action.contains("gets no new ones. New views go to "), "{}", item.action);
        assert_eq!(item.anchor.as_deref(), Some("eu-central"));
    }

    #[test]
    fn the_same_state_in_several_regions_is_one_item() {
        let mut overview = sample::outage();
        let sick = overview.regions["eu-central"].pathways["cdn-alto"].clone();
        for region in overview.regions.values_mut() {
            region.pathways.insert("cdn-alto".to_owned(), sick.clone());
        }
        let headline = of(&overview);
        assert_eq!(headline.items.len(), 1);
        assert_eq!(headline.title, "cdn-alto is DOWN in ap-south, eu-central, eu-north and 1 more");
    }

    #[test]
    fn more_troubles_than_fit_are_counted() {
        let mut overview = sample::quiet();
        let region = overview.regions.get_mut("eu-central").expect("there");
        for n in 0..9 {
            let sick = PathwayView { state: "DOWN".to_owned(), ..PathwayView::default() };
            region.pathways.insert(format!("cdn-{n}"), sick);
        }
        let headline = of(&overview);
        assert_eq!((headline.items.len(), headline.more), (5, 4));
        assert_eq!(headline.title, "9 pathways are DOWN");
    }

    #[test]
    fn an_overfull_edge_a_cap_and_blindness_are_incidents() {
        let mut overview = sample::quiet();
        overview.telemetry_ppm = 400_000;
        overview.pathways.get_mut("own-fra-1").expect("there").utilisation_ppm = Some(1_040_000);
        overview.regions.get_mut("us-east").expect("there").max_bitrate_kbps = Some(2_400);
        let headline = of(&overview);
        assert_eq!((headline.level, headline.title.as_str()), (Level::Bad, "3 things need attention"));
    }
}
