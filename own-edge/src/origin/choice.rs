//! Which servers are asked for a path, and in which order: a pure function of their places and the path.

use std::cmp::Reverse;

use serde::Deserialize;
use spillway_routing::hash_pair;

/// What a server is to the edge. In this order they are asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Role {
    /// An edge of the same cluster.
    #[serde(skip)]
    Peer,
    /// An edge nearer to the origins.
    Shield,
    /// What is asked last.
    #[default]
    Origin,
}

/// Where a server stands among the others.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    /// Names it everywhere; the paths' hashes go by it.
    pub name: String,
    pub role: Role,
    /// Smaller numbers first; those of one number share the paths.
    pub priority: u32,
    /// Beginnings of the paths that it serves; none is all.
    pub prefixes: Vec<String>,
}

impl Place {
    /// Its place among those that share paths.
    fn rank(&self, path: &str) -> (u32, &str) {
        (hash_pair(&self.name, path), &self.name)
    }

    /// Length of the longest beginning of `path` that it names.
    fn serves(&self, path: &str) -> Option<usize> {
        if self.prefixes.is_empty() {
            return Some(0);
        }
        self.prefixes.iter().filter(|prefix| path.starts_with(&***prefix)).map(String::len).max()
    }
}

/// Indices of those of `places` that are asked for `path`: peers, shields, origins. Of shields and of origins those
/// that name the longest beginning of the path.
///
/// Peers only for `me`, the name of one that may ask others: those whose hash with the path is higher than its own, the
/// highest first (rendezvous hashing: without one of them, only its paths go elsewhere). Since a request only ever goes
/// up in that order, no two edges can wait for each other, whatever each thinks of the others' health.
pub(super) fn order(places: &[&Place], path: &str, me: Option<&str>) -> Vec<usize> {
    let longest = |role| {
        let those = places.iter().filter(|place| place.role == role);
        those.filter_map(|place| place.serves(path)).max()
    };
    let (shields, origins) = (longest(Role::Shield), longest(Role::Origin));
    let fits = |place: &Place| match place.role {
        Role::Peer => me.is_some_and(|me| place.rank(path) > (hash_pair(me, path), me)),
        Role::Shield => shields.is_some() && place.serves(path) == shields,
        Role::Origin => origins.is_some() && place.serves(path) == origins,
    };
    let mut out: Vec<usize> = (0..places.len()).filter(|at| fits(places[*at])).collect();
    out.sort_by_cached_key(|at| {
        let place = places[*at];
        (place.role, place.priority, Reverse(place.rank(path)))
    });
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(name: &str, role: Role, priority: u32, prefixes: &[&str]) -> Place {
        let prefixes = prefixes.iter().map(ToString::to_string).collect();
        Place { name: name.to_owned(), role, priority, prefixes }
    }

    fn names<'a>(places: &'a [Place], path: &str, me: Option<&str>) -> Vec<&'a str> {
        let refs: Vec<&Place> = places.iter().collect();
        order(&refs, path, me).into_iter().map(|at| &*places[at].name).collect()
    }

    #[test]
    fn shields_come_first_then_origins_by_priority() {
        let places = [
            place("b", Role::Origin, 1, &[]),
            place("a", Role::Origin, 0, &[]),
            place("s", Role::Shield, 9, &[]),
            place("own-b", Role::Peer, 0, &[]),
        ];
        assert_eq!(names(&places, "/1", None), ["s", "a", "b"]);
    }

    #[test]
    fn the_longest_beginning_of_a_path_names_its_origins() {
        let places = [
            place("all", Role::Origin, 0, &[]),
            place("live", Role::Origin, 1, &["/live/", "/vod/live/"]),
            place("live-2", Role::Origin, 2, &["/live/"]),
            place("river", Role::Origin, 3, &["/live/river/"]),
            place("s", Role::Shield, 0, &["/live/"]),
        ];
        for (path, expected) in [
            ("/1", &["all"][..]),
            ("/live", &["all"]),
            ("/live/1", &["s", "live", "live-2"]),
            ("/live/river/1", &["s", "river"]),
            ("/vod/live/1", &["live"]),
        ] {
            assert_eq!(names(&places, path, None), expected, "{path}");
        }
        assert!(names(&places[1..], "/1", None).is_empty(), "nobody serves it");
    }

    #[test]
    fn those_of_one_priority_share_the_paths_and_stand_in_for_each_other() {
        let all: Vec<Place> = ["a", "b", "c"].iter().map(|name| place(name, Role::Shield, 0, &[])).collect();
        let without: Vec<Place> = all.iter().filter(|place| place.name != "a").cloned().collect();
        let mut first = std::collections::BTreeMap::<&str, u32>::new();
        for n in 0..3_000 {
            let path = format!("/live/river/{n}.m4s");
            let order = names(&all, &path, None);
            *first.entry(order[0]).or_default() += 1;
            let left: Vec<&str> = order.into_iter().filter(|name| *name != "a").collect();
            assert_eq!(names(&without, &path, None), left, "{path}");
        }
        assert!(first.values().all(|count| (900..1_100).contains(count)), "{first:?}");
    }

    #[test]
    fn peers_only_ever_ask_upwards_so_that_no_two_wait_for_each_other() {
        let ids = ["own-a", "own-b", "own-c", "own-d"];
        let peers: Vec<Place> = ids.iter().map(|name| place(name, Role::Peer, 0, &[])).collect();
        for n in 0..200 {
            let path = format!("/{n}");
            let lengths: Vec<usize> = ids.iter().map(|me| names(&peers, &path, Some(me)).len()).collect();
            let mut sorted = lengths.clone();
            sorted.sort_unstable();
            assert_eq!(sorted, [0, 1, 2, 3], "one owner, and a line behind it");
            for (at, me) in ids.iter().enumerate() {
                // Whom I may ask stands before me in everybody's line.
                for above in names(&peers, &path, Some(me)) {
                    let theirs = ids.iter().position(|id| *id == above).expect("one of them");
                    assert!(lengths[theirs] < lengths[at], "{me} asks {above} for {path}");
                }
            }
        }
    }
}
