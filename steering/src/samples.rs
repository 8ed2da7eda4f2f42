//! Sampled answers with their why, on their way to a collector: for the question why a view went where it went.
//!
//! An answer leaves what it was made of; the reasons are worked out by the task that posts. A session is sampled for
//! good or not at all. With `debug` in its playlist's URL all of a session's answers are, within a budget.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Value, json};
use spillway_model::limits::{PLAYLIST_MAX_PATHWAYS, TEXT_MAX_BYTES};
use spillway_model::{Clock, NodeId, PathwayId, Protocol, TimestampMs};
use spillway_routing::{AddressFamily, Manifest, rule_for, share_of};
use spillway_service::posting::{self, Outbox, Poster, Posting};
use spillway_wire::rows;
use spillway_wire::steer_answer::SteerAnswer;

use crate::asker::Asker;
use crate::config::Settings;
use crate::decide;
use crate::manifests::{Current, Source};

/// Answers that may wait, some 500 bytes each.
const QUEUE_ROWS: usize = 16_384;
/// Salt of the share that is sampled.
const SALT: &str = "steer-sample";
/// Answers a second that are reported only because their session asked for it: anyone can write `debug` into a URL.
const DEBUG_MAX_PER_S: u64 = 20;
/// Weights that are told; a rule seldom has more.
const WEIGHTS_MAX: usize = 24;

/// An answer and what it was made of.
pub(crate) struct Sample {
    pub(crate) asker: Asker,
    pub(crate) current: Current,
    pub(crate) protocol: Protocol,
    pub(crate) order: Vec<PathwayId>,
    pub(crate) ttl_s: u32,
    /// The playlist's first pathway was repeated.
    pub(crate) first_answer: bool,
    /// Where the player says that it is.
    pub(crate) player_is_on: Option<PathwayId>,
    /// What the player left by itself a short while ago.
    pub(crate) fled: Vec<PathwayId>,
    pub(crate) stretch_milli: u64,
    pub(crate) at: TimestampMs,
}

/// Sampled answers of a node.
pub(crate) struct Samples {
    outbox: Outbox<(Sample, f64)>,
    share_ppm: u32,
    /// Second × 1000 + answers of it that were reported for `debug`.
    debug: AtomicU64,
}

impl Samples {
    /// Samples, where the configuration names collectors, and the task that posts them.
    pub(crate) fn start(settings: &Settings, service_token: &str, clock: &dyn Clock) -> Option<(Self, Poster)> {
        if settings.collectors.is_empty() {
            return None;
        }
        let source = NodeId::new(&settings.id).expect("checked with the configuration");
        let posting = Posting {
            collectors: settings.collectors.clone(),
            service_token: service_token.to_owned(),
            table: "steers",
            first_seq: clock.now().0,
            queue_rows: QUEUE_ROWS,
            target: Box::new(move |seq| rows::target("steers", &source, seq)),
            rejected: rows::rejected_rows,
        };
        let (outbox, poster) = posting::start(posting, |(sample, rate): (Sample, f64)| {
            serde_json::to_vec(&sample.row(rate)).expect("texts and numbers")
        });
        Some((Self { outbox, share_ppm: settings.sample_share_ppm, debug: AtomicU64::new(0) }, poster))
    }

    /// Whether the answer to this session is reported, and the share that it stands for.
    pub(crate) fn rate(&self, asker: &Asker, debug: bool, now: TimestampMs) -> Option<f64> {
        if share_of(asker.token.view.as_str(), SALT) < self.share_ppm {
            return Some(f64::from(self.share_ppm) / 1e6);
        }
        // Reported for itself, it stands for no other.
        (debug && asker.known && self.within_budget(now)).then_some(1.0)
    }

    fn within_budget(&self, now: TimestampMs) -> bool {
        let second = now.0 / 1_000 * 1_000;
        let spend = |spent: u64| {
            let spent = if spent / 1_000 * 1_000 == second { spent } else { second };
            (spent - second < DEBUG_MAX_PER_S).then_some(spent + 1)
        };
        self.debug.fetch_update(Ordering::Relaxed, Ordering::Relaxed, spend).is_ok()
    }

    /// Takes an answer that stands for `1 / rate` of them.
    pub(crate) fn push(&self, sample: Sample, rate: f64) {
        self.outbox.push((sample, rate));
    }
}

impl Sample {
    fn row(&self, rate: f64) -> SteerAnswer {
        let token = &self.asker.token;
        let by_manifest = self.current.source == Source::Manifest;
        SteerAnswer {
            issued_ms: self.at.0,
            view_id: self.asker.known.then(|| token.view.to_string()),
            region: self.current.manifest.region.to_string(),
            asn: token.asn,
            epoch: by_manifest.then_some(self.current.manifest.epoch),
            protocol: self.protocol.to_string(),
            priority: self.order.iter().take(PLAYLIST_MAX_PATHWAYS).map(ToString::to_string).collect(),
            ttl_s: self.ttl_s,
            sample_rate: rate,
            reason: Some(self.reason().to_owned()),
            why: Some(self.why()),
        }
    }

    /// `first_answer` (the playlist's pathway again), or what put the first pathway in front: `weight`, `static`,
    /// `spare`, `leftover`, `dead`; `fled`: the player left the plan's own first by itself; `declared`: that is not in the
    /// playlist.
    pub(crate) fn reason(&self) -> &'static str {
        if self.first_answer {
            return "first_answer";
        }
        let ranked = decide::assign(&self.asker.token, self.asker.family, &self.current.manifest).ranked;
        let best = ranked.first();
        let place = ranked.iter().find(|ranked| Some(&ranked.pathway) == self.order.first());
        match (best, place) {
            (Some(best), Some(first)) if best.pathway == first.pathway => first.place.as_str(),
            (Some(best), _) if self.fled.contains(&best.pathway) => "fled",
            _ => "declared",
        }
    }

    pub(crate) fn why(&self) -> Value {
        let (token, manifest) = (&self.asker.token, &*self.current.manifest);
        let session = decide::session(token, self.asker.family);
        let rule = rule_for(&session, manifest);
        let running = rule.is_some_and(|rule| token.started < rule.running_before);
        let weights = rule.map(|rule| if running { &rule.weights_running } else { &rule.weights_new });
        let weights: BTreeMap<&str, u32> = weights
            .into_iter()
            .flatten()
            .filter(|(_, ppm)| **ppm > 0)
            .take(WEIGHTS_MAX)
            .map(|(target, ppm)| (target.as_str(), *ppm))
            .collect();
        let states: BTreeMap<&str, &str> = self.order.iter().filter_map(|id| state(manifest, id)).collect();
        let mode = manifest
            .modes
            .iter()
            .find(|rule| rule.class.as_ref().is_none_or(|class| Some(class) == token.class.as_ref()));
        let mut why = json!({
            "cohort": token.asn.map_or_else(|| token.region.to_string(), |asn| format!("{}/{asn}", token.region)),
            "content": token.content.as_str(),
            "plan": self.current.source.as_str(),
            "mode": mode.map(|rule| rule.mode.to_string()),
            "rule": rule.map(|rule| rule.reason.as_str()),
            "session_is": if running { "running" } else { "new" },
            "weights_ppm": weights,
            "states": states,
            "player_is_on": self.player_is_on.as_ref().map(PathwayId::as_str),
            "fled": self.fled.iter().map(PathwayId::as_str).collect::<Vec<_>>(),
            "family": self.asker.family.map(family),
            "ttl_stretch_milli": self.stretch_milli,
        });
        if why.to_string().len() > TEXT_MAX_BYTES {
            why["weights_ppm"] = Value::Null;
        }
        why
    }
}

fn state<'m>(manifest: &'m Manifest, id: &PathwayId) -> Option<(&'m str, &'m str)> {
    manifest.pathways.get_key_value(id).map(|(id, pathway)| (id.as_str(), pathway.state.as_str()))
}

const fn family(family: AddressFamily) -> &'static str {
    match family {
        AddressFamily::V4 => "v4",
        AddressFamily::V6 => "v6",
    }
}

/// The task that posts samples, if there is one, until it has posted what was waiting at `shutdown`.
pub(crate) async fn post_until(poster: Option<Poster>, shutdown: &spillway_service::CancellationToken) {
    shutdown.cancelled().await;
    if let Some(poster) = poster {
        poster.finish(crate::LAST_SAMPLES).await;
    }
}
