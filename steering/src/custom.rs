//! For what knows neither HLS nor DASH steering: `GET /v1/decide` (JSON) and `GET /v1/go/{path}` (redirect).

use std::borrow::Cow;
use std::fmt::Write as _;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use metrics::Counter;
use spillway_model::{PathwayId, Protocol, TimestampMs};
use spillway_routing::{Manifest, Ranked, rule_for};
use spillway_wire::steering::push_json;

use crate::asker::{Asker, content_of};
use crate::caller::Caller;
use crate::counters::Asked;
use crate::decide::{self, Assignment};
use crate::manifests::Source;
use crate::params::{DEBUG, percent_decode};
use crate::samples::Sample;
use crate::signers::{Grant, title_folder};
use crate::trail::Told;
use crate::why::Onlookers;
use crate::{SteerState, reply};

/// Decisions without signatures are shorter.
const DECISION_USUAL_BYTES: usize = 1_024;

#[cfg_attr(test, derive(serde::Serialize))]
struct Decision<'a> {
    /// Best first.
    pathways: Vec<Choice<'a>>,
    ttl_s: u32,
    epoch: u64,
    sid: &'a str,
    /// Identity for the next question (`t=`), and for `/v1/explain`.
    token: Cow<'a, str>,
    #[cfg_attr(test, serde(skip_serializing_if = "Option::is_none"))]
    max_bitrate_kbps: Option<u32>,
    reason: &'a str,
}

#[cfg_attr(test, derive(serde::Serialize))]
struct Choice<'a> {
    id: &'a str,
    /// What media paths are appended to, with the token where that stands in the path.
    base_url: String,
    /// Query that each URL needs, where the pathway's token stands there and is good for the whole title.
    #[cfg_attr(test, serde(skip_serializing_if = "Option::is_none"))]
    query: Option<String>,
    /// The signed URL of `content`, if that is a path and the pathway is signed.
    #[cfg_attr(test, serde(skip_serializing_if = "Option::is_none"))]
    url: Option<String>,
    place: &'static str,
}

impl Decision<'_> {
    /// Byte for byte what serde makes of it, for a third of the work.
    fn to_json(&self) -> Vec<u8> {
        let mut out = String::with_capacity(DECISION_USUAL_BYTES);
        out.push_str(r#"{"pathways":["#);
        for (index, choice) in self.pathways.iter().enumerate() {
            out.push_str(if index == 0 { "" } else { "," });
            choice.write(&mut out);
        }
        let _ = write!(out, r#"],"ttl_s":{},"epoch":{}"#, self.ttl_s, self.epoch);
        push_field(&mut out, r#","sid":"#, Some(self.sid));
        push_field(&mut out, r#","token":"#, Some(&self.token));
        if let Some(kbps) = self.max_bitrate_kbps {
            let _ = write!(out, r#","max_bitrate_kbps":{kbps}"#);
        }
        push_field(&mut out, r#","reason":"#, Some(self.reason));
        out.push('}');
        out.into_bytes()
    }
}

impl Choice<'_> {
    fn write(&self, out: &mut String) {
        push_field(out, r#"{"id":"#, Some(self.id));
        push_field(out, r#","base_url":"#, Some(&self.base_url));
        push_field(out, r#","query":"#, self.query.as_deref());
        push_field(out, r#","url":"#, self.url.as_deref());
        push_field(out, r#","place":"#, Some(self.place));
        out.push('}');
    }
}

/// A text with what stands before it, if there is one.
fn push_field(out: &mut String, before: &str, text: Option<&str>) {
    if let Some(text) = text {
        out.push_str(before);
        push_json(out, text);
    }
}

/// `GET /v1/decide?content=&sid=&region=` (or `t=` from the last answer).
pub(crate) async fn decide(State(state): State<Arc<SteerState>>, request: Request) -> Response {
    let caller = Caller::of(&state, &request);
    let query = &caller.query;
    let now = state.clock.now();
    let asker = asker(&state, &caller, query.first("content").unwrap_or_default(), now);
    let current = state.manifests.current(&asker.token.region, now);
    let manifest = &*current.manifest;
    let Assignment { ranked, declared } = decide::assign(&asker.token, asker.family, manifest);
    let ttl_s = decide::ttl_s(&asker.token, manifest, state.counters.stretch_milli());
    if let Some(first) = declared.first() {
        let asked = Asked { token: &asker.token, device: state.device(caller.headers), protocol: Protocol::Other };
        if asker.known {
            state.counters.polled(asked, first, ttl_s, (Told::Nothing, None), now);
        } else if query.first("t").is_some() {
            // It shows a token that is none of ours.
            state.counters.untrusted(&asker.token, Protocol::Other, first);
        } else {
            state.counters.assigned(asked, first, ttl_s, false, now);
        }
    }
    state.decided.count(current.source);
    let session = decide::session(&asker.token, asker.family);
    // As it stands in a URL. What a token says of the title is its folder, unless that was no id.
    let content = query.first("content").map(|path| encoded(path.trim_start_matches('/')));
    let content = content.filter(|path| !path.is_empty());
    let title = content.as_deref().unwrap_or(asker.token.content.as_str());
    let granted = granted(&state, manifest, &declared, title, now);
    let decision = Decision {
        pathways: ranked.iter().filter_map(|r| Some(choice(r, granted.get(&r.pathway)?, content.as_deref()))).collect(),
        ttl_s,
        epoch: manifest.epoch,
        sid: asker.token.view.as_str(),
        token: asker.identity_token(&state, query),
        max_bitrate_kbps: decide::max_bitrate_kbps(&asker.token, manifest),
        reason: rule_for(&session, manifest).map_or("", |rule| rule.reason.as_str()),
    };
    let response = reply::open(reply::JSON, decision.to_json(), manifest.epoch_header());
    let response = reply::with_cookies(response, granted.cookies());
    let debug = query.first(DEBUG).is_some();
    let Some(onlookers) = Onlookers::of(&state, &asker, caller.headers, debug, now) else { return response };
    let sample = Sample {
        asker: asker.clone(),
        current: current.clone(),
        protocol: Protocol::Other,
        order: declared,
        ttl_s,
        first_answer: false,
        player_is_on: None,
        fled: vec![],
        stretch_milli: state.counters.stretch_milli(),
        at: now,
    };
    onlookers.show(&state, response, sample)
}

/// `GET /v1/go/{path}`: 307 to the path on the best pathway. The same session, or else the same address, always goes
/// to the same one while the plan stands.
pub(crate) async fn go(State(state): State<Arc<SteerState>>, request: Request) -> Response {
    let path = request.uri().path().strip_prefix("/v1/go/").unwrap_or_default();
    let caller = Caller::of(&state, &request);
    let now = state.clock.now();
    let asker = match caller.query.first("sid").or(caller.query.first("t")) {
        Some(_) => asker(&state, &caller, &percent_decode(path), now),
        None => Asker::anonymous(&state, &caller.query, &caller.client, content_of(&percent_decode(path))),
    };
    let current = state.manifests.current(&asker.token.region, now);
    let assignment = decide::assign(&asker.token, asker.family, &current.manifest);
    let granted = granted(&state, &current.manifest, &assignment.declared, path, now);
    let first = assignment.declared.first().and_then(|id| granted.get(id));
    metrics::counter!("spillway_steer_answers_total", "protocol" => "go", "plan" => current.source.as_str())
        .increment(1);
    match first {
        Some(grant) => {
            let answer = reply::with_epoch(reply::redirect(&grant.url(&format!("/{path}"))), current.manifest.epoch);
            reply::with_cookies(answer, granted.cookies())
        }
        None => reply::refusal(StatusCode::BAD_GATEWAY, "no_pathway", "no pathway serves this region"),
    }
}

/// What each pathway grants.
struct Granted<'m>(Vec<(&'m PathwayId, Grant)>);

/// Grants of all declared pathways for the title of `content`: a session keeps them when it moves.
fn granted<'m>(
    state: &SteerState,
    manifest: &'m Manifest,
    declared: &[PathwayId],
    content: &str,
    now: TimestampMs,
) -> Granted<'m> {
    let folder = title_folder(content);
    let grant = |id: &PathwayId| {
        let (id, pathway) = manifest.pathways.get_key_value(id)?;
        Some((id, state.settings.signers.grant(pathway, &folder, now)))
    };
    let mut granted = Vec::with_capacity(declared.len());
    granted.extend(declared.iter().filter_map(grant));
    Granted(granted)
}

impl Granted<'_> {
    fn get(&self, id: &PathwayId) -> Option<&Grant> {
        self.0.iter().find(|(granted, _)| *granted == id).map(|(_, grant)| grant)
    }

    /// Values of `Set-Cookie`, by pathway.
    fn cookies(&self) -> impl Iterator<Item = String> {
        let mut signed: Vec<_> = self.0.iter().filter(|(_, grant)| grant.is_signed()).collect();
        signed.sort_unstable_by_key(|(id, _)| *id);
        signed.into_iter().flat_map(|(_, grant)| grant.cookies())
    }
}

fn choice<'a>(ranked: &'a Ranked, grant: &Grant, content: Option<&str>) -> Choice<'a> {
    Choice {
        id: ranked.pathway.as_str(),
        base_url: grant.base_url(),
        query: grant.query().map(str::to_owned),
        url: content.filter(|_| grant.is_signed()).map(|path| grant.url(&format!("/{path}"))),
        place: ranked.place.as_str(),
    }
}

/// A decoded path as a URL has it.
fn encoded(path: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-~".contains(&byte);
    let one = |byte: u8| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    path.bytes().map(one).collect()
}

/// The session of `t`, else a new one of `content`.
pub(crate) fn asker(state: &SteerState, caller: &Caller<'_>, content: &str, now: TimestampMs) -> Asker {
    Asker::by_token(state, &caller.query, &caller.client, now)
        .unwrap_or_else(|_| Asker::new_session(state, &caller.query, &caller.client, content_of(content)))
}

/// `spillway_steer_answers_total` of `/v1/decide`, each of its counters looked up once.
pub(crate) struct Decided([Counter; Source::ALL.len()]);

impl Default for Decided {
    fn default() -> Self {
        Self(Source::ALL.map(
            |plan| metrics::counter!("spillway_steer_answers_total", "protocol" => "decide", "plan" => plan.as_str()),
        ))
    }
}

impl Decided {
    fn count(&self, plan: Source) {
        self.0[plan as usize].increment(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_json_is_what_serde_makes_of_it() {
        for (text, some) in [("cdn-a", false), ("cdn-a", true), ("a\"b\\c\u{1}ä", true), ("", true)] {
            let optional = || some.then(|| text.to_owned());
            let choice =
                || Choice { id: text, base_url: text.to_owned(), query: optional(), url: optional(), place: "weight" };
            for count in 0..3 {
                let decision = Decision {
                    pathways: (0..count).map(|_| choice()).collect(),
                    ttl_s: 30,
                    epoch: u64::MAX,
                    sid: text,
                    token: text.into(),
                    max_bitrate_kbps: some.then_some(4_000),
                    reason: text,
                };
                assert_eq!(decision.to_json(), serde_json::to_vec(&decision).expect("texts and numbers"));
            }
        }
    }
}
