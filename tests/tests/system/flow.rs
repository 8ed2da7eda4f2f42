//! What edges and steering nodes do reaches the lake: deliveries, sampled answers, and who changed what.

use std::time::Duration;

use serde_json::{Value, json};
use spillway_system_tests::{ADMIN_TOKEN, Ports, Role, SERVICE_TOKEN, config, free_ports, run};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

const MASTER: &str = "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\nv.m3u8\n";
const SEGMENT_BYTES: usize = 70_000;

/// An origin with one playlist and segments.
async fn origin() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("port");
    let url = format!("http://{}", listener.local_addr().expect("address"));
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    match stream.read_u8().await {
                        Ok(byte) => head.push(byte),
                        Err(_) => return,
                    }
                }
                let is_playlist = String::from_utf8_lossy(&head).contains(".m3u8");
                let body = if is_playlist { MASTER.as_bytes().to_vec() } else { vec![7; SEGMENT_BYTES] };
                let head = format!(
                    "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nCache-Control: max-age=60\r\nConnection: close\r\n\r\n",
                    body.len()
                );
                let _ = stream.write_all(head.as_bytes()).await;
                let _ = stream.write_all(&body).await;
            });
        }
    });
    url
}

struct World {
    dir: tempfile::TempDir,
    file: String,
    ports: Ports,
    all: Role,
    client: reqwest::Client,
    origin: String,
}

impl World {
    async fn start() -> Self {
        let (dir, ports, origin) = (tempfile::tempdir().expect("dir"), Ports::free(), origin().await);
        let text = config(dir.path(), ports, "[orchestrator.probe]\nenabled = false\n")
            .replace("bus_peers", "# bus_peers")
            .replace("http://127.0.0.1:1\"", &format!("{origin}\""))
            .replace("[steer]\n", "[steer]\nsample_share = 1.0\n");
        let file = dir.path().join("spillway.toml");
        std::fs::write(&file, text).expect("written");
        let file = file.to_str().expect("utf-8").to_owned();
        let all = Role::start(&["all", "--config", &file]);
        Self { dir, file, ports, all, client: reqwest::Client::new(), origin }
    }

    /// The rows of a query, once there are `rows` of them.
    async fn rows(&self, sql: &str, rows: usize) -> Vec<Value> {
        let mut found = Vec::new();
        for _ in 0..100 {
            let (status, out, said) = run(&["query", "--config", &self.file, "--json", sql]);
            assert_eq!(status, 0, "{said}");
            found = out.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
            if found.len() >= rows {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("{rows} rows of {sql:?} were expected: {found:?}");
    }

    fn orchestrator(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.ports.orchestrator)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deliveries_of_an_edge_are_in_the_lake_within_seconds_and_also_after_its_end() {
    let world = World::start().await;
    let [port] = free_ports();
    let file = world.dir.path().join("edge.toml");
    let text = format!(
        "data_dir = {:?}\nservice_token = \"{SERVICE_TOKEN}\"\n[edge]\nlisten = \"127.0.0.1:{port}\"\n\
         pathway = \"own-eu-1\"\nregion = \"eu\"\nbase_url = \"http://127.0.0.1:{port}\"\norigin = \"{}\"\n\
         ceiling_mbps = 1000\ncollectors = [\"http://127.0.0.1:{}\"]\n",
        world.dir.path(),
        world.origin,
        world.ports.collector
    );
    std::fs::write(&file, text).expect("written");
    let file = file.to_str().expect("utf-8");
    let (status, out, said) = run(&["check-config", "--config", file]);
    assert_eq!(status, 0, "{said}");
    assert!(out.contains("access log: the requests of 100 % of sessions, to http://127.0.0.1:"), "{out}");
    let mut edge = Role::start(&["edge", "--config", file]);
    let get = async |path: &str| {
        let answer = world.client.get(format!("http://127.0.0.1:{port}{path}")).send().await.expect("an answer");
        assert_eq!(answer.bytes().await.expect("a body").len(), SEGMENT_BYTES);
    };
    for _ in 0..3 {
        get("/live/1.m4s?CMCD=br%3D2400%2Csid%3D%22view-1%22&token=secret").await;
    }
    let sql = "SELECT cache_status, count(*) AS n, sum(bytes) AS bytes, max(region) AS region, max(path) AS path, \
               max(view_id) AS view, max(cmcd['br']) AS br FROM deliveries WHERE pathway = 'own-eu-1' GROUP BY 1 ORDER BY 1";
    let rows = world.rows(sql, 2).await;
    let common = |row: &Value| {
        assert_eq!(
            (&row["region"], &row["path"], &row["view"]),
            (&"eu".into(), &"/live/1.m4s".into(), &"view-1".into())
        );
        assert_eq!(row["br"], "2400");
        (row["cache_status"].as_str().map(str::to_owned), row["n"].as_u64(), row["bytes"].as_u64())
    };
    let bytes = SEGMENT_BYTES as u64;
    let told: Vec<_> = rows.iter().map(common).collect();
    assert!(told.contains(&(Some("miss".into()), Some(1), Some(bytes))), "{told:?}");

    // The last lines come with the edge's end.
    get("/live/2.m4s").await;
    assert!(edge.terminate(Duration::from_secs(12)).expect("ends in time").success());
    let last = world.rows("SELECT bytes FROM deliveries WHERE path = '/live/2.m4s'", 1).await;
    assert_eq!(last[0]["bytes"].as_u64(), Some(bytes));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn steering_answers_are_in_the_lake_with_their_why_and_the_last_ones_survive_the_end() {
    let mut world = World::start().await;
    let steer = format!("http://127.0.0.1:{}", world.ports.steer);
    let get = async |url: String| world.client.get(url).send().await.expect("an answer").text().await.expect("text");
    let playlist = get(format!("{steer}/v1/playlists/hls/live/river/master.m3u8?sid=view-1")).await;
    let poll = playlist.split("SERVER-URI=\"").nth(1).expect("steering").split('"').next().expect("a URI").to_owned();
    get(poll.clone()).await;
    let sql = "SELECT view_id, region, protocol, first_pathway, reason, why_json FROM steers";
    let rows = world.rows(sql, 1).await;
    let row = &rows[0];
    assert_eq!((&row["view_id"], &row["region"], &row["protocol"]), (&"view-1".into(), &"eu".into(), &"hls".into()));
    assert_eq!(row["reason"], "first_answer");
    let why: Value = serde_json::from_str(row["why_json"].as_str().expect("a why")).expect("JSON");
    assert!(why["content"] == "live/river" && why["states"].is_object(), "{why}");

    get(poll).await;
    assert!(world.all.terminate(Duration::from_secs(12)).expect("ends in time").success());
    assert_eq!(world.rows("SELECT 1 AS one FROM steers", 2).await.len(), 2, "posted and stored before the end");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_change_by_an_operator_is_in_the_audit_with_who_and_why() {
    let mut world = World::start().await;
    let order = json!({"kind": "drain", "target": "cdn-a", "reason": "maintenance", "expires_s": 600});
    let request = world.client.post(world.orchestrator("/v1/admin/overrides")).bearer_auth(ADMIN_TOKEN);
    let added: Value = request.json(&order).send().await.expect("an answer").json().await.expect("JSON");
    let id = added["id"].as_str().expect("an id").to_owned();
    let end = world.client.delete(world.orchestrator(&format!("/v1/admin/overrides/{id}?reason=done")));
    assert_eq!(end.bearer_auth(ADMIN_TOKEN).send().await.expect("an answer").status(), 204);
    let refused =
        world.client.delete(world.orchestrator(&format!("/v1/admin/overrides/{id}"))).bearer_auth(ADMIN_TOKEN);
    assert_eq!(refused.send().await.expect("an answer").status(), 404, "no change, no row");
    assert!(world.all.terminate(Duration::from_secs(12)).expect("ends in time").success());
    let rows = world.rows("SELECT * FROM audit ORDER BY at_ms, action", 2).await;
    let told: Vec<_> = rows
        .iter()
        .map(|row| ["actor", "role", "action", "object", "reason"].map(|name| row[name].as_str().unwrap_or_default()))
        .collect();
    assert_eq!(
        told,
        [["tester", "admin", "override.add", &*id, "maintenance"], ["tester", "admin", "override.end", &*id, "done"],]
    );
    let detail: Value = serde_json::from_str(rows[0]["detail_json"].as_str().expect("a detail")).expect("JSON");
    assert_eq!((&detail["kind"], &detail["target"]), (&"drain".into(), &"cdn-a".into()));
    assert_eq!(rows.len(), 2);
}
