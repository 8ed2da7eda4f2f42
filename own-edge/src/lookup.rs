//! From a key to where its answer comes from.

use std::sync::Arc;

use crate::connection::Informed;
use crate::edge::Edge;
use crate::fetch::{self, Wanted};
use crate::fill::{Joined, Reader};
use crate::object::{Key, Object};
use crate::receive::Asked;
use crate::rules::freshness::State;

/// Where an answer comes from.
pub(crate) enum Found {
    /// From memory; fresh for so many seconds.
    Fresh(Arc<Object>, u64),
    /// From memory, past its freshness; the word says why that is allowed.
    Stale(Arc<Object>, &'static str),
    /// From a fill.
    Filling {
        reader: Reader,
        /// This request began it.
        first: bool,
        /// Something is kept, and is to be revalidated.
        stale: bool,
    },
    /// From the origin, for this request alone; the word says why.
    Pass(&'static str),
}

/// Looks `asked` up, and begins what must be fetched; `informed` hears of what comes before that answer.
pub(crate) fn lookup(edge: &Arc<Edge>, asked: &Asked, informed: Option<Informed>) -> Found {
    let now = edge.now();
    let (key, kept) = edge.store.find(&asked.key, &asked.headers);
    let wanted = |informed| Wanted::by(edge, asked, informed);
    if let Some(object) = &kept {
        match object.state(now) {
            State::Fresh(ttl_s) => return Found::Fresh(object.clone(), ttl_s),
            State::StaleWhileRevalidate => {
                // Nobody waits for this one; whoever comes next finds what it brings.
                drop(begin(edge, &key, kept.as_ref(), || wanted(None)));
                return Found::Stale(object.clone(), "stale-while-revalidate");
            }
            State::Stale
                if object.is_put_off(now)
                    && object.freshness.serves_without_origin(now, edge.plan.stale_on_error_s) =>
            {
                return Found::Stale(object.clone(), "origin-failed-just-now");
            }
            State::Stale => {}
        }
    }
    let alone = match () {
        () if asked.head_only => Some("head"),
        () if edge.store.is_marked(&key, now) => Some("uncacheable"),
        () => None,
    };
    match alone {
        Some(reason) => Found::Pass(reason),
        None => begin(edge, &key, kept.as_ref(), || wanted(informed)),
    }
}

/// Joins the fill of `key`, or begins it, with what is kept as what to revalidate.
pub(crate) fn begin(edge: &Arc<Edge>, key: &Key, kept: Option<&Arc<Object>>, wanted: impl FnOnce() -> Wanted) -> Found {
    let fresh_now = || edge.store.get(key).filter(|object| fresh_for_s(edge, object).is_some());
    match edge.fills.join(key, fresh_now) {
        Joined::Kept(object) => {
            let ttl_s = fresh_for_s(edge, &object).unwrap_or(0);
            Found::Fresh(object, ttl_s)
        }
        Joined::Waiter(reader) => Found::Filling { reader, first: false, stale: kept.is_some() },
        Joined::First(reader, writer) => {
            tokio::spawn(fetch::fill(edge.clone(), key.clone(), wanted(), kept.cloned(), writer));
            Found::Filling { reader, first: true, stale: kept.is_some() }
        }
    }
}

fn fresh_for_s(edge: &Edge, object: &Object) -> Option<u64> {
    match object.state(edge.now()) {
        State::Fresh(ttl_s) => Some(ttl_s),
        _ => None,
    }
}
