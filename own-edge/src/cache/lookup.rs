//! From a key to where its answer comes from.

use std::sync::Arc;

use spillway_model::Millis;

use crate::cache::fetch::{self, Wanted};
use crate::cache::fill::{Joined, Reader};
use crate::cache::object::{Key, Object, Stored};
use crate::edge::Edge;
use crate::rules::freshness::State;
use crate::serve::informed::Informed;
use crate::serve::receive::Asked;

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

/// What is not served from memory: the key of the request, and what is kept under it.
pub(crate) struct NotKept {
    key: Key,
    object: Option<Arc<Object>>,
}

/// What serves `asked` from memory at `now`.
///
/// # Errors
/// [`NotKept`] when nothing does.
pub(crate) fn kept(edge: &Arc<Edge>, asked: &Asked, now: Millis) -> Result<Found, NotKept> {
    let (key, kept) = edge.store.find(&asked.key, &asked.fields.headers);
    let Some(object) = kept.filter(|object| is_whole(edge, &key, object)) else {
        return Err(NotKept { key, object: None });
    };
    match object.state(now) {
        State::Fresh(ttl_s) => {
            edge.used_again(&key, &object);
            Ok(Found::Fresh(object, ttl_s))
        }
        State::StaleWhileRevalidate => {
            // Nobody waits for this one; whoever comes next finds what it brings.
            drop(begin(edge, &key, true, || Wanted::by(edge, asked, None)));
            Ok(Found::Stale(object, "stale-while-revalidate"))
        }
        State::Stale
            if object.is_put_off(now) && object.freshness.serves_without_origin(now, edge.terms().stale_on_error_s) =>
        {
            Ok(Found::Stale(object, "origin-failed-just-now"))
        }
        State::Stale => Err(NotKept { key, object: Some(object) }),
    }
}

/// Looks `asked` up, and begins what must be fetched; `informed` hears of what comes before that answer.
pub(crate) fn lookup(edge: &Arc<Edge>, asked: &Asked, informed: Option<Informed>) -> Found {
    let now = edge.now();
    let NotKept { key, object } = match kept(edge, asked, now) {
        Ok(found) => return found,
        Err(not_kept) => not_kept,
    };
    let alone = match () {
        () if asked.head_only && !edge.disk.as_ref().is_some_and(|disk| disk.has(&key)) => Some("head"),
        () if edge.store.is_marked(&key, now) => Some("uncacheable"),
        () => None,
    };
    match alone {
        Some(reason) => Found::Pass(reason),
        None => begin(edge, &key, object.is_some(), || Wanted::by(edge, asked, informed)),
    }
}

/// Joins the fill of `key`, or begins it, with what is kept as what to revalidate; `stale` says whether something was.
pub(crate) fn begin(edge: &Arc<Edge>, key: &Key, stale: bool, wanted: impl FnOnce() -> Wanted) -> Found {
    // Looked up once more: what was purged since must not help out.
    let mut past_its_time = None;
    let fresh_now = || {
        let object = edge.store.get(key)?;
        match fresh_for_s(edge, &object) {
            Some(_) => Some(object),
            None => {
                past_its_time = Some(object);
                None
            }
        }
    };
    match edge.fills.join(key, fresh_now) {
        Joined::Kept(object) => {
            let ttl_s = fresh_for_s(edge, &object).unwrap_or(0);
            Found::Fresh(object, ttl_s)
        }
        Joined::Waiter(reader) => Found::Filling { reader, first: false, stale },
        Joined::First(reader, writer) => {
            tokio::spawn(fetch::fill(edge.clone(), key.clone(), wanted(), past_its_time, writer));
            Found::Filling { reader, first: true, stale }
        }
    }
}

/// Whether nobody wrote to an object's file behind our back; otherwise it is forgotten.
fn is_whole(edge: &Edge, key: &Key, object: &Arc<Object>) -> bool {
    let Stored::File(file) = object.body.stored() else { return true };
    let whole = file.0.is_as_opened();
    if !whole {
        edge.drop_damaged(key, object);
    }
    whole
}

fn fresh_for_s(edge: &Edge, object: &Object) -> Option<u64> {
    match object.state(edge.now()) {
        State::Fresh(ttl_s) => Some(ttl_s),
        _ => None,
    }
}
