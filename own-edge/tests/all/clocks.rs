//! A time of day that jumps: nothing that is too old serves, and nothing breaks.

use std::time::{Duration, UNIX_EPOCH};

use crate::client::get;
use crate::scripted::{Scripted, Step, response};
use crate::support::{NOON_MS, TestEdge, media};

const DAY_S: i64 = 86_400;
const WRONG_S: [i64; 6] = [DAY_S, -DAY_S, 3_650 * DAY_S, -20_000 * DAY_S, 1, -1];

/// The date that an origin with a right clock says when an edge has just begun.
fn date(seconds_later: u64) -> String {
    httpdate::fmt_http_date(
        UNIX_EPOCH + Duration::from_millis(NOON_MS + 1_000_000) + Duration::from_secs(seconds_later),
    )
}

#[tokio::test]
async fn what_is_kept_ages_by_a_clock_that_nobody_sets() {
    for wrong_s in WRONG_S {
        let origin = Scripted::start().await;
        origin.answer("/1", &format!("Cache-Control: max-age=60\nDate: {}", date(0)), "one");
        let edge = TestEdge::start(&origin).await;
        edge.hit("/1").await;
        edge.clock.set_wrong_by(wrong_s);
        assert!(get(edge.address, "/1").await.is_hit(), "{wrong_s}");
        edge.clock.forward(61);
        assert!(!get(edge.address, "/1").await.is_hit(), "{wrong_s}");
        // Put right again, it is as old as it is.
        edge.clock.set_wrong_by(0);
        assert_eq!((get(edge.address, "/1").await.status, origin.count("/1") > 1), (200, true), "{wrong_s}");
    }
}

#[tokio::test]
async fn what_comes_while_the_clock_is_wrong_is_good_for_no_longer_than_it_says() {
    for fields in ["Cache-Control: max-age=60", "Expires"] {
        for wrong_s in WRONG_S {
            let origin = Scripted::start().await;
            let fields = fields.replace("Expires", &format!("Expires: {}", date(60)));
            let answer = response(200, &format!("{fields}\nDate: {}", date(0)), b"one");
            origin.on("/1", move |_| vec![Step::Send(answer.clone())]);
            let edge = TestEdge::start(&origin).await;
            edge.clock.set_wrong_by(wrong_s);
            get(edge.address, "/1").await;
            edge.clock.set_wrong_by(0);
            let before = origin.count("/1");
            edge.clock.forward(61);
            assert!(!get(edge.address, "/1").await.is_hit(), "{fields}, {wrong_s}");
            assert_eq!(origin.count("/1"), before + 1, "{fields}, {wrong_s}");
        }
    }
}

#[tokio::test]
async fn what_a_disk_kept_is_taken_for_old_when_nobody_knows_how_old_it_is() {
    // The clock while it is written, and after the restart, in which no time goes by.
    for (then_s, now_s, fresh) in
        [(0, 0, true), (0, DAY_S, false), (0, -DAY_S, false), (DAY_S, 0, false), (-DAY_S, 0, false), (0, -60, false)]
    {
        let (origin, folder) = (Scripted::start().await, tempfile::tempdir().unwrap());
        origin.answer("/1", "Cache-Control: max-age=600\nETag: \"1\"", media(700_001));
        let lines = format!("disk = {{ path = {:?}, size_mb = 64 }}", folder.path().join("cache"));
        let begin = async || {
            let edge = TestEdge::with(&origin.url(), &lines).await;
            while !edge.readiness.is_ready() {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            edge
        };
        let edge = begin().await;
        edge.clock.set_wrong_by(then_s);
        edge.hit("/1").await;
        // A hit had it written.
        tokio::time::sleep(Duration::from_millis(200)).await;
        edge.stop().await;
        let edge = begin().await;
        edge.clock.set_wrong_by(now_s);
        let before = origin.count("/1");
        let reply = get(edge.address, "/1").await;
        assert!(reply.complete && reply.body == media(700_001));
        assert_eq!(origin.count("/1") == before, fresh, "{then_s}, {now_s}: {}", reply.head);
    }
}
