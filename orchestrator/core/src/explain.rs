//! Why a session gets its order: the chain of numbers and rules as data, and at most five lines of words.

use spillway_model::{ContentId, PathwayId, PathwayState, Protocol};
use spillway_routing::{Place, Ranked, Session, Target, rank, rule_for};

use crate::engine::Engine;
use crate::observe::protocol_index;
use crate::{PathwayTrace, RegionPlan};

/// One number of the chain.
#[derive(Clone, Debug, PartialEq)]
pub struct Fact {
    /// Of which pathway; `None`: of the region.
    pub pathway: Option<PathwayId>,
    /// What it is.
    pub name: &'static str,
    /// Its value.
    pub value: f64,
    /// Its unit.
    pub unit: &'static str,
}

/// Why a session gets its order.
#[derive(Clone, Debug, PartialEq)]
pub struct Explanation {
    /// The order, best first.
    pub order: Vec<Ranked>,
    /// The numbers that led to it: region first, then pathways in the order.
    pub facts: Vec<Fact>,
    /// The rules that decided: mode, cohort, states, overrides, verdicts, guards.
    pub rules: Vec<String>,
    /// The same for people, at most five lines.
    pub words: Vec<String>,
}

impl Engine {
    /// Explains the order that `session` gets for `content` under `plan`, which this engine has made in its last round.
    /// Changes nothing, and the same arguments give the same answer.
    #[must_use]
    pub fn explain(&self, plan: &RegionPlan, session: &Session<'_>, content: &ContentId) -> Explanation {
        let order = rank(session, content, &plan.manifest);
        let mut facts = vec![
            region_fact("views", plan.views_active as f64, "views"),
            region_fact("demand", plan.demand.0 as f64, "bit/s"),
            region_fact("unmet", plan.unmet.as_fraction(), "share"),
            region_fact("cost", plan.cost_usd_per_hour, "USD/h"),
        ];
        for ranked in &order {
            self.pathway_facts(plan, session, &ranked.pathway, &mut facts);
        }
        Explanation { facts, rules: rules(plan, session), words: words(plan, session, &order), order }
    }

    fn pathway_facts(&self, plan: &RegionPlan, session: &Session<'_>, id: &PathwayId, facts: &mut Vec<Fact>) {
        let mut add = |name, value, unit| facts.push(Fact { pathway: Some(id.clone()), name, value, unit });
        let weight = rule_for(session, &plan.manifest)
            .map_or(0, |rule| rule.weights_new.get(&Target::Pathway(id.clone())).copied().unwrap_or(0));
        add("weight", f64::from(weight) / 1e6, "share");
        let Some(trace) = plan.trace.get(id) else { return };
        let numbers = [
            ("bad_rate", trace.rate, "share"),
            ("bad_rate_low", trace.rate_interval.0, "share"),
            ("bad_rate_high", trace.rate_interval.1, "share"),
            ("windows", trace.windows, "windows"),
            ("usual_rate", trace.baseline, "share"),
            ("others_rate", trace.reference, "share"),
            ("cusum", trace.cusum, "nats"),
            ("state_factor", trace.factor, "times"),
            ("target", trace.target_bps, "bit/s"),
            ("ceiling", trace.ceiling_bps, "bit/s"),
            ("price", trace.price_usd_per_gb, "USD/GB"),
            ("in_quality_floor", f64::from(u8::from(trace.in_floor)), "0 or 1"),
            ("wanted", trace.wanted, "share"),
            ("in_force", trace.share, "share"),
        ];
        for (name, value, unit) in numbers {
            add(name, value, unit);
        }
        let Some(seen) = self.observed.cell(&plan.manifest.region, id) else { return };
        let found = seen.networks.iter().find(|network| network.asn == session.asn && network.asn.is_some());
        if let Some(network) = found {
            let p = &self.setup.parameters;
            add("network_bad_rate", network.estimate(trace.rate, p), "share");
            add("network_windows", network.health.effective(), "windows");
            add("network_cusum", network.cusum, "nats");
            for (name, protocol) in [("network_hls_bad_rate", Protocol::Hls), ("network_dash_bad_rate", Protocol::Dash)]
            {
                add(name, network.estimate_protocol(protocol_index(protocol), trace.rate, p), "share");
            }
        }
    }
}

const fn region_fact(name: &'static str, value: f64, unit: &'static str) -> Fact {
    Fact { pathway: None, name, value, unit }
}

fn rules(plan: &RegionPlan, session: &Session<'_>) -> Vec<String> {
    let manifest = &plan.manifest;
    let mut out = Vec::new();
    let fits = |class: &Option<_>| class.as_ref().is_none_or(|class| Some(class) == session.class);
    if let Some(mode) = manifest.modes.iter().find(|rule| fits(&rule.class)) {
        out.push(format!("mode {} for {:.1} % of sessions", mode.mode, mode.control.as_fraction() * 100.0));
    }
    if let Some(rule) = rule_for(session, manifest) {
        let asn = rule.asn.map_or_else(|| "every network".to_owned(), |asn| format!("AS{asn}"));
        let class = rule.class.as_ref().map_or_else(|| "every class".to_owned(), ToString::to_string);
        let running = if session.started < rule.running_before { "running" } else { "new" };
        out.push(format!("rule for {asn}, {class}, weights of {running} views: {}", rule.reason));
    }
    for (id, pathway) in manifest.pathways.iter().filter(|(_, pathway)| pathway.state != PathwayState::Healthy) {
        out.push(format!("{id} {}: {}", pathway.state, pathway.reason));
    }
    out.extend(
        manifest.overrides.iter().map(|o| format!("override {} {} by {}: {}", o.kind, o.target, o.by, o.reason)),
    );
    out.extend(plan.verdicts.iter().map(|verdict| format!("verdict {verdict}")));
    out.extend(plan.guards.iter().map(|guard| format!("guard: {guard}")));
    out
}

fn words(plan: &RegionPlan, session: &Session<'_>, order: &[Ranked]) -> Vec<String> {
    let manifest = &plan.manifest;
    let names: Vec<&str> = order.iter().map(|ranked| ranked.pathway.as_str()).collect();
    let Some(first) = order.first() else {
        return vec![format!("{}: no pathway serves this session", manifest.region)];
    };
    let mut out = vec![format!(
        "{} (policy {}): {} gets {}.",
        manifest.region,
        manifest.policy,
        session.id,
        names.join(", then ")
    )];
    let rule = rule_for(session, manifest);
    let share = rule.and_then(|rule| rule.weights_new.get(&Target::Pathway(first.pathway.clone())).copied());
    let place = match first.place {
        Place::Weight => format!(
            "its hash falls into the {:.1} % that {} has: {}",
            f64::from(share.unwrap_or(0)) / 1e4,
            first.pathway,
            rule.map_or("", |rule| rule.reason.as_str())
        ),
        Place::Static => "static weights decide: holdback, or not in control here".to_owned(),
        Place::Probe => format!("{} is DOWN, and it is this view's turn to try it", first.pathway),
        _ => format!("nothing with weight serves it, {} is what is left", first.pathway),
    };
    out.push(format!("First, because {place}."));
    if let Some(trace) = plan.trace.get(&first.pathway) {
        out.push(format!("{}: {}.", first.pathway, chain(trace)));
    }
    if let Some(second) = order.get(1) {
        let spare =
            rule.and_then(|rule| rule.spare.get(&Target::Pathway(second.pathway.clone())).copied()).unwrap_or(0);
        out.push(format!(
            "Second {} ({}): {:.0} % of the region's spare capacity, and it doesn't die together with the first where another exists.",
            second.pathway,
            second.place.as_str(),
            f64::from(spare) / 1e4
        ));
    }
    let ill = manifest.pathways.iter().filter(|(_, pathway)| pathway.state != PathwayState::Healthy);
    let mut notes: Vec<String> =
        ill.map(|(id, pathway)| format!("{id} {} ({})", pathway.state, pathway.reason)).collect();
    notes.extend(manifest.overrides.iter().map(|note| format!("override {} {}", note.kind, note.target)));
    notes.extend(plan.guards.first().cloned());
    if !notes.is_empty() {
        notes.truncate(3);
        out.push(format!("Also in force: {}.", notes.join("; ")));
    }
    out
}

fn chain(trace: &PathwayTrace) -> String {
    format!(
        "{:.1} % of windows bad ({:.1} to {:.1}, usual {:.1}, others {:.1}), planned up to {:.0} Mbit/s here at {} USD/GB",
        trace.rate * 100.0,
        trace.rate_interval.0 * 100.0,
        trace.rate_interval.1 * 100.0,
        trace.baseline * 100.0,
        trace.reference * 100.0,
        trace.target_bps / 1e6,
        (trace.price_usd_per_gb * 1e4).round() / 1e4
    )
}
