//! Which players follow, from answers and beacons.

use serde_json::json;
use spillway_lake::LakeSession;
use spillway_lake::learned::{FollowRate, PlayerViews, follow_rates, players_by_pathway};
use spillway_lake::schema::TableName;

use crate::support::{NOW_MS, Place, from_json};
use crate::viewing::{Player, store};

/// Answers of a view: (s after the begin, first pathway).
fn answers(view: &str, told: &[(u64, &str)]) -> Vec<serde_json::Value> {
    let row = |(at_s, first): &(u64, &str)| {
        json!({"node": "steer-1", "batch_seq": 1, "row": 0, "dt": "2026-01-01", "issued_ms": NOW_MS + at_s * 1_000,
               "received_ms": NOW_MS + at_s * 1_000, "view_id": view, "region": "eu-a", "protocol": "hls",
               "first_pathway": first, "priority": first, "ttl_s": 10, "sample_rate": 1.0, "collector": "c1", "wal_seq": 1})
    };
    told.iter().map(row).collect()
}

/// A view of `player` that says every ten seconds where it is: until `moved_s` on cdn-a, then on `then`.
async fn watch(place: &Place, view: &str, player: &str, (moved_s, then): (u64, &str)) {
    let (log, _) = place.open("c1").await;
    let mut teller = Player::new(view, NOW_MS);
    let mut told = Vec::new();
    for beat in 0..10 {
        let mut batch = teller.tell(beat * 10_000, "heartbeat", |event| {
            event.pathway = Some(if beat * 10 < moved_s { "cdn-a" } else { then }.into());
        });
        batch.ctx.player = Some(player.into());
        batch.ctx.player_version = Some("1.0".into());
        told.push(batch);
    }
    store(&log, told).await;
    log.commit().await.expect("commit");
}

#[tokio::test]
async fn a_player_follows_if_its_views_are_served_from_where_they_were_sent() {
    let place = Place::new();
    watch(&place, "good-1", "good", (34, "cdn-b")).await;
    watch(&place, "good-2", "good", (44, "cdn-b")).await;
    watch(&place, "bad-1", "bad", (1_000, "cdn-b")).await;
    watch(&place, "flees", "bad", (50, "cdn-c")).await;
    watch(&place, "stays", "good", (1_000, "cdn-b")).await;
    let mut rows = Vec::new();
    for view in ["good-1", "good-2", "bad-1", "flees"] {
        rows.extend(answers(view, &[(0, "cdn-a"), (10, "cdn-a"), (30, "cdn-b"), (40, "cdn-b")]));
    }
    // Never told to move; moved too late to be seen; sampled but silent.
    rows.extend(answers("stays", &[(0, "cdn-a"), (10, "cdn-a")]));
    rows.extend(answers("good-1", &[(95, "cdn-a")]));
    rows.extend(answers("silent", &[(0, "cdn-a"), (30, "cdn-b")]));
    for (row, value) in rows.iter_mut().enumerate() {
        value["row"] = row.into();
    }
    let lines: Vec<String> = rows.iter().map(ToString::to_string).collect();
    let batch = from_json(TableName::Steers, &lines.join("\n"));
    spillway_lake::append(&place.root, TableName::Steers, batch, "steer-1", 1).await.expect("append");

    let session = LakeSession::open(&place.root, vec![]).await.expect("open");
    let now_ms = NOW_MS + 100_000;
    let rate =
        |player: &str, moves, followed| FollowRate { player: player.into(), version: "1.0".into(), moves, followed };
    assert_eq!(follow_rates(&session, now_ms).await.expect("rates"), [rate("bad", 2, 0), rate("good", 2, 2)]);
    let views = |pathway: &str, player: &str, views| PlayerViews {
        pathway: pathway.into(),
        region: "eu-a".into(),
        player: player.into(),
        version: "1.0".into(),
        views,
    };
    let last = players_by_pathway(&session, NOW_MS + 90_000 + 119_000).await.expect("players");
    let on_a = [views("cdn-a", "bad", 1), views("cdn-a", "good", 1)];
    let elsewhere = [views("cdn-b", "good", 2), views("cdn-c", "bad", 1)];
    assert_eq!(last, [on_a, [elsewhere[0].clone(), elsewhere[1].clone()]].concat());
}
