//! Who may: sessions that run go on, new ones only while the node has room and its orders say so.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, Hash as _, Hasher as _};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use quick_cache::DefaultHashBuilder;
use spillway_model::Millis;
use spillway_wire::load::Directives;

/// A session that was served within runs, and goes on.
const RUNNING_MS: u64 = 30_000;
/// A session that was served within is a viewer.
const VIEWER_MS: u64 = 10_000;
/// Sessions remembered; more are served, and stay new.
const SESSIONS_MAX: usize = 200_000;
const SHARDS: usize = 16;
/// Orders that nobody renews end: an orchestrator that died must not keep viewers out.
const ORDERS_KEPT_MS: u64 = 30_000;

/// Which session a request belongs to (a hash, salted per process).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct SessionKey(u64);

impl SessionKey {
    /// Of a request of another edge, which is no session here.
    pub(crate) const NONE: Self = Self(0);

    /// Its place among all sessions, 0 to 999,999.
    pub(crate) const fn share_ppm(self) -> u32 {
        (self.0 % 1_000_000) as u32
    }
}

/// Sessions by when they were served last.
pub(crate) struct Sessions {
    salt: DefaultHashBuilder,
    shards: [Mutex<Shard>; SHARDS],
}

/// Monotonic milliseconds by key.
type Shard = HashMap<u64, u64, DefaultHashBuilder>;

impl Sessions {
    pub(crate) fn new() -> Self {
        Self { salt: DefaultHashBuilder::default(), shards: std::array::from_fn(|_| Mutex::default()) }
    }

    /// The session of a client that says its session's id, or, without one, of a device at an address.
    pub(crate) fn key(&self, client: IpAddr, sid: Option<&str>, user_agent: Option<&[u8]>) -> SessionKey {
        let mut hasher = self.salt.build_hasher();
        client.hash(&mut hasher);
        match sid {
            Some(sid) => (true, sid).hash(&mut hasher),
            None => (false, user_agent.unwrap_or_default()).hash(&mut hasher),
        }
        SessionKey(hasher.finish().max(1))
    }

    fn shard(&self, key: SessionKey) -> std::sync::MutexGuard<'_, Shard> {
        self.shards[(key.0 % SHARDS as u64) as usize].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the session runs; if so, it is served once more.
    fn runs_on(&self, key: SessionKey, now: Millis) -> bool {
        match self.shard(key).get_mut(&key.0) {
            Some(seen_ms) if now.0.saturating_sub(*seen_ms) < RUNNING_MS => {
                *seen_ms = now.0.max(*seen_ms);
                true
            }
            _ => false,
        }
    }

    /// The session was served.
    pub(crate) fn served(&self, key: SessionKey, now: Millis) {
        if key == SessionKey::NONE {
            return;
        }
        let mut shard = self.shard(key);
        if shard.len() < SESSIONS_MAX / SHARDS || shard.contains_key(&key.0) {
            shard.insert(key.0, now.0);
        }
    }

    /// Viewers now; forgets who is gone.
    pub(crate) fn viewers(&self, now: Millis) -> u64 {
        let mut viewers = 0;
        for shard in &self.shards {
            let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            shard.retain(|_, seen_ms| now.0.saturating_sub(*seen_ms) < RUNNING_MS);
            viewers += shard.values().filter(|seen_ms| now.0.saturating_sub(**seen_ms) < VIEWER_MS).count() as u64;
        }
        viewers
    }
}

/// What the orchestrator last ordered.
pub(crate) struct Orders(RwLock<Arc<Order>>);

/// One order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Order {
    /// Epoch that it comes from.
    pub epoch: u64,
    /// New sessions are admitted.
    pub admit: bool,
    /// Where new sessions go instead: absolute base URL without a slash at its end.
    pub redirect_to: Option<String>,
    /// Being drained: new sessions are not admitted, whatever `admit` says.
    pub drain: bool,
    received: Millis,
}

/// Whether a session is served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    /// It is.
    Served,
    /// It is not; a word says why, a URL where it may go.
    Refused(&'static str, Option<String>),
}

impl Orders {
    pub(crate) fn new() -> Self {
        Self(RwLock::new(Arc::new(Order::none())))
    }

    /// The order in force.
    pub(crate) fn current(&self, now: Millis) -> Arc<Order> {
        let order = self.0.read().unwrap_or_else(PoisonError::into_inner).clone();
        let expired = now.saturating_sub(order.received).0 >= ORDERS_KEPT_MS;
        if expired { Arc::new(Order::none()) } else { order }
    }

    /// Takes an answer, unless a newer decision is known and still in force. Whether it was taken.
    pub(crate) fn take(&self, directives: &Directives, now: Millis) -> bool {
        if directives.epoch < self.current(now).epoch {
            return false;
        }
        let redirect_to = directives
            .redirect_to
            .as_deref()
            .filter(|url| url.starts_with("http://") || url.starts_with("https://"))
            .map(|url| url.trim_end_matches('/').to_owned());
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(Order {
            epoch: directives.epoch,
            admit: directives.admit,
            redirect_to,
            drain: directives.drain,
            received: now,
        });
        true
    }
}

impl Order {
    fn none() -> Self {
        Self { epoch: 0, admit: true, redirect_to: None, drain: false, received: Millis(0) }
    }
}

/// Decides over one request, and notes that its session is served, if it is. `has_room` is asked for new sessions only.
pub(crate) fn admit(
    sessions: &Sessions,
    session: SessionKey,
    order: &Order,
    stopping: bool,
    has_room: impl FnOnce() -> bool,
    now: Millis,
) -> Admission {
    if sessions.runs_on(session, now) {
        return Admission::Served;
    }
    match closed(order, stopping, has_room) {
        Some(reason) => Admission::Refused(reason, order.redirect_to.clone()),
        None => {
            sessions.served(session, now);
            Admission::Served
        }
    }
}

/// A word that says why new sessions are not served; none while they are.
pub(crate) fn closed(order: &Order, stopping: bool, has_room: impl FnOnce() -> bool) -> Option<&'static str> {
    match () {
        () if order.drain || stopping => Some("drain"),
        () if !order.admit => Some("not-admitted"),
        () if !has_room() => Some("full"),
        () => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOME: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    #[test]
    fn a_session_is_an_address_and_an_id_or_a_device() {
        let sessions = Sessions::new();
        let other: IpAddr = "192.0.2.1".parse().expect("address");
        let keys = [
            sessions.key(HOME, Some("a"), None),
            sessions.key(HOME, Some("b"), None),
            sessions.key(other, Some("a"), None),
            sessions.key(HOME, None, Some(b"a")),
            sessions.key(HOME, None, None),
        ];
        let distinct: std::collections::HashSet<_> = keys.iter().collect();
        assert_eq!(distinct.len(), keys.len());
        assert_eq!(sessions.key(HOME, Some("a"), Some(b"x")), keys[0]);
    }

    #[test]
    fn a_viewer_ends_after_ten_seconds_and_a_running_session_after_thirty() {
        let sessions = Sessions::new();
        for n in 0..5 {
            sessions.served(sessions.key(HOME, Some(&n.to_string()), None), Millis(n * 1_000));
        }
        assert_eq!(sessions.viewers(Millis(4_000)), 5);
        assert_eq!(sessions.viewers(Millis(11_999)), 3);
        let first = sessions.key(HOME, Some("0"), None);
        assert!(sessions.runs_on(first, Millis(29_999)) && !sessions.runs_on(first, Millis(59_999)));
        assert_eq!(sessions.viewers(Millis(60_000)), 0);
    }

    #[test]
    fn the_set_of_sessions_is_bounded() {
        let sessions = Sessions::new();
        for n in 0..=(SESSIONS_MAX + 10_000) {
            sessions.served(SessionKey(n as u64), Millis(0));
        }
        assert_eq!(sessions.viewers(Millis(0)), SESSIONS_MAX as u64);
    }

    #[test]
    fn running_sessions_go_on_whatever_is_ordered_and_new_ones_do_not() {
        let sessions = Sessions::new();
        let (running, new) = (SessionKey(1), SessionKey(2));
        sessions.served(running, Millis(0));
        let orders = Orders::new();
        let decide = |session, stopping, room| {
            admit(&sessions, session, &orders.current(Millis(1)), stopping, || room, Millis(1))
        };
        let other = SessionKey(3);
        assert_eq!(decide(other, false, true), Admission::Served);
        assert_eq!(decide(other, false, false), Admission::Served, "it runs now");
        assert_eq!(decide(new, false, false), Admission::Refused("full", None));
        assert_eq!(decide(new, true, true), Admission::Refused("drain", None));
        for directives in [
            Directives { admit: false, ..Directives::default() },
            Directives { admit: true, drain: true, ..Directives::default() },
        ] {
            assert!(orders.take(&directives, Millis(1)));
            assert!(matches!(decide(new, false, true), Admission::Refused(_, None)), "{directives:?}");
            assert_eq!(decide(running, true, false), Admission::Served);
        }
        let elsewhere = Directives { redirect_to: Some("http://b.example/".into()), ..Directives::default() };
        assert!(orders.take(&elsewhere, Millis(1)));
        assert_eq!(decide(new, false, true), Admission::Refused("not-admitted", Some("http://b.example".into())));
    }

    #[test]
    fn an_older_epoch_is_not_obeyed_and_silence_ends_an_order() {
        let orders = Orders::new();
        let closed = Directives { epoch: 5, admit: false, ..Directives::default() };
        assert!(orders.take(&closed, Millis(0)));
        assert!(!orders.take(&Directives { epoch: 4, admit: true, ..Directives::default() }, Millis(1)));
        assert!(!orders.current(Millis(29_999)).admit);
        assert!(orders.current(Millis(30_000)).admit);
        assert!(orders.take(&Directives { epoch: 4, admit: true, ..Directives::default() }, Millis(30_000)));
    }
}
