//! Figures over all regions.

use spillway_wire::overview::{Overview, PathwayView};

use super::format::{count, percent, rate};
use super::palette::is_own;
use super::words::{self, Level};

/// Below this, telemetry is not trusted.
pub(crate) const TELEMETRY_MIN_PPM: u32 = 700_000;

/// One figure.
pub(crate) struct Fact {
    pub(crate) label: &'static str,
    pub(crate) value: String,
    pub(crate) note: String,
    pub(crate) class: &'static str,
}

/// Sums over all regions.
pub(crate) struct Totals {
    pub(crate) views: u64,
    pub(crate) own_ppm: Option<u32>,
    pub(crate) good_ppm: Option<u32>,
    pub(crate) demand_bps: u64,
    pub(crate) capacity_bps: u64,
}

/// `part` of `whole`, ppm; none of nothing.
pub(crate) fn ppm_of(part: u64, whole: u64) -> Option<u32> {
    let ppm = (u128::from(part) * 1_000_000).checked_div(u128::from(whole))?;
    Some(u32::try_from(ppm).unwrap_or(u32::MAX))
}

impl Totals {
    pub(crate) fn of(overview: &Overview) -> Self {
        let cells = || overview.regions.values().flat_map(|region| &region.pathways);
        let sum = |with: &dyn Fn(&str, &PathwayView) -> u64| {
            cells().map(|(name, pathway)| with(name, pathway)).fold(0_u64, u64::saturating_add)
        };
        let on_pathways = sum(&|_, pathway| pathway.views_active);
        let on_own = sum(&|name, pathway| if is_own(overview, name) { pathway.views_active } else { 0 });
        Self {
            views: overview.regions.values().map(|region| region.views_active).fold(0, u64::saturating_add),
            own_ppm: ppm_of(on_own, on_pathways),
            good_ppm: mean_good(overview),
            demand_bps: overview.regions.values().map(|region| region.demand_bps).fold(0, u64::saturating_add),
            capacity_bps: overview.pathways.values().map(|totals| totals.capacity_bps).fold(0, u64::saturating_add),
        }
    }
}

/// Mean of the good shares, weighted by views.
fn mean_good(overview: &Overview) -> Option<u32> {
    let cells = overview.regions.values().flat_map(|region| region.pathways.values());
    let (weight, sum) = cells
        .filter_map(|pathway| Some((u128::from(pathway.views_active), u128::from(pathway.good_ppm?))))
        .fold((0, 0), |(weight, sum), (views, good)| (weight + views, sum + views * good));
    u32::try_from(sum.checked_div(weight)?).ok()
}

/// The row of figures under the headline.
pub(crate) fn facts(overview: &Overview) -> Vec<Fact> {
    let totals = Totals::of(overview);
    let trusted = overview.telemetry_ppm >= TELEMETRY_MIN_PPM;
    let good = words::good(totals.good_ppm);
    let regions = overview.regions.len();
    vec![
        Fact {
            label: "Views now",
            value: count(totals.views),
            note: format!("in {regions} {}", if regions == 1 { "region" } else { "regions" }),
            class: "",
        },
        Fact {
            label: "On own edges",
            value: totals.own_ppm.map_or_else(|| "–".to_owned(), percent),
            note: totals.own_ppm.map_or_else(
                || "no views".to_owned(),
                |own| format!("{} on CDNs", percent(1_000_000_u32.saturating_sub(own))),
            ),
            class: "",
        },
        Fact {
            label: "Good views",
            value: good.text,
            note: "of the last minute".to_owned(),
            class: match good.class {
                "v-bad" => Level::Bad.class(),
                "v-warn" => Level::Warn.class(),
                _ => "",
            },
        },
        Fact {
            label: "Demand",
            value: rate(totals.demand_bps),
            note: if totals.capacity_bps == 0 {
                "capacity unknown".to_owned()
            } else {
                format!("of {}", rate(totals.capacity_bps))
            },
            class: if totals.capacity_bps > 0 && totals.demand_bps > totals.capacity_bps {
                Level::Bad.class()
            } else {
                ""
            },
        },
        Fact {
            label: "Telemetry",
            value: percent(overview.telemetry_ppm),
            note: if trusted { "of frames, trusted".to_owned() } else { "of frames, not trusted".to_owned() },
            class: if trusted { "" } else { Level::Bad.class() },
        },
        Fact { label: "Epoch", value: epochs(overview), note: modes(overview), class: "" },
    ]
}

/// Epochs count per region: one number if all agree, else from the lowest to the highest.
fn epochs(overview: &Overview) -> String {
    let epochs = || overview.regions.values().map(|region| region.epoch);
    match (epochs().min(), epochs().max()) {
        (Some(low), Some(high)) if low == high => low.to_string(),
        (Some(low), Some(high)) => format!("{low}–{high}"),
        _ => "–".to_owned(),
    }
}

fn modes(overview: &Overview) -> String {
    let control = overview.regions.values().filter(|region| region.mode == "control").count();
    match overview.regions.len() {
        0 => "no region".to_owned(),
        all if all == control => "all in control".to_owned(),
        all => format!("{control} of {all} in control"),
    }
}
