//! Purges: what is gone, what stays, what may help out.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use futures::future::join_all;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::client::{LONG, Reply, get, get_with, open_get, raw};
use crate::scripted::{Gate, Scripted, Step, response};
use crate::support::{TOKEN, TestEdge};

/// Sends a purge as a client with the token, or with another one.
async fn purge_as(edge: &TestEdge, token: &str, what: &Value) -> Reply {
    let body = what.to_string();
    let head = format!(
        "POST /.spillway/purge HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    raw(edge.address, &[head.as_bytes(), body.as_bytes()].concat()).await
}

pub async fn purge(edge: &TestEdge, what: Value) {
    let reply = purge_as(edge, TOKEN, &what).await;
    assert_eq!(reply.status, 200, "{}", String::from_utf8_lossy(&reply.body));
}

const TARGETS: [&str; 5] = ["/vod/1?a=1", "/vod/1", "/vod/2", "/vodka", "/live/1"];

/// An edge that keeps all of [`TARGETS`].
async fn filled(origin: &Scripted) -> TestEdge {
    for target in TARGETS {
        let tags = match target {
            "/live/1" => "Surrogate-Key: show-7 live",
            "/vod/2" => "Cache-Tag: show-7,vod",
            _ => "X: 1",
        };
        origin.answer(target, &format!("Cache-Control: max-age=60\nETag: \"1\"\n{tags}"), target);
    }
    let edge = TestEdge::start(origin).await;
    for target in TARGETS {
        get(edge.address, target).await;
        edge.hit(target).await;
    }
    edge
}

#[tokio::test]
async fn what_is_named_is_gone_when_the_purge_is_answered_and_all_else_stays() {
    for (what, gone) in [
        (json!({"urls": ["/vod/1"]}), &["/vod/1"][..]),
        (json!({"urls": ["https://edge.example/vod/1?a=1&CMCD=x", "/nothing"]}), &["/vod/1?a=1"]),
        (json!({"prefixes": ["/vod/"]}), &["/vod/1?a=1", "/vod/1", "/vod/2"]),
        (json!({"prefixes": ["/"]}), &TARGETS),
        (json!({"tags": ["show-7"]}), &["/vod/2", "/live/1"]),
        (json!({"tags": ["show"], "urls": ["/vodka"]}), &["/vodka"]),
    ] {
        let origin = Scripted::start().await;
        let edge = filled(&origin).await;
        purge(&edge, what.clone()).await;
        for target in TARGETS {
            assert_eq!(!get(edge.address, target).await.is_hit(), gone.contains(&target), "{what}: {target}");
        }
    }
}

#[tokio::test]
async fn a_soft_purge_has_it_validated_and_lets_it_help_out() {
    let origin = Scripted::start().await;
    let edge = filled(&origin).await;
    origin.on("/vod/1", |_| vec![Step::Send(response(304, "ETag: \"1\"\nCache-Control: max-age=60", b""))]);
    purge(&edge, json!({"urls": ["/vod/1"], "soft": true})).await;
    let reply = get(edge.address, "/vod/1").await;
    assert!(!reply.is_hit() && reply.body == b"/vod/1", "{}", reply.head);
    assert_eq!(origin.seen("/vod/1").pop().expect("asked").header("if-none-match"), Some("\"1\""));
    assert!(get(edge.address, "/vod/1").await.is_hit(), "it still holds");

    origin.on("/vod/2", |_| vec![Step::Reset]);
    purge(&edge, json!({"tags": ["vod"], "soft": true})).await;
    let reply = get(edge.address, "/vod/2").await;
    assert!(reply.status == 200 && reply.cache_status().contains("detail=origin-"), "{}", reply.head);
}

#[tokio::test]
async fn all_variants_of_a_url_go_with_it() {
    let origin = Scripted::start().await;
    origin.on("/1", |seen| {
        let lang = seen.header("accept-language").unwrap_or("none").to_owned();
        vec![Step::Send(response(200, "Cache-Control: max-age=60\nVary: Accept-Language", lang.as_bytes()))]
    });
    let edge = TestEdge::start(&origin).await;
    for round in 1..=2 {
        for lang in ["de", "en"] {
            let lines = format!("Accept-Language: {lang}");
            assert!(!get_with(edge.address, "/1", &lines).await.is_hit(), "{lang} in round {round}");
            let again = get_with(edge.address, "/1", &lines).await;
            assert_eq!(again.body, lang.as_bytes());
        }
        purge(&edge, json!({"urls": ["/1"]})).await;
    }
}

#[tokio::test]
async fn what_was_being_fetched_is_not_kept_whichever_way_it_is_named() {
    for what in [json!({"urls": ["/1"]}), json!({"prefixes": ["/"]}), json!({"tags": ["any"]})] {
        let origin = Scripted::start().await;
        let gate = Gate::new();
        let held = gate.clone();
        origin.on("/1", move |_| {
            vec![Step::Wait(held.clone()), Step::Send(response(200, "Cache-Control: max-age=60", b"old"))]
        });
        let edge = TestEdge::start(&origin).await;
        let before = open_get(edge.address, "/1").await;
        origin.asked("/1", 1).await;
        purge(&edge, what.clone()).await;
        let after = open_get(edge.address, "/1").await;
        origin.asked("/1", 2).await;
        gate.open();
        assert_eq!((before.rest().await.status, after.rest().await.status), (200, 200), "{what}");
        edge.hit("/1").await;
        assert_eq!(origin.count("/1"), 2, "{what}");
    }
}

#[tokio::test]
async fn what_was_past_its_time_when_it_came_goes_too() {
    for purged in [false, true] {
        let origin = Scripted::start().await;
        let gate = Gate::new();
        let held = gate.clone();
        origin.on("/1", move |seen| match seen.header("if-none-match") {
            None => {
                let mut begin = response(200, "Cache-Control: no-cache\nETag: \"1\"", b"12");
                let end = begin.split_off(begin.len() - 1);
                vec![Step::Send(begin), Step::Wait(held.clone()), Step::Send(end)]
            }
            Some(_) => vec![Step::Send(response(304, "ETag: \"1\"\nCache-Control: no-cache", b""))],
        });
        let edge = TestEdge::start(&origin).await;
        let mut first = open_get(edge.address, "/1").await;
        first.first_byte().await;
        if purged {
            purge(&edge, json!({"urls": ["/1"]})).await;
        }
        gate.open();
        assert_eq!(first.rest().await.body, b"12");
        assert_eq!(get(edge.address, "/1").await.body, b"12");
        let asked = origin.seen("/1").pop().expect("asked");
        assert_eq!(asked.header("if-none-match").is_none(), purged, "what was purged is not validated");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_a_storm_of_purges_nothing_old_is_served_after_an_answered_one_and_all_goes_on() {
    const PURGERS: usize = 20;
    const PURGES_EACH: usize = 500;
    const OBJECTS: usize = 8;
    let origin = Scripted::start().await;
    // Every fetch brings a later version: one from before an answered purge was kept in spite of it.
    let versions = Arc::new(AtomicU64::new(1));
    for object in 0..OBJECTS {
        let versions = versions.clone();
        origin.on(&format!("/{object}"), move |_| {
            let version = versions.fetch_add(1, Ordering::Relaxed);
            let body = format!("{version:<60000}");
            vec![Step::Send(response(200, "Cache-Control: max-age=60\nSurrogate-Key: t", body.as_bytes()))]
        });
    }
    let edge = TestEdge::start(&origin).await;
    // For each object, the first version that an answered purge had not seen yet when it was sent.
    let oldest: [AtomicU64; OBJECTS] = Default::default();
    let (began, over) = (Instant::now(), AtomicBool::new(false));
    let purger = async |purger: usize| {
        for n in 0..PURGES_EACH {
            let seen = versions.load(Ordering::Relaxed);
            let (what, named) = match n % 10 {
                0 => (json!({"tags": ["t"]}), 0..OBJECTS),
                1 => (json!({"prefixes": ["/"]}), 0..OBJECTS),
                _ => (
                    json!({"urls": [format!("/{}", (purger + n) % OBJECTS)]}),
                    (purger + n) % OBJECTS..(purger + n) % OBJECTS + 1,
                ),
            };
            purge(&edge, what).await;
            for object in named {
                oldest[object].fetch_max(seen, Ordering::Relaxed);
            }
        }
    };
    let viewer = async |object: usize| {
        let mut served = 0;
        while !over.load(Ordering::Relaxed) {
            let oldest = oldest[object].load(Ordering::Relaxed);
            let reply = get(edge.address, &format!("/{object}")).await;
            assert!(reply.status == 200 && reply.complete && reply.body.len() == 60_000, "{}", reply.head);
            let version: u64 = String::from_utf8(reply.body).unwrap().trim().parse().unwrap();
            assert!(version >= oldest, "{version} was purged up to {oldest}");
            served += 1;
        }
        served
    };
    let storm = async {
        join_all((0..PURGERS).map(purger)).await;
        over.store(true, Ordering::Relaxed);
    };
    let (served, ()) = tokio::join!(join_all((0..OBJECTS).map(viewer)), storm);
    assert!(served.iter().all(|served| *served > 10), "{served:?}");
    assert!(began.elapsed() < 3 * LONG, "{:?}", began.elapsed());
}

#[tokio::test]
async fn who_may_not_or_asks_nonsense_purges_nothing() {
    let origin = Scripted::start().await;
    let edge = filled(&origin).await;
    let all = json!({"prefixes": ["/"]});
    assert_eq!(purge_as(&edge, "another", &all).await.status, 401);
    assert_eq!(raw(edge.address, b"GET /.spillway/purge HTTP/1.0\r\nHost: a\r\n\r\n").await.status, 401);
    let bad = purge_as(&edge, TOKEN, &json!({"prefix": "/"})).await;
    assert!(bad.status == 400 && String::from_utf8(bad.body).expect("text").contains("prefixes"));
    for target in TARGETS {
        assert!(get(edge.address, target).await.is_hit(), "{target}");
    }
}
