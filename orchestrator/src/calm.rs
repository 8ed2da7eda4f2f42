//! Times in which nothing is optimised: an operator's freeze, a live ad break, a great event. Always with a reason and
//! an end; none holds a move out of a pathway that is ill or too full.

use serde::{Deserialize, Serialize};
use spillway_model::TimestampMs;
use spillway_orchestrator_core as core;
use spillway_service::deployment::Deployment;
use spillway_service::random;
use spillway_wire::overview::Note;

use crate::orders::{self, Order, OrderError, Requested, invalid};

/// Longest time ahead for which one may be planned, s: a week.
const STARTS_IN_MAX_S: u64 = 604_800;

/// What an operator, or a system that knows the programme, asks for (`POST /v1/admin/calm`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CalmRequest {
    /// `freeze` or `ad_break`: nothing is optimised; `event`: nothing is explored.
    pub kind: String,
    /// Region; absent = all.
    #[serde(default)]
    pub region: Option<String>,
    /// Why.
    pub reason: String,
    /// Begins after so many seconds. Default 0, at most a week.
    #[serde(default)]
    pub starts_in_s: u64,
    /// Ends by itself so many seconds after its begin, at most 72 h.
    pub expires_s: u64,
}

/// The same as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredCalm {
    /// Its id.
    pub id: String,
    /// Who asked for it.
    pub by: String,
    /// `freeze`, `ad_break` or `event`.
    pub kind: String,
    /// Region; absent = all.
    pub region: Option<String>,
    /// Why.
    pub reason: String,
    /// From when on, ms since epoch.
    pub begins_ms: u64,
    /// Until when, ms since epoch.
    pub expires_ms: u64,
}

impl Order for StoredCalm {
    const PREFIX: &'static str = "calm/";
    const WORD: &'static str = "freeze, ad break or event";
    const ADDED: &'static str = "calm.add";
    const ENDED: &'static str = "calm.end";

    fn id(&self) -> &str {
        &self.id
    }

    fn reason(&self) -> &str {
        &self.reason
    }

    fn expires_ms(&self) -> u64 {
        self.expires_ms
    }
}

impl Requested for StoredCalm {
    type Request = CalmRequest;

    fn of(request: CalmRequest, by: &str, now: TimestampMs, deployment: &Deployment) -> Result<Self, OrderError> {
        orders::check(&request.reason, request.expires_s)?;
        if request.starts_in_s > STARTS_IN_MAX_S {
            return Err(invalid("starts_in_s", request.starts_in_s, format!("0 to {STARTS_IN_MAX_S}")));
        }
        let begins_ms = now.0 + request.starts_in_s * 1000;
        let stored = Self {
            id: format!("c-{}", random::id(8)),
            by: by.to_owned(),
            kind: request.kind,
            region: request.region,
            reason: request.reason,
            begins_ms,
            expires_ms: begins_ms + request.expires_s * 1000,
        };
        to_core(&stored, deployment)?;
        Ok(stored)
    }
}

/// As the decision core takes it.
///
/// # Errors
/// [`OrderError::Invalid`] for an unknown kind or region.
pub(crate) fn to_core(stored: &StoredCalm, deployment: &Deployment) -> Result<core::Calm, OrderError> {
    let kind = match stored.kind.as_str() {
        "freeze" => core::CalmKind::Freeze,
        "ad_break" => core::CalmKind::AdBreak,
        "event" => core::CalmKind::Event,
        other => return Err(invalid("kind", other, "freeze, ad_break, event")),
    };
    Ok(core::Calm {
        kind,
        region: orders::region(stored.region.as_deref(), deployment)?,
        until: TimestampMs(stored.expires_ms),
        reason: format!("{} ({})", stored.reason, stored.by),
    })
}

/// As pages show it.
pub(crate) fn note(stored: &StoredCalm, now: TimestampMs) -> Note {
    let begun = stored.begins_ms <= now.0;
    let (when, to) = if begun { ("", "") } else { ("planned: ", ", not begun yet") };
    Note {
        kind: stored.kind.clone(),
        region: stored.region.clone().unwrap_or_default(),
        text: format!("{when}{} ({}){to}", stored.reason, stored.by),
        until_ms: Some(stored.expires_ms),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use spillway_bus::{DirStore, Store};

    use super::*;
    use crate::fixtures::{NOW, deployment, region};
    use crate::orders::Standing;

    fn request(kind: &str) -> CalmRequest {
        CalmRequest { kind: kind.into(), region: None, reason: "final".into(), starts_in_s: 0, expires_s: 60 }
    }

    async fn calm_at(store: &Arc<dyn Store>, now: TimestampMs) -> Vec<core::Calm> {
        let (mut standing, mut input) = (Standing::default(), core::RoundInput::default());
        standing.read(store, now).await;
        standing.order(now, &deployment(), &mut input);
        input.calm
    }

    #[tokio::test]
    async fn a_planned_event_begins_in_its_time_and_ends_by_itself() {
        let dir = tempfile::tempdir().expect("dir");
        let store: Arc<dyn Store> = Arc::new(DirStore::open(dir.path()).expect("store"));
        let planned = CalmRequest { starts_in_s: 100, region: Some("eu-a".into()), ..request("event") };
        let stored = StoredCalm::of(planned, "ann", NOW, &deployment()).expect("valid");
        orders::keep(&store, &stored).await.expect("kept");
        assert_eq!((stored.begins_ms, stored.expires_ms), (NOW.0 + 100_000, NOW.0 + 160_000));
        assert_eq!(note(&stored, NOW).text, "planned: final (ann), not begun yet");

        let at = |s: u64| TimestampMs(NOW.0 + s * 1000);
        assert_eq!(calm_at(&store, at(99)).await, []);
        let event = core::Calm {
            kind: core::CalmKind::Event,
            region: Some(region()),
            until: at(160),
            reason: "final (ann)".into(),
        };
        assert_eq!(calm_at(&store, at(100)).await, [event]);
        assert_eq!(calm_at(&store, at(160)).await, []);
        assert_eq!(store.list("").await.expect("list"), Vec::<String>::new(), "what ended is gone");
    }

    #[test]
    fn what_is_not_valid_is_named_with_what_is() {
        for (bad, words) in [
            (request("pause"), ["kind \"pause\"", "freeze, ad_break, event"]),
            (CalmRequest { region: Some("us".into()), ..request("freeze") }, ["region \"us\"", "eu-a, eu-b"]),
            (CalmRequest { reason: " ".into(), ..request("freeze") }, ["reason", "1 to 500"]),
            (CalmRequest { expires_s: 0, ..request("freeze") }, ["expires_s \"0\"", "1 to 259200"]),
            (CalmRequest { starts_in_s: 604_801, ..request("event") }, ["starts_in_s \"604801\"", "0 to 604800"]),
        ] {
            let error = StoredCalm::of(bad, "ann", NOW, &deployment()).expect_err("refused").to_string();
            assert!(words.iter().all(|word| error.contains(word)), "{error}");
        }
    }
}
