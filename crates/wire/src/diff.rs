//! What changed between two manifests, for people and programs. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::Serialize;
use spillway_routing::{CohortRule, Manifest, Pathway, Target, Weights};

use crate::manifest::ManifestV1;

/// One difference: what, of what, before and after. Nothing before: it is new; nothing after: it is gone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    /// `state`, `pathway`, `weight`, `running_weight`, `spare`, `static_weight`, `node_weight`, `rule`, `mode`,
    /// `max_bitrate`, `ttl`, `policy`, `hot_title`, `probe`, `override`, `drill`.
    pub what: &'static str,
    /// Of what: a pathway, `all: cdn-a`, `kids: own-x` …
    pub of: String,
    /// Before.
    pub from: Option<String>,
    /// After.
    pub to: Option<String>,
    /// Why, where the later manifest says it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reason: String,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (what, of) = (self.what.replace('_', " "), &self.of);
        match (&self.from, &self.to) {
            (Some(from), Some(to)) => write!(f, "{what} {of}: {from} → {to}")?,
            (None, Some(to)) => write!(f, "{what} {of}: new, {to}")?,
            (Some(from), None) => write!(f, "{what} {of}: gone, was {from}")?,
            (None, None) => write!(f, "{what} {of}")?,
        }
        if self.reason.is_empty() { Ok(()) } else { write!(f, " ({})", self.reason) }
    }
}

/// The differences that matter to viewers or operators, the gravest first: states, weights, then the rest. Utilisation,
/// times and wording alone are none.
#[must_use]
pub fn diff(from: &Manifest, to: &Manifest) -> Vec<Change> {
    let mut out = Vec::new();
    let state = |pathway: &Pathway| pathway.state.to_string();
    let reason = |id: &spillway_model::PathwayId| to.pathways.get(id).map(|it| it.reason.clone()).unwrap_or_default();
    for (id, change) in table(&from.pathways, &to.pathways, state) {
        out.push(Change { reason: reason(&id), ..change.named("state", id.to_string()) });
    }
    let (before, after) = (rules(&from.cohorts), rules(&to.cohorts));
    for (who, (one, other)) in pairs(&before, &after) {
        let why = other.map(|rule| rule.reason.clone()).unwrap_or_default();
        if one.is_none() || other.is_none() {
            let words = |rule: Option<&&CohortRule>| rule.map(|rule| said(&rule.weights_new));
            let change = Change { what: "rule", of: who, from: words(one), to: words(other), reason: why };
            out.push(change);
            continue;
        }
        let (Some(one), Some(other)) = (one, other) else { continue };
        for (what, a, b) in [
            ("weight", &one.weights_new, &other.weights_new),
            ("running_weight", &one.weights_running, &other.weights_running),
            ("spare", &one.spare, &other.spare),
        ] {
            // Where running views go as new ones do, that is said once.
            if what == "running_weight" && one.weights_new == one.weights_running && other.weights_new == *b {
                continue;
            }
            for (target, change) in table(&by_target(a), &by_target(b), |ppm| percent(*ppm)) {
                let why = if what == "weight" { why.clone() } else { String::new() };
                out.push(Change { reason: why, ..change.named(what, format!("{who}: {}", target.as_str())) });
            }
        }
    }
    let statics = [&from.static_weights, &to.static_weights].map(by_target);
    for (target, change) in table(&statics[0], &statics[1], |ppm| percent(*ppm)) {
        out.push(change.named("static_weight", target.as_str().to_owned()));
    }
    let nodes = |manifest: &Manifest| -> BTreeMap<String, u32> {
        let of =
            manifest.groups.iter().flat_map(|(id, group)| group.nodes.iter().map(move |(node, ppm)| (id, node, ppm)));
        of.map(|(id, node, ppm)| (format!("{id}: {node}"), *ppm)).collect()
    };
    for (node, change) in table(&nodes(from), &nodes(to), |ppm| percent(*ppm)) {
        out.push(change.named("node_weight", node));
    }
    out.extend(others(from, to));
    out
}

/// How a shadow plan differs from what is steered by, for each of its rules: who would be elsewhere.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ShadowDiff {
    /// Whom the rule is for.
    pub of: String,
    /// Share of new views that the plan would send elsewhere, ppm.
    pub moved_ppm: u32,
    /// By pathway or group: static weight and planned weight, ppm, where they differ.
    pub weights_ppm: BTreeMap<String, (u32, u32)>,
    /// Why the plan is so.
    pub reason: String,
}

/// The difference of the shadow plan to the static weights that views go by in shadow mode; `None` without such a plan.
#[must_use]
pub fn shadow_diff(manifest: &Manifest) -> Option<Vec<ShadowDiff>> {
    if manifest.shadow.is_empty() {
        return None;
    }
    let incumbent = by_node(&manifest.static_weights, manifest);
    let one = |(of, rule): (String, &CohortRule)| {
        let planned = by_node(&rule.weights_new, manifest);
        let share = |of: &BTreeMap<String, u32>, name: &String| of.get(name).copied().unwrap_or(0);
        let names: BTreeSet<&String> = incumbent.keys().chain(planned.keys()).collect();
        let weights: BTreeMap<String, (u32, u32)> =
            names.into_iter().map(|name| (name.clone(), (share(&incumbent, name), share(&planned, name)))).collect();
        ShadowDiff {
            of,
            moved_ppm: weights.values().map(|(a, b)| b.saturating_sub(*a)).sum(),
            weights_ppm: weights.into_iter().filter(|(_, (a, b))| a != b).collect(),
            reason: rule.reason.clone(),
        }
    };
    Some(rules(&manifest.shadow).into_iter().map(one).collect())
}

/// Weights with groups spread over their nodes: a plan names nodes, static weights may name their group.
fn by_node(weights: &Weights, manifest: &Manifest) -> BTreeMap<String, u32> {
    let mut out = BTreeMap::new();
    for (target, ppm) in weights {
        let group = match target {
            spillway_routing::Target::Group(id) => manifest.groups.get(id),
            spillway_routing::Target::Pathway(_) => None,
        };
        let Some(group) = group else {
            *out.entry(target.as_str().to_owned()).or_default() += *ppm;
            continue;
        };
        for (node, part) in &group.nodes {
            let share = u64::from(*ppm) * u64::from(*part) / 1_000_000;
            *out.entry(node.to_string()).or_default() += u32::try_from(share).unwrap_or(u32::MAX);
        }
    }
    out
}

/// Before and after, without a name yet.
struct Bare {
    from: Option<String>,
    to: Option<String>,
}

impl Bare {
    fn named(self, what: &'static str, of: String) -> Change {
        Change { what, of, from: self.from, to: self.to, reason: String::new() }
    }
}

/// A value in either of two tables.
type InEither<'m, V> = (Option<&'m V>, Option<&'m V>);

fn pairs<'m, K: Ord + Clone, V>(a: &'m BTreeMap<K, V>, b: &'m BTreeMap<K, V>) -> Vec<(K, InEither<'m, V>)> {
    let keys: BTreeSet<&K> = a.keys().chain(b.keys()).collect();
    keys.into_iter().map(|key| (key.clone(), (a.get(key), b.get(key)))).collect()
}

/// Entries whose words differ.
fn table<K: Ord + Clone, V>(a: &BTreeMap<K, V>, b: &BTreeMap<K, V>, words: impl Fn(&V) -> String) -> Vec<(K, Bare)> {
    let of = |(key, (one, other)): (K, (Option<&V>, Option<&V>))| {
        let (from, to) = (one.map(&words), other.map(&words));
        (from != to).then_some((key, Bare { from, to }))
    };
    pairs(a, b).into_iter().filter_map(of).collect()
}

fn by_target(weights: &Weights) -> BTreeMap<&Target, u32> {
    weights.iter().map(|(target, ppm)| (target, *ppm)).collect()
}

fn percent(ppm: u32) -> String {
    format!("{:.1} %", f64::from(ppm) / 1e4)
}

fn said(weights: &Weights) -> String {
    let words: Vec<String> =
        weights.iter().map(|(target, ppm)| format!("{} {}", target.as_str(), percent(*ppm))).collect();
    words.join(", ")
}

/// Rules by whom they are for; of two for the same the first counts, as it does when sessions are ranked.
fn rules(rules: &[CohortRule]) -> BTreeMap<String, &CohortRule> {
    let mut out = BTreeMap::new();
    for rule in rules {
        let parts = [
            rule.asn.map(|asn| format!("AS{asn}")),
            rule.class.as_ref().map(ToString::to_string),
            rule.device_class.clone(),
        ];
        let who: Vec<String> = parts.into_iter().flatten().collect();
        let who = if who.is_empty() { "all".to_owned() } else { who.join(" ") };
        out.entry(who).or_insert(rule);
    }
    out
}

/// Everything that is no weight and no state, as it travels.
fn others(from: &Manifest, to: &Manifest) -> Vec<Change> {
    let (a, b) = (ManifestV1::from(from), ManifestV1::from(to));
    let class = |class: &Option<String>| class.clone().unwrap_or_else(|| "all".into());
    let mode = |m: &ManifestV1| -> BTreeMap<String, String> {
        m.modes
            .iter()
            .map(|rule| (class(&rule.class), format!("{} of {}", rule.mode, percent(rule.control_ppm))))
            .collect()
    };
    let bitrate = |m: &ManifestV1| -> BTreeMap<String, String> {
        m.max_bitrate_kbps.iter().map(|limit| (class(&limit.class), format!("{} kbit/s", limit.kbps))).collect()
    };
    let ttl = |m: &ManifestV1| {
        let ttl = &m.ttl;
        BTreeMap::from(
            [("vod", ttl.vod_s), ("live", ttl.live_s), ("suspect", ttl.suspect_s)]
                .map(|(n, s)| (n.to_owned(), format!("{s} s"))),
        )
    };
    let policy = |m: &ManifestV1| BTreeMap::from([(m.region.clone(), m.policy.clone())]);
    let hot = |m: &ManifestV1| -> BTreeMap<String, String> {
        m.hot_titles.iter().map(|(title, nodes)| (title.clone(), format!("{nodes} nodes"))).collect()
    };
    let probe = |m: &ManifestV1| -> BTreeMap<String, String> {
        m.probes.iter().map(|(id, probe)| (id.clone(), percent(probe.share_ppm))).collect()
    };
    let overrides = |m: &ManifestV1| -> BTreeMap<String, String> {
        let one = |it: &crate::manifest::OverrideV1| {
            (format!("{} {}", it.id, it.target), format!("{} by {}: {}", it.kind, it.by, it.reason))
        };
        m.overrides.iter().map(one).collect()
    };
    let drill = |m: &ManifestV1| -> BTreeMap<String, String> {
        m.drill
            .iter()
            .map(|drill| (drill.id.clone(), format!("{} on {}, {}", drill.kind, drill.pathway, drill.phase)))
            .collect()
    };
    // What a pathway is, without how it is.
    let declared = |m: &ManifestV1| -> BTreeMap<String, String> {
        let one = |it: &crate::manifest::PathwayV1| {
            let serves = serde_json::to_string(&it.serves).unwrap_or_default();
            format!(
                "{} at {} Mbit/s, fails with {}, serves {serves}",
                it.base_url,
                it.capacity_bps / 1_000_000,
                it.failure_domains.join(" ")
            )
        };
        m.pathways.iter().map(|(id, pathway)| (id.clone(), one(pathway))).collect()
    };
    let tables = [
        ("mode", mode(&a), mode(&b)),
        ("max_bitrate", bitrate(&a), bitrate(&b)),
        ("pathway", declared(&a), declared(&b)),
        ("override", overrides(&a), overrides(&b)),
        ("drill", drill(&a), drill(&b)),
        ("probe", probe(&a), probe(&b)),
        ("ttl", ttl(&a), ttl(&b)),
        ("hot_title", hot(&a), hot(&b)),
        ("policy", policy(&a), policy(&b)),
    ];
    let one = |(what, a, b): (&'static str, BTreeMap<String, String>, BTreeMap<String, String>)| {
        let changes = table(&a, &b, String::clone).into_iter();
        changes.map(move |(of, change)| change.named(what, of)).collect::<Vec<_>>()
    };
    tables.into_iter().flat_map(one).collect()
}
