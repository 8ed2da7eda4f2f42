//! Content steering as a player does it: poll, follow, penalise.

use std::borrow::Cow;
use std::collections::BTreeMap;

use spillway_wire::steering::SteeringAnswer;
use url::Url;

use super::behaviour::{Behaviour, Penalty};

/// TTL before the first answer, as the specification says.
const DEFAULT_TTL_S: u32 = 300;
/// A failed poll is repeated once after this, then at TTL.
const RETRY_S: u32 = 1;

/// What came of a poll.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Poll {
    /// A valid answer: the TTL that it gives.
    Answer {
        /// Seconds until the next poll.
        ttl_s: u32,
    },
    /// No usable answer; the old one holds. Seconds until the next poll.
    Failed {
        /// Seconds until the next poll.
        after_s: u32,
    },
    /// The player polls no more.
    Stopped,
}

/// Steering state of one view. Moments are ms on the viewers' clock.
#[derive(Debug, Clone)]
pub struct Steering {
    behaviour: Behaviour,
    known: Vec<String>,
    order: Vec<String>,
    uri: Option<Url>,
    ttl_s: u32,
    penalties: BTreeMap<String, Penal>,
    failures: u32,
}

#[derive(Debug, Clone, Copy)]
enum Penal {
    Until(u64),
    NextPoll,
}

impl Steering {
    /// For a playlist with these pathways, in its order; `uri` is its `SERVER-URI`.
    #[must_use]
    pub fn new(behaviour: Behaviour, known: Vec<String>, uri: Option<Url>) -> Self {
        let uri = uri.filter(|_| behaviour.is_steerable());
        Self {
            behaviour,
            order: known.clone(),
            known,
            uri,
            ttl_s: DEFAULT_TTL_S,
            penalties: BTreeMap::new(),
            failures: 0,
        }
    }

    /// The URL of the next poll, or none if the player doesn't poll.
    #[must_use]
    pub fn poll_url(&self, pathway: &str, throughput_bps: Option<u64>) -> Option<Url> {
        let mut url = self.uri.clone()?;
        // Both replace parameters of the same name that the URI brings along.
        let kept: Vec<(String, String)> = url
            .query_pairs()
            .filter(|(name, _)| name != "_HLS_pathway" && name != "_HLS_throughput")
            .map(|(name, value)| (name.into_owned(), value.into_owned()))
            .collect();
        {
            let mut query = url.query_pairs_mut();
            query.clear().extend_pairs(kept).append_pair("_HLS_pathway", pathway);
            if let Some(bps) = throughput_bps {
                query.append_pair("_HLS_throughput", &bps.to_string());
            }
        }
        Some(url)
    }

    /// Takes in what a poll of `asked` brought: status and body, or nothing if there was no answer.
    pub fn take(&mut self, asked: &Url, answer: Option<(u16, &[u8])>, retry_after_s: Option<u32>) -> Poll {
        if self.behaviour == Behaviour::Dash {
            self.penalties.retain(|_, penal| !matches!(penal, Penal::NextPoll));
        }
        match answer {
            Some((410, _)) => return self.stop(),
            Some((429, _)) => match (self.behaviour, retry_after_s) {
                (Behaviour::Dash, Some(after_s)) => return Poll::Failed { after_s },
                _ => return self.stop(),
            },
            Some((200, body)) => match serde_json::from_slice::<SteeringAnswer>(body) {
                Ok(answer) if answer.version != 1 => return self.stop(),
                Ok(answer) if !answer.priority.is_empty() && answer.ttl_s > 0 => return self.follow(asked, answer),
                Ok(_) | Err(_) => {}
            },
            Some(_) | None => {}
        }
        self.failures += 1;
        Poll::Failed { after_s: if self.failures % 2 == 1 { RETRY_S } else { self.ttl_s } }
    }

    fn follow(&mut self, asked: &Url, answer: SteeringAnswer<'_>) -> Poll {
        self.failures = 0;
        self.ttl_s = answer.ttl_s;
        if let Some(next) = answer.reload_uri.as_deref().and_then(|uri| asked.join(uri).ok()) {
            self.uri = Some(next);
        }
        let named: Vec<String> =
            answer.priority.into_iter().map(Cow::into_owned).filter(|id| self.known.contains(id)).collect();
        // Nothing but unknown pathways: all players keep what they have.
        if !named.is_empty() {
            let unnamed = self.known.iter().filter(|id| !named.contains(id)).cloned().collect::<Vec<_>>();
            self.order = named.into_iter().chain(unnamed).collect();
        }
        Poll::Answer { ttl_s: self.ttl_s }
    }

    fn stop(&mut self) -> Poll {
        self.uri = None;
        Poll::Stopped
    }

    /// Avoids `pathway` for a while.
    pub fn penalise(&mut self, pathway: &str, penalty: Penalty, now_ms: u64) {
        let penal = match penalty {
            Penalty::For(ms) => Penal::Until(now_ms + ms),
            Penalty::UntilPoll => Penal::NextPoll,
        };
        self.penalties.insert(pathway.to_owned(), penal);
    }

    /// The pathway to play: the first of the order that is not penalised, or none if all are.
    #[must_use]
    pub fn wanted(&self, now_ms: u64) -> Option<&str> {
        let free = |id: &&String| match self.penalties.get(id.as_str()) {
            Some(Penal::Until(until_ms)) => *until_ms <= now_ms,
            Some(Penal::NextPoll) => false,
            None => true,
        };
        self.order.iter().find(free).map(String::as_str)
    }

    /// The order in force, best first.
    #[must_use]
    pub fn order(&self) -> &[String] {
        &self.order
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steering(behaviour: Behaviour) -> Steering {
        let uri = Url::parse("http://s.example/v1/steer/hls?t=v~eu&_HLS_pathway=old").expect("url");
        Steering::new(behaviour, vec!["a".into(), "b".into()], Some(uri))
    }

    fn take(steering: &mut Steering, body: &str) -> Poll {
        let asked = steering.poll_url("a", None).expect("polls");
        steering.take(&asked, Some((200, body.as_bytes())), None)
    }

    #[test]
    fn a_poll_names_pathway_and_throughput_once_and_keeps_the_token() {
        let url = steering(Behaviour::Hls).poll_url("a", Some(1_500_000)).expect("polls");
        assert_eq!(url.query(), Some("t=v%7Eeu&_HLS_pathway=a&_HLS_throughput=1500000"));
        assert!(steering(Behaviour::Ignores).poll_url("a", None).is_none());
    }

    #[test]
    fn the_answer_is_followed_and_unknown_pathways_are_skipped() {
        let mut steering = steering(Behaviour::Hls);
        let poll = take(
            &mut steering,
            r#"{"VERSION":1,"TTL":5,"RELOAD-URI":"http://s.example/r?t=x","PATHWAY-PRIORITY":["z","b","a"]}"#,
        );
        assert_eq!(poll, Poll::Answer { ttl_s: 5 });
        assert_eq!((steering.wanted(0), steering.order()), (Some("b"), &["b".to_owned(), "a".to_owned()][..]));
        assert_eq!(steering.poll_url("b", None).expect("polls").path(), "/r");
        assert_eq!(take(&mut steering, r#"{"VERSION":1,"TTL":5,"PATHWAY-PRIORITY":["z"]}"#), Poll::Answer { ttl_s: 5 });
        assert_eq!(steering.wanted(0), Some("b"), "only unknown pathways: nothing changes");
    }

    #[test]
    fn a_failed_poll_keeps_the_order_and_is_repeated_soon_then_at_ttl() {
        let mut steering = steering(Behaviour::Hls);
        take(&mut steering, r#"{"VERSION":1,"TTL":7,"PATHWAY-PRIORITY":["b","a"]}"#);
        assert_eq!(take(&mut steering, "{"), Poll::Failed { after_s: 1 });
        let asked = steering.poll_url("b", None).expect("polls");
        assert_eq!(steering.take(&asked, None, None), Poll::Failed { after_s: 7 });
        assert_eq!(steering.wanted(0), Some("b"));
        assert_eq!(steering.take(&asked, Some((410, b"")), None), Poll::Stopped);
        assert!(steering.poll_url("b", None).is_none());
    }

    #[test]
    fn a_429_ends_steering_for_hls_and_delays_it_for_dash() {
        let asked = Url::parse("http://s.example/").expect("url");
        assert_eq!(steering(Behaviour::Hls).take(&asked, Some((429, b"")), Some(4)), Poll::Stopped);
        assert_eq!(steering(Behaviour::Dash).take(&asked, Some((429, b"")), Some(4)), Poll::Failed { after_s: 4 });
    }

    #[test]
    fn a_penalty_of_dash_ends_with_the_poll_and_one_of_hls_with_time() {
        let mut dash = steering(Behaviour::Dash);
        dash.penalise("a", Penalty::UntilPoll, 0);
        assert_eq!(dash.wanted(0), Some("b"));
        take(&mut dash, r#"{"VERSION":1,"TTL":5,"PATHWAY-PRIORITY":["a","b"]}"#);
        assert_eq!(dash.wanted(0), Some("a"), "the flap");
        let mut hls = steering(Behaviour::Hls);
        hls.penalise("a", Penalty::For(300_000), 1_000);
        take(&mut hls, r#"{"VERSION":1,"TTL":5,"PATHWAY-PRIORITY":["a","b"]}"#);
        assert_eq!((hls.wanted(300_999), hls.wanted(301_000)), (Some("b"), Some("a")));
        hls.penalise("b", Penalty::For(300_000), 1_000);
        assert_eq!(hls.wanted(2_000), None);
    }
}
