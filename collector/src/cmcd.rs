//! CMCD in event mode: records of any number of views in one body, each as an event of ours.
//!
//! Every line of a body ends as one accepted event or one that is discarded with its reason. The answer is 200 rather
//! than 202, because Shaka takes 202 for a failure and sends everything again; bad records inside of a body that can be
//! read are no reason for a 4xx, because dash.js sends what was refused again for ever.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Query, State};
use axum::http::{Request, StatusCode, header};
use axum::response::Response;
use bytes::Bytes;
use futures::future::join_all;
use spillway_lake::quarantine::{Quarantined, QuarantinedEvent};
use spillway_model::ViewId;
use spillway_model::limits::{CMCD_TARGET_MAX_CHARS, EVENT_MAX_AGE_MS};
use spillway_wire::beacon::{self, Accepted, Beacon, Context, Rejected};
use spillway_wire::cmcd::{self, Identity, Mapped, Received, SenderMark, identify, to_event};

use crate::admit::Admitted;
use crate::receive::{Intake, Sender, answer, take};
use crate::refusal::Refusal;
use crate::{App, admit, batch, clean, quarantine};

/// Source of events whose target has no name.
const SOURCE: &str = "cmcd";
/// A newest record this young by its own clock comes from a clock that goes right and a network that is quick: then
/// its times are taken as they are.
const CLOCKS_AGREE_MS: u64 = 30_000;

/// Records of one view and content.
struct Group {
    view_id: ViewId,
    sdk: String,
    ctx: Context,
    indexes: Vec<usize>,
    records: Vec<Mapped>,
}

/// The source of a target: `cmcd`, or `cmcd:<t>` where the URL names it with `t=`.
pub(crate) fn source(target: Option<&str>) -> Result<String, Refusal> {
    let Some(target) = target else { return Ok(SOURCE.to_owned()) };
    let plain = target.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
    if !plain || !(1..=CMCD_TARGET_MAX_CHARS).contains(&target.len()) {
        return Err(Refusal::BadTarget(target.chars().take(128).collect()));
    }
    Ok(format!("{SOURCE}:{target}"))
}

/// What is left of an address for records without `sid`. The service token is what all collectors share.
pub(crate) fn mark(app: &App, address: IpAddr) -> SenderMark {
    let bytes = match address.to_canonical() {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    };
    SenderMark::new(app.service_token_hash.as_bytes(), &bytes)
}

/// `POST {cmcd_path}`.
pub(crate) async fn events(
    State(app): State<Arc<App>>,
    Query(query): Query<BTreeMap<String, String>>,
    request: Request<Body>,
) -> Response {
    let origin = request.headers().get(header::ORIGIN).cloned();
    let answered = async {
        let taken = take(&app, Intake::Cmcd, &query, request, parse).await?;
        store(&app, &taken.sender, taken.read, taken.size, taken.received_ms).await
    };
    answer(&app, StatusCode::OK, answered.await, origin)
}

/// A body as it was read, and the texts of its refused lines.
struct Read {
    received: Received,
    refused: Vec<Option<String>>,
}

fn parse(body: &Bytes) -> Result<Read, Refusal> {
    let received = cmcd::parse_events(body).map_err(Refusal::Cmcd)?;
    let mut refused = Vec::with_capacity(received.rejected.len());
    if !received.rejected.is_empty() {
        let lines: Vec<&[u8]> = cmcd::lines(body).collect();
        let text = |index: usize| String::from_utf8_lossy(lines.get(index).copied().unwrap_or_default());
        refused.extend(received.rejected.iter().map(|(index, _)| quarantine::scrubbed_line(&text(*index))));
    }
    Ok(Read { received, refused })
}

async fn store(
    app: &Arc<App>,
    sender: &Sender,
    read: Read,
    size: usize,
    received_ms: u64,
) -> Result<Accepted, Refusal> {
    let Read { received, refused: texts } = read;
    let lines = received.records.len() + received.rejected.len();
    let mut kept = Vec::new();
    let mut rejected = refused(app, &received, texts, &mut kept);
    let sent_ms = sent_ms(&received, received_ms);
    let mut stored = Vec::new();
    let groups = groups(app, sender, received, &mut rejected, &mut kept);
    if sender.gpc {
        // Their text may hold anything.
        kept.iter_mut().for_each(|line| line.raw = None);
    }
    quarantine::keep(
        app,
        Quarantined {
            property: sender.property.as_str().to_owned(),
            received_ms,
            source: sender.source.clone(),
            events: kept,
            ..Quarantined::default()
        },
    );
    for group in groups {
        let bytes = size * group.records.len() / lines.max(1);
        let indexes = group.indexes.clone();
        let admitted = admit_group(app, sender, group, sent_ms, received_ms);
        let named = admitted.rejected.iter();
        rejected.extend(named.map(|event| Rejected { index: indexes[event.index], reason: event.reason.clone() }));
        stored.push(batch::store(app, admitted, bytes));
    }
    // All of them at once, so that they share a group commit.
    let mut accepted = 0;
    for one in join_all(stored).await {
        accepted += one?.accepted;
    }
    rejected.sort_by_key(|event| event.index);
    Ok(Accepted { accepted, rejected, heartbeat_s: app.config.heartbeat_s, sample_rate: 1.0 })
}

/// Lines that are no records: received, discarded, and kept for a look.
fn refused(
    app: &App,
    received: &Received,
    texts: Vec<Option<String>>,
    kept: &mut Vec<QuarantinedEvent>,
) -> Vec<Rejected> {
    app.account.received(received.rejected.len());
    for ((row, error), raw) in received.rejected.iter().zip(texts) {
        app.account.discarded(error.reason(), 1);
        kept.push(QuarantinedEvent { row: *row, reason: error.reason().to_owned(), raw });
    }
    received.rejected.iter().map(|(index, error)| Rejected { index: *index, reason: error.reason().into() }).collect()
}

/// When the body was sent, by the sender's clock; CMCD does not tell. If the newest record is young, that clock goes
/// right, and now is when. If not, the clock is wrong or the body was kept back: then it is the newest record's time,
/// which does no harm to durations. Times more than two days off count only if all are.
fn sent_ms(received: &Received, received_ms: u64) -> u64 {
    let ends = received.records.iter().map(|record| {
        let cmcd = &record.cmcd;
        cmcd.ts_ms.unwrap_or(0).saturating_add(cmcd.ttlb_ms.unwrap_or(0))
    });
    let newest = |near: bool| ends.clone().filter(|ms| !near || ms.abs_diff(received_ms) <= EVENT_MAX_AGE_MS).max();
    match newest(true).or_else(|| newest(false)) {
        Some(newest) if received_ms.abs_diff(newest) > CLOCKS_AGREE_MS => newest,
        _ => received_ms,
    }
}

/// Records by view and content, in the order of their first.
fn groups(
    app: &App,
    sender: &Sender,
    received: Received,
    rejected: &mut Vec<Rejected>,
    kept: &mut Vec<QuarantinedEvent>,
) -> Vec<Group> {
    let mark = sender.mark.unwrap_or_else(|| mark(app, IpAddr::V4(Ipv4Addr::UNSPECIFIED)));
    let (mut linked, mut unlinked) = (0, 0);
    let mut all = Vec::with_capacity(received.records.len());
    for record in received.records {
        let Some(identity) = identify(&record, mark) else {
            app.account.received(1);
            app.account.discarded("bad_id", 1);
            rejected.push(Rejected { index: record.index, reason: "bad_id".into() });
            let raw = quarantine::scrubbed_line(&record.cmcd.encode());
            kept.push(QuarantinedEvent { row: record.index, reason: "bad_id".into(), raw });
            continue;
        };
        if identity.linked {
            linked += 1;
        } else {
            unlinked += 1;
        }
        all.push((record.index, to_event(&record.cmcd, &identity), identity));
    }
    fill_in(&mut all);
    let mut groups: Vec<Group> = Vec::new();
    let mut places: HashMap<_, usize> = HashMap::new();
    for (index, mapped, identity) in all {
        let (sdk, ctx) = (mapped.sdk.clone(), mapped.ctx.clone());
        let key =
            (ctx.view_id.clone(), ctx.content_id.clone(), ctx.stream_type.clone(), ctx.format.clone(), sdk.clone());
        let at = *places.entry(key).or_insert(groups.len());
        if at == groups.len() {
            groups.push(Group { view_id: identity.view_id, sdk, ctx, indexes: Vec::new(), records: Vec::new() });
        }
        groups[at].indexes.push(index);
        groups[at].records.push(mapped);
    }
    app.account.cmcd(linked, unlinked);
    groups
}

/// Content, stream type and format hold for a session: records that don't tell them have those of the view's first
/// record in the body that does.
fn fill_in(all: &mut [(usize, Mapped, Identity)]) {
    let mut known: HashMap<String, Context> = HashMap::new();
    for (_, mapped, _) in all.iter().filter(|(.., identity)| identity.linked) {
        let ctx = known.entry(mapped.ctx.view_id.clone()).or_default();
        if ctx.content_id.is_empty() {
            ctx.content_id.clone_from(&mapped.ctx.content_id);
        }
        ctx.stream_type = ctx.stream_type.take().or_else(|| mapped.ctx.stream_type.clone());
        ctx.format = ctx.format.take().or_else(|| mapped.ctx.format.clone());
    }
    for (_, mapped, identity) in all {
        let Some(known) = known.get(&mapped.ctx.view_id).filter(|_| identity.linked) else { continue };
        let ctx = &mut mapped.ctx;
        if ctx.content_id.is_empty() {
            ctx.content_id.clone_from(&known.content_id);
        }
        ctx.stream_type = ctx.stream_type.take().or_else(|| known.stream_type.clone());
        ctx.format = ctx.format.take().or_else(|| known.format.clone());
    }
}

/// A group as the beacon that an SDK would have sent, with what only CMCD has beside it.
fn admit_group(app: &Arc<App>, sender: &Sender, group: Group, sent_ms: u64, received_ms: u64) -> Admitted {
    let Group { view_id, sdk, ctx, records, .. } = group;
    let deployment = app.deployed.now();
    let mut events = Vec::with_capacity(records.len());
    let mut beside = Vec::with_capacity(records.len());
    for Mapped { mut event, live_latency_ms, cdn, rest, .. } in records {
        event.pathway = cdn.filter(|cdn| deployment.pathways.contains_key(cdn.as_str()));
        events.push(event);
        beside.push((live_latency_ms, rest));
    }
    let beacon = Beacon { v: beacon::BEACON_VERSION, sdk, sent_ms, rtt_ms: None, dropped: 0, ctx, events };
    let mut admitted = admit::admit(
        app,
        sender,
        beacon::Received { beacon, view_id, rejected: Vec::new(), rejected_json: Vec::new() },
        received_ms,
    );
    admitted.batch.dropped = None;
    let refused: Vec<usize> = admitted.rejected.iter().map(|event| event.index).collect();
    let kept = beside.into_iter().enumerate().filter(|(index, _)| !refused.contains(index)).map(|(_, beside)| beside);
    for (stamped, (live_latency_ms, rest)) in admitted.batch.events.iter_mut().zip(kept) {
        if stamped.event.kind == "pathway_switch" && stamped.event.to.is_none() {
            stamped.event.to.clone_from(&stamped.event.pathway);
        }
        stamped.live_latency_ms = live_latency_ms;
        stamped.cmcd = clean::cmcd(rest, sender.gpc);
    }
    admitted
}
