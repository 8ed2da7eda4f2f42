//! A round's input as the lake keeps it, and back again without loss. Every field is named here on both ways, so that
//! one that is added to the core and not recorded does not compile.

use std::sync::Arc;

use spillway_model::{
    BitsPerSecond, ContentClass, ContentId, GroupId, IdError, Millis, OriginGroupId, PathwayId, Ppm, RegionId,
    TimestampMs, UnknownWord,
};
use spillway_orchestrator_core as core;
use spillway_routing::Target;
use spillway_wire::round::{self as wire, Exact, ROUND_VERSION};

/// Why a recorded round does not read.
#[derive(Debug, thiserror::Error)]
pub enum ShapeError {
    /// An id that is none.
    #[error(transparent)]
    Id(#[from] IdError),
    /// A word outside its set.
    #[error(transparent)]
    Word(#[from] UnknownWord),
    /// Another word outside its set.
    #[error("{what} {value:?} is unknown (valid: {valid})")]
    Unknown {
        /// Of what.
        what: &'static str,
        /// The word.
        value: String,
        /// What would be valid.
        valid: &'static str,
    },
}

fn unknown<T>(what: &'static str, value: String, valid: &'static str) -> Result<T, ShapeError> {
    Err(ShapeError::Unknown { what, value, valid })
}

fn texts<T: ToString>(id: Option<&T>) -> Option<String> {
    id.map(ToString::to_string)
}

fn region(id: Option<String>) -> Result<Option<RegionId>, IdError> {
    id.map(|id| RegionId::new(&id)).transpose()
}

fn each<A, B>(all: Vec<A>, one: impl Fn(A) -> Result<B, ShapeError>) -> Result<Vec<B>, ShapeError> {
    all.into_iter().map(one).collect()
}

/// The evidence of a round.
pub(crate) fn heard(input: &core::RoundInput) -> wire::Heard {
    let core::RoundInput {
        cells,
        loads,
        probes,
        content,
        overrides,
        classes,
        origins,
        limits,
        calm,
        baselines: _,
        learned: _,
        bills: _,
        frames_expected,
        frames_received,
        drill,
    } = input;
    wire::Heard {
        v: ROUND_VERSION,
        cells: cells.iter().map(cell_out).collect(),
        loads: loads.iter().map(load_out).collect(),
        probes: probes.iter().map(probe_out).collect(),
        content: content
            .iter()
            .map(|core::ContentEvidence { content, region, views_active }| wire::HeardContent {
                content: content.to_string(),
                region: region.to_string(),
                views_active: *views_active,
            })
            .collect(),
        overrides: overrides.iter().map(override_out).collect(),
        classes: classes
            .iter()
            .map(|core::ClassEvidence { class, region, views_active }| wire::HeardClass {
                class: class.to_string(),
                region: region.to_string(),
                views_active: *views_active,
            })
            .collect(),
        origins: origins.iter().map(origin_out).collect(),
        limits: limits
            .iter()
            .map(|core::CapacityLimit { pathway, region, soft, hard, until }| wire::HeardLimit {
                pathway: pathway.to_string(),
                region: texts(region.as_ref()),
                soft_bps: soft.map(|soft| soft.0),
                hard_bps: hard.0,
                until_ms: until.0,
            })
            .collect(),
        calm: calm
            .iter()
            .map(|core::Calm { kind, region, until, reason }| wire::HeardCalm {
                kind: kind.as_str().to_owned(),
                region: texts(region.as_ref()),
                until_ms: until.0,
                reason: reason.clone(),
            })
            .collect(),
        frames_expected: *frames_expected,
        frames_received: *frames_received,
        drill: drill.as_ref().map(Into::into),
    }
}

/// What the lake had taught by a round.
pub(crate) fn taught(input: &core::RoundInput) -> wire::Taught {
    let core::Learned { baselines, networks, hit_ratios, growth_10min, bits_per_view } = &*input.learned;
    let lately = input.baselines.iter().map(|((pathway, region), rate)| (pathway, region, None, rate));
    let of_hours = baselines.iter().map(|((pathway, region, hour), rate)| (pathway, region, Some(*hour), rate));
    wire::Taught {
        v: ROUND_VERSION,
        usual: lately
            .chain(of_hours)
            .map(|(pathway, region, hour_of_week, rate)| wire::UsualRate {
                pathway: pathway.to_string(),
                region: region.to_string(),
                hour_of_week,
                rate: Exact(*rate),
            })
            .collect(),
        networks: networks
            .iter()
            .map(|((pathway, region, asn), core::NetworkHealth { windows, bad_windows })| wire::NetworkWindows {
                pathway: pathway.to_string(),
                region: region.to_string(),
                asn: *asn,
                windows: Exact(*windows),
                bad_windows: Exact(*bad_windows),
            })
            .collect(),
        hit_ratios: hit_ratios
            .iter()
            .map(|(id, core::HitRatio { warm, after_move })| {
                (id.to_string(), wire::TaughtHits { warm: Exact(*warm), after_move: Exact(*after_move) })
            })
            .collect(),
        growth_10min: growth_10min.iter().map(|(id, factor)| (id.to_string(), Exact(*factor))).collect(),
        bits_per_view_bps: bits_per_view.iter().map(|(id, bits)| (id.to_string(), bits.0)).collect(),
        bills: input
            .bills
            .iter()
            .map(|(id, core::Bill { used_gb, profile, level_mbps, free_slots })| {
                let (used_gb, profile, level_mbps) = (Exact(*used_gb), Exact(*profile), Exact(*level_mbps));
                (id.to_string(), wire::TaughtBill { used_gb, profile, level_mbps, free_slots: *free_slots })
            })
            .collect(),
    }
}

/// A round's evidence as the core takes it; [`teach`] adds what was taught.
///
/// # Errors
/// [`ShapeError`] for the first text that is no id or word.
pub(crate) fn input(heard: wire::Heard) -> Result<core::RoundInput, ShapeError> {
    let wire::Heard { v: _, frames_expected, frames_received, drill, .. } = heard;
    Ok(core::RoundInput {
        cells: each(heard.cells, cell_in)?,
        loads: each(heard.loads, load_in)?,
        probes: each(heard.probes, probe_in)?,
        content: each(heard.content, |title| {
            let (content, region) = (ContentId::new(&title.content)?, RegionId::new(&title.region)?);
            Ok(core::ContentEvidence { content, region, views_active: title.views_active })
        })?,
        overrides: each(heard.overrides, override_in)?,
        classes: each(heard.classes, |of| {
            let (class, region) = (ContentClass::new(&of.class)?, RegionId::new(&of.region)?);
            Ok(core::ClassEvidence { class, region, views_active: of.views_active })
        })?,
        origins: each(heard.origins, origin_in)?,
        limits: each(heard.limits, |limit| {
            Ok(core::CapacityLimit {
                pathway: PathwayId::new(&limit.pathway)?,
                region: region(limit.region)?,
                soft: limit.soft_bps.map(BitsPerSecond),
                hard: BitsPerSecond(limit.hard_bps),
                until: TimestampMs(limit.until_ms),
            })
        })?,
        calm: each(heard.calm, |calm| {
            let kind = match calm.kind.as_str() {
                "freeze" => core::CalmKind::Freeze,
                "ad break" => core::CalmKind::AdBreak,
                "event" => core::CalmKind::Event,
                _ => return unknown("calm", calm.kind, "freeze, ad break, event"),
            };
            let until = TimestampMs(calm.until_ms);
            Ok(core::Calm { kind, region: region(calm.region)?, until, reason: calm.reason })
        })?,
        frames_expected,
        frames_received,
        drill: drill.map(TryInto::try_into).transpose()?,
        ..core::RoundInput::default()
    })
}

/// What was taught, as the core takes it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lessons(core::RoundInput);

impl Lessons {
    /// Adds it to a round's input.
    pub(crate) fn teach(&self, input: &mut core::RoundInput) {
        input.baselines.clone_from(&self.0.baselines);
        input.learned = Arc::clone(&self.0.learned);
        input.bills.clone_from(&self.0.bills);
    }
}

impl TryFrom<wire::Taught> for Lessons {
    type Error = ShapeError;

    fn try_from(taught: wire::Taught) -> Result<Self, ShapeError> {
        let mut out = core::RoundInput::default();
        let mut learned = core::Learned::default();
        for usual in taught.usual {
            let (pathway, region) = (PathwayId::new(&usual.pathway)?, RegionId::new(&usual.region)?);
            match usual.hour_of_week {
                Some(hour) => learned.baselines.insert((pathway, region, hour), usual.rate.0),
                None => out.baselines.insert((pathway, region), usual.rate.0),
            };
        }
        for network in taught.networks {
            let key = (PathwayId::new(&network.pathway)?, RegionId::new(&network.region)?, network.asn);
            let health = core::NetworkHealth { windows: network.windows.0, bad_windows: network.bad_windows.0 };
            learned.networks.insert(key, health);
        }
        for (id, wire::TaughtHits { warm, after_move }) in taught.hit_ratios {
            learned.hit_ratios.insert(PathwayId::new(&id)?, core::HitRatio { warm: warm.0, after_move: after_move.0 });
        }
        for (id, factor) in taught.growth_10min {
            learned.growth_10min.insert(RegionId::new(&id)?, factor.0);
        }
        for (id, bits) in taught.bits_per_view_bps {
            learned.bits_per_view.insert(RegionId::new(&id)?, BitsPerSecond(bits));
        }
        for (id, wire::TaughtBill { used_gb, profile, level_mbps, free_slots }) in taught.bills {
            let (used_gb, profile, level_mbps) = (used_gb.0, profile.0, level_mbps.0);
            out.bills.insert(PathwayId::new(&id)?, core::Bill { used_gb, profile, level_mbps, free_slots });
        }
        out.learned = Arc::new(learned);
        Ok(Self(out))
    }
}

fn cell_out(cell: &core::CellEvidence) -> wire::HeardCell {
    let core::CellEvidence {
        at,
        interval,
        source,
        kind,
        pathway,
        region,
        asn,
        protocol,
        views_active,
        views_fixed,
        views_bad,
        views_new,
        windows,
        bad_windows,
        weight_milli,
        bad_weight_milli,
        weight_sq_micro,
        requests_ok,
        requests_failed,
        requests_late,
        views_failing,
        views_late,
        bits,
        heartbeats_due,
        heartbeats_received,
        sessions_assigned,
        sessions_polling,
        ghost_starts,
        sessions_untrusted,
        sessions_settled,
        sessions_fled,
    } = cell.clone();
    wire::HeardCell {
        at_ms: at.0,
        interval_ms: interval.0,
        source,
        kind: match kind {
            core::SourceKind::Collector => "collector".into(),
            core::SourceKind::Steer => "steer".into(),
        },
        pathway: pathway.to_string(),
        region: region.to_string(),
        asn,
        protocol: protocol.to_string(),
        views_active,
        views_fixed,
        views_bad,
        views_new,
        windows,
        bad_windows,
        weight_milli,
        bad_weight_milli,
        weight_sq_micro,
        requests_ok,
        requests_failed,
        requests_late,
        views_failing,
        views_late,
        bits,
        heartbeats_due,
        heartbeats_received,
        sessions_assigned,
        sessions_polling,
        ghost_starts,
        sessions_untrusted,
        sessions_settled,
        sessions_fled,
    }
}

fn cell_in(cell: wire::HeardCell) -> Result<core::CellEvidence, ShapeError> {
    Ok(core::CellEvidence {
        at: TimestampMs(cell.at_ms),
        interval: Millis(cell.interval_ms),
        source: cell.source,
        kind: match cell.kind.as_str() {
            "collector" => core::SourceKind::Collector,
            "steer" => core::SourceKind::Steer,
            _ => return unknown("kind of source", cell.kind, "collector, steer"),
        },
        pathway: PathwayId::new(&cell.pathway)?,
        region: RegionId::new(&cell.region)?,
        asn: cell.asn,
        protocol: cell.protocol.parse()?,
        views_active: cell.views_active,
        views_fixed: cell.views_fixed,
        views_bad: cell.views_bad,
        views_new: cell.views_new,
        windows: cell.windows,
        bad_windows: cell.bad_windows,
        weight_milli: cell.weight_milli,
        bad_weight_milli: cell.bad_weight_milli,
        weight_sq_micro: cell.weight_sq_micro,
        requests_ok: cell.requests_ok,
        requests_failed: cell.requests_failed,
        requests_late: cell.requests_late,
        views_failing: cell.views_failing,
        views_late: cell.views_late,
        bits: cell.bits,
        heartbeats_due: cell.heartbeats_due,
        heartbeats_received: cell.heartbeats_received,
        sessions_assigned: cell.sessions_assigned,
        sessions_polling: cell.sessions_polling,
        ghost_starts: cell.ghost_starts,
        sessions_untrusted: cell.sessions_untrusted,
        sessions_settled: cell.sessions_settled,
        sessions_fled: cell.sessions_fled,
    })
}

const fn origin_word(seen: core::OriginSeen) -> &'static str {
    match seen {
        core::OriginSeen::Up => "up",
        core::OriginSeen::Failing => "failing",
        core::OriginSeen::Unknown => "unknown",
    }
}

fn origin_seen(word: String) -> Result<core::OriginSeen, ShapeError> {
    match word.as_str() {
        "up" => Ok(core::OriginSeen::Up),
        "failing" => Ok(core::OriginSeen::Failing),
        "unknown" => Ok(core::OriginSeen::Unknown),
        _ => unknown("state of an origin", word, "up, failing, unknown"),
    }
}

fn load_out(load: &core::LoadEvidence) -> wire::HeardLoad {
    let core::LoadEvidence {
        pathway,
        at,
        ceiling,
        bits_out_10s,
        viewers,
        bits_per_viewer,
        hit_ratio,
        origin,
        draining,
    } = load;
    wire::HeardLoad {
        pathway: pathway.to_string(),
        at_ms: at.0,
        ceiling_bps: ceiling.0,
        bits_out_10s_bps: bits_out_10s.0,
        viewers: *viewers,
        bits_per_viewer_bps: bits_per_viewer.0,
        hit_ratio_ppm: hit_ratio.map(|ratio| ratio.0),
        origin: origin_word(*origin).to_owned(),
        draining: *draining,
    }
}

fn load_in(load: wire::HeardLoad) -> Result<core::LoadEvidence, ShapeError> {
    Ok(core::LoadEvidence {
        pathway: PathwayId::new(&load.pathway)?,
        at: TimestampMs(load.at_ms),
        ceiling: BitsPerSecond(load.ceiling_bps),
        bits_out_10s: BitsPerSecond(load.bits_out_10s_bps),
        viewers: load.viewers,
        bits_per_viewer: BitsPerSecond(load.bits_per_viewer_bps),
        hit_ratio: load.hit_ratio_ppm.map(Ppm),
        origin: origin_seen(load.origin)?,
        draining: load.draining,
    })
}

fn probe_out(probe: &core::ProbeEvidence) -> wire::HeardProbe {
    let core::ProbeEvidence { pathway, region, object, at, ok, total_ms, detail } = probe;
    wire::HeardProbe {
        pathway: pathway.to_string(),
        region: region.to_string(),
        object: match object {
            core::ProbeObject::Small => "small".into(),
            core::ProbeObject::Segment => "segment".into(),
            core::ProbeObject::Miss => "miss".into(),
        },
        at_ms: at.0,
        ok: *ok,
        total_ms: *total_ms,
        detail: detail.clone(),
    }
}

fn probe_in(probe: wire::HeardProbe) -> Result<core::ProbeEvidence, ShapeError> {
    Ok(core::ProbeEvidence {
        pathway: PathwayId::new(&probe.pathway)?,
        region: RegionId::new(&probe.region)?,
        object: match probe.object.as_str() {
            "small" => core::ProbeObject::Small,
            "segment" => core::ProbeObject::Segment,
            "miss" => core::ProbeObject::Miss,
            _ => return unknown("object of a probe", probe.object, "small, segment, miss"),
        },
        at: TimestampMs(probe.at_ms),
        ok: probe.ok,
        total_ms: probe.total_ms,
        detail: probe.detail,
    })
}

fn origin_out(origin: &core::OriginEvidence) -> wire::HeardOrigin {
    let core::OriginEvidence { origin_group, at, bits_out_10s, state, failing_content } = origin;
    wire::HeardOrigin {
        origin_group: origin_group.to_string(),
        at_ms: at.0,
        bits_out_10s_bps: bits_out_10s.0,
        state: origin_word(*state).to_owned(),
        failing_content: failing_content.iter().map(ToString::to_string).collect(),
    }
}

fn origin_in(origin: wire::HeardOrigin) -> Result<core::OriginEvidence, ShapeError> {
    Ok(core::OriginEvidence {
        origin_group: OriginGroupId::new(&origin.origin_group)?,
        at: TimestampMs(origin.at_ms),
        bits_out_10s: BitsPerSecond(origin.bits_out_10s_bps),
        state: origin_seen(origin.state)?,
        failing_content: each(origin.failing_content, |title| Ok(ContentId::new(&title)?))?,
    })
}

fn override_out(order: &core::Override) -> wire::HeardOverride {
    let core::Override { id, kind, target, region, by, reason, since, expires } = order;
    let (pathway, group) = match target {
        Target::Pathway(id) => (Some(id.to_string()), None),
        Target::Group(id) => (None, Some(id.to_string())),
    };
    let (weight, cap_bps) = match kind {
        core::OverrideKind::Weight(share) => (Some(Exact(*share)), None),
        core::OverrideKind::Cap(cap) => (None, Some(cap.0)),
        core::OverrideKind::Drain | core::OverrideKind::Exclude | core::OverrideKind::Pin => (None, None),
    };
    wire::HeardOverride {
        id: id.clone(),
        kind: kind.as_str().to_owned(),
        weight,
        cap_bps,
        pathway,
        group,
        region: texts(region.as_ref()),
        by: by.clone(),
        reason: reason.clone(),
        since_ms: since.0,
        expires_ms: expires.0,
    }
}

fn override_in(order: wire::HeardOverride) -> Result<core::Override, ShapeError> {
    let kind = match (order.kind.as_str(), order.weight, order.cap_bps) {
        ("drain", None, None) => core::OverrideKind::Drain,
        ("exclude", None, None) => core::OverrideKind::Exclude,
        ("pin", None, None) => core::OverrideKind::Pin,
        ("weight", Some(share), None) => core::OverrideKind::Weight(share.0),
        ("cap", None, Some(cap)) => core::OverrideKind::Cap(BitsPerSecond(cap)),
        _ => return unknown("override", order.kind, "drain, exclude, pin, weight with weight, cap with cap_bps"),
    };
    let target = match (order.pathway, order.group) {
        (Some(id), None) => Target::Pathway(PathwayId::new(&id)?),
        (None, Some(id)) => Target::Group(GroupId::new(&id)?),
        _ => return unknown("target of override", order.id, "one of pathway and group"),
    };
    Ok(core::Override {
        id: order.id,
        kind,
        target,
        region: region(order.region)?,
        by: order.by,
        reason: order.reason,
        since: TimestampMs(order.since_ms),
        expires: TimestampMs(order.expires_ms),
    })
}
