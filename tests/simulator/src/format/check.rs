//! What the shape alone can't refuse. Each message names key, value and what is valid.

use std::collections::BTreeSet;

use spillway_model::{GroupId, PathwayId, RegionId};

use super::{Fault, FaultKind, Pathway, Scenario, ScenarioError, Surge, WorldFile, invalid};

impl Scenario {
    pub(super) fn check(&self) -> Result<(), ScenarioError> {
        let events = &self.events;
        if !(1..=3_000_000).contains(&events.seconds) {
            return Err(invalid("seconds", events.seconds, "1 to 3000000"));
        }
        if !(1..=300).contains(&events.step_s) {
            return Err(invalid("step_s", events.step_s, "1 to 300"));
        }
        if events.modes.is_empty() {
            return Err(invalid("modes", "none", "fluid, session"));
        }
        if events.session_views == Some(0) {
            return Err(invalid("session_views", 0, "1 or more"));
        }
        if let Some(hour) = events.start_hour.filter(|hour| !(0.0..24.0).contains(hour)) {
            return Err(invalid("start_hour", hour, "0 to 24, without 24"));
        }
        self.world.check()?;
        let regions: BTreeSet<&str> = self.world.region.iter().map(|region| region.id.as_str()).collect();
        events.surge.iter().try_for_each(|surge| check_surge(surge, &regions))?;
        events.fault.iter().try_for_each(|fault| self.world.check_fault(fault, &regions))
    }
}

fn check_surge(surge: &Surge, regions: &BTreeSet<&str>) -> Result<(), ScenarioError> {
    known("surge.region", surge.region.as_deref(), regions)?;
    if surge.start_s >= surge.end_s {
        return Err(invalid("surge.end_s", surge.end_s, format!("more than start_s ({})", surge.start_s)));
    }
    if let Some(leave) = surge.leave_s.filter(|leave| *leave < surge.end_s) {
        return Err(invalid("surge.leave_s", leave, format!("end_s ({}) or more", surge.end_s)));
    }
    match (surge.views, surge.times) {
        (Some(_), None) => Ok(()),
        (None, Some(times)) => number("surge.times", times, 0.0, 1000.0),
        _ => Err(invalid("surge.views", "none or two sizes", "either views or times")),
    }
}

impl WorldFile {
    fn check(&self) -> Result<(), ScenarioError> {
        if self.bitrate_kbps == 0 {
            return Err(invalid("world.bitrate_kbps", 0, "1 or more"));
        }
        number("world.view_s", self.view_s, 1.0, 1e7)?;
        number("world.diurnal", self.diurnal, 0.0, 0.95)?;
        if !self.ladder_kbps.is_sorted() || self.ladder_kbps.first() == Some(&0) {
            return Err(invalid("world.ladder_kbps", format!("{:?}", self.ladder_kbps), "rising bitrates above 0"));
        }
        self.check_players()?;
        self.check_quality()?;
        let pathways = self.check_pathways()?;
        self.check_regions(&pathways)
    }

    fn check_players(&self) -> Result<(), ScenarioError> {
        let players = &self.players;
        for (key, value) in [("segment_s", players.segment_s), ("heartbeat_s", players.heartbeat_s)] {
            if !(1..=600).contains(&value) {
                return Err(invalid(&format!("players.{key}"), value, "1 to 600"));
            }
        }
        if players.buffer_s < players.segment_s {
            return Err(invalid("players.buffer_s", players.buffer_s, "segment_s or more"));
        }
        for (key, share) in [
            ("players.ignore_steering", players.ignore_steering),
            ("players.usual_failures", players.usual_failures),
            ("players.beacons_lost", players.beacons_lost),
            ("players.beacons_wrong", players.beacons_wrong),
        ] {
            number(key, share, 0.0, 1.0)?;
        }
        number("players.bandwidth_mbps", players.bandwidth_mbps, 0.1, 1e5)?;
        if players.kind.iter().map(|kind| kind.part).sum::<f64>() <= 0.0 {
            return Err(invalid("players.kind", "none", "at least one kind with a part above 0"));
        }
        for kind in &players.kind {
            number("players.kind.part", kind.part, 0.0, 1e6)?;
            number("players.kind.returns_s", kind.returns_s, 0.0, 1e6)?;
            for time in [kind.leaves_404_s, kind.leaves_503_s, kind.leaves_reset_s, kind.leaves_hang_s] {
                number("players.kind.leaves_…_s", time.unwrap_or(0.0), 0.0, 1e6)?;
            }
        }
        Ok(())
    }

    fn check_quality(&self) -> Result<(), ScenarioError> {
        let quality = &self.quality;
        for (key, value, most) in [
            ("usual_bad_windows", quality.usual_bad_windows, 0.5),
            ("spread_pathways", quality.spread_pathways, 2.0),
            ("spread_networks", quality.spread_networks, 2.0),
            ("load_knee", quality.load_knee, 10.0),
            ("load_slope", quality.load_slope, 100.0),
            ("hit_ratio", quality.hit_ratio, 1.0),
            ("cold_miss", quality.cold_miss, 1.0),
            ("miss_bad", quality.miss_bad, 1.0),
        ] {
            number(&format!("quality.{key}"), value, 0.0, most)?;
        }
        number("quality.warm_s", quality.warm_s, 1.0, 1e6)?;
        number("origin.ceiling_times", self.origin.ceiling_times, 0.0, 1e6)
    }

    fn check_pathways(&self) -> Result<BTreeSet<&str>, ScenarioError> {
        let mut seen = BTreeSet::new();
        let declared: BTreeSet<&str> = self.region.iter().map(|region| region.id.as_str()).collect();
        for pathway in &self.pathway {
            PathwayId::new(&pathway.id).map_err(|error| invalid("pathway.id", error, "an id"))?;
            if let Some(group) = &pathway.group {
                GroupId::new(group).map_err(|error| invalid("pathway.group", error, "an id"))?;
            }
            if !seen.insert(pathway.id.as_str()) {
                return Err(invalid("pathway.id", &pathway.id, "an id that no other pathway has"));
            }
            number("pathway.capacity_mbps", pathway.capacity_mbps, f64::MIN_POSITIVE, 1e12)?;
            number("pathway.price_usd_per_gb", pathway.price_usd_per_gb, 0.0, 1e3)?;
            number("pathway.commit_tb", pathway.commit_tb, 0.0, 1e9)?;
            number("pathway.p95_usd_per_mbps", pathway.p95_usd_per_mbps, 0.0, 1e6)?;
            number("pathway.p95_commit_mbps", pathway.p95_commit_mbps, 0.0, 1e9)?;
            if !pathway.tiers.is_sorted_by(|a, b| a.0 < b.0) || pathway.tiers.iter().any(|tier| tier.1 < 0.0) {
                let shown = format!("{:?}", pathway.tiers);
                return Err(invalid("pathway.tiers", shown, "[[from TB, USD per GB], …] with rising TB"));
            }
            if let Some(unknown) = pathway.regions.iter().find(|region| !declared.contains(region.as_str())) {
                return Err(invalid("pathway.regions", unknown, names(&declared)));
            }
        }
        Ok(seen)
    }

    fn check_regions(&self, pathways: &BTreeSet<&str>) -> Result<(), ScenarioError> {
        let mut seen = BTreeSet::new();
        for region in &self.region {
            RegionId::new(&region.id).map_err(|error| invalid("region.id", error, "an id"))?;
            if !seen.insert(region.id.as_str()) {
                return Err(invalid("region.id", &region.id, "an id that no other region has"));
            }
            if !region.networks.is_empty() && region.network_count > 0 {
                return Err(invalid("region.network_count", region.network_count, "0 where networks are listed"));
            }
            if region.network_count > 1000 {
                return Err(invalid("region.network_count", region.network_count, "0 to 1000"));
            }
            number("region.zipf", region.zipf, 0.0, 4.0)?;
            for (name, weight) in &region.static_weights {
                known("region.static_weights", Some(name), pathways)?;
                number("region.static_weights", *weight, 0.0, 1e9)?;
            }
            let serves = |pathway: &&Pathway| pathway.regions.is_empty() || pathway.regions.contains(&region.id);
            if self.pathway.iter().filter(serves).count() == 0 {
                return Err(invalid("region.id", &region.id, "a region that some pathway serves"));
            }
            let served = |name: &str| self.pathway.iter().filter(serves).any(|pathway| pathway.id == name);
            if !region.static_weights.iter().any(|(name, weight)| *weight > 0.0 && served(name)) {
                return Err(invalid("region.static_weights", "none", "a weight above 0 of a pathway that serves it"));
            }
        }
        if seen.is_empty() {
            return Err(invalid("region", "none", "at least one [[region]]"));
        }
        Ok(())
    }

    fn check_fault(&self, fault: &Fault, regions: &BTreeSet<&str>) -> Result<(), ScenarioError> {
        let pathways: BTreeSet<&str> = self.pathway.iter().map(|pathway| pathway.id.as_str()).collect();
        let groups: BTreeSet<&str> = self.pathway.iter().filter_map(|pathway| pathway.group.as_deref()).collect();
        known("fault.pathway", fault.pathway.as_deref(), &pathways)?;
        known("fault.group", fault.group.as_deref(), &groups)?;
        known("fault.region", fault.region.as_deref(), regions)?;
        let of_pathway = fault.kind.is_of_pathway()
            || matches!(fault.kind, FaultKind::Capacity | FaultKind::Industry | FaultKind::Forged);
        if of_pathway == (fault.pathway.is_none() && fault.group.is_none()) {
            let valid = if of_pathway { "a pathway or a group" } else { "no pathway and no group for this kind" };
            return Err(invalid("fault.pathway", fault.pathway.as_deref().unwrap_or("none"), valid));
        }
        if fault.start_s >= fault.end_s {
            return Err(invalid("fault.end_s", fault.end_s, format!("more than start_s ({})", fault.start_s)));
        }
        if fault.network == Some(0) {
            return Err(invalid("fault.network", 0, "1 or more"));
        }
        number("fault.share", fault.share, 0.0, 1.0)?;
        number("fault.silent", fault.silent, 0.0, 1.0)?;
        number("fault.slower", fault.slower, 1.0, 1000.0)?;
        number("fault.bad_windows", fault.bad_windows.unwrap_or(0.0), 0.0, 1.0)?;
        number("fault.factor", fault.factor, 0.01, 1.0)?;
        number("fault.sessions_per_s", fault.sessions_per_s, 0.0, 1e7)?;
        if fault.period_s < 2 {
            return Err(invalid("fault.period_s", fault.period_s, "2 or more"));
        }
        Ok(())
    }
}

fn known(key: &str, name: Option<&str>, valid: &BTreeSet<&str>) -> Result<(), ScenarioError> {
    match name {
        Some(name) if !valid.contains(name) => Err(invalid(key, name, names(valid))),
        _ => Ok(()),
    }
}

fn number(key: &str, value: f64, least: f64, most: f64) -> Result<(), ScenarioError> {
    let valid = if least == f64::MIN_POSITIVE { "a number above 0".to_owned() } else { format!("{least} to {most}") };
    if (least..=most).contains(&value) { Ok(()) } else { Err(invalid(key, value, valid)) }
}

fn names(set: &BTreeSet<&str>) -> String {
    set.iter().copied().collect::<Vec<_>>().join(", ")
}
