//! Posting against a collector that answers by a script.

use std::collections::VecDeque;
use std::sync::Mutex;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::routing::post;

use super::*;

/// Status and `Retry-After` of the next answers; then 202.
#[derive(Clone, Default)]
struct Scripted {
    answers: Arc<Mutex<VecDeque<u16>>>,
    seen: Arc<Mutex<Vec<(u16, String, String)>>>,
}

impl Scripted {
    async fn start(answers: &[u16]) -> (Self, String) {
        let scripted = Self { answers: Arc::new(Mutex::new(answers.iter().copied().collect())), ..Self::default() };
        let app = Router::new().route("/v1/deliveries", post(answer)).with_state(scripted.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("port");
        let url = format!("http://{}", listener.local_addr().expect("address"));
        tokio::spawn(async move { axum::serve(listener, app).await });
        (scripted, url)
    }

    fn seen(&self) -> Vec<(u16, String, String)> {
        self.seen.lock().expect("lock").clone()
    }
}

async fn answer(State(scripted): State<Scripted>, headers: HeaderMap, uri: Uri, body: String) -> (StatusCode, String) {
    let status = scripted.answers.lock().expect("lock").pop_front().unwrap_or(202);
    let known = headers.get("authorization").is_some_and(|value| value == "Bearer secret");
    let status = if known { status } else { 401 };
    let query = uri.query().unwrap_or_default().to_owned();
    scripted.seen.lock().expect("lock").push((status, query, body));
    (StatusCode::from_u16(status).expect("status"), "1".into())
}

fn posting(collectors: Vec<String>, queue_rows: usize) -> Posting {
    Posting {
        collectors,
        service_token: "secret".into(),
        table: "deliveries",
        first_seq: 7,
        queue_rows,
        target: Box::new(|seq| format!("/v1/deliveries?seq={seq}")),
        rejected: |body| std::str::from_utf8(body).ok().and_then(|text| text.parse().ok()).unwrap_or(0),
    }
}

fn line(row: u32) -> Vec<u8> {
    format!("{{\"row\":{row}}}").into_bytes()
}

#[tokio::test]
async fn rows_of_a_second_go_out_together_and_the_rest_at_the_end() {
    let (scripted, url) = Scripted::start(&[]).await;
    let (outbox, poster) = start(posting(vec![url], 100), line);
    outbox.push(1);
    outbox.push(2);
    while scripted.seen().is_empty() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    outbox.push(3);
    poster.finish(Duration::from_secs(5)).await;
    let seen = scripted.seen();
    let bodies: Vec<(&str, &str)> = seen.iter().map(|(_, query, body)| (query.as_str(), body.as_str())).collect();
    assert_eq!(bodies, [("seq=7", "{\"row\":1}\n{\"row\":2}\n"), ("seq=8", "{\"row\":3}\n")]);
}

#[tokio::test]
async fn a_batch_keeps_its_number_until_a_collector_has_it() {
    let (first, first_url) = Scripted::start(&[503, 429, 500]).await;
    let (second, second_url) = Scripted::start(&[408]).await;
    let (outbox, poster) = start(posting(vec![first_url, second_url], 100), line);
    outbox.push(1);
    while first.seen().len() + second.seen().len() < 4 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    poster.finish(Duration::from_secs(5)).await;
    let all: Vec<_> = first.seen().into_iter().chain(second.seen()).collect();
    assert!(all.iter().all(|(_, query, body)| query == "seq=7" && body == "{\"row\":1}\n"), "{all:?}");
    assert_eq!(all.iter().filter(|(status, ..)| *status == 202).count(), 1, "{all:?}");
}

#[tokio::test]
async fn a_final_refusal_costs_that_batch_only() {
    let (scripted, url) = Scripted::start(&[400]).await;
    let (outbox, poster) = start(posting(vec![url], 100), line);
    outbox.push(1);
    while scripted.seen().is_empty() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    outbox.push(2);
    poster.finish(Duration::from_secs(5)).await;
    let told: Vec<(u16, String)> = scripted.seen().into_iter().map(|(status, query, _)| (status, query)).collect();
    assert_eq!(told, [(400, "seq=7".into()), (202, "seq=8".into())]);
}

#[tokio::test]
async fn a_full_queue_drops_new_rows_and_the_end_does_not_wait_for_ever() {
    // Nobody listens there.
    let (outbox, poster) = start(posting(vec!["http://127.0.0.1:9".into()], 3), line);
    tokio::task::yield_now().await;
    (0..10).for_each(|row| outbox.push(row));
    let waiting = outbox.counts.waiting.load(Ordering::Relaxed);
    assert!((3..=4).contains(&waiting), "{waiting} of 10 wait");
    tokio::time::timeout(Duration::from_secs(5), poster.finish(Duration::from_millis(300))).await.expect("ends");
    assert_eq!(outbox.counts.waiting.load(Ordering::Relaxed), 0);
    outbox.push(11);
    assert_eq!(outbox.counts.waiting.load(Ordering::Relaxed), 0, "nothing waits after the end");
}

#[tokio::test]
async fn a_batch_holds_no_more_bytes_than_a_collector_takes() {
    let (scripted, url) = Scripted::start(&[]).await;
    let (outbox, poster) = start(posting(vec![url], 100), |bytes: usize| vec![b'x'; bytes]);
    for bytes in [BATCH_MAX_BYTES / 2, BATCH_MAX_BYTES / 2, BATCH_MAX_BYTES + 1, 10] {
        outbox.push(bytes);
    }
    poster.finish(Duration::from_secs(5)).await;
    let sizes: Vec<usize> = scripted.seen().iter().map(|(.., body)| body.len()).collect();
    assert_eq!(sizes, [BATCH_MAX_BYTES / 2 + 1, BATCH_MAX_BYTES / 2 + 12], "one was too large for any");
}

#[test]
fn wrong_values_are_named() {
    let bad = |urls: &[&str]| {
        let urls: Vec<String> = urls.iter().map(|url| (*url).to_owned()).collect();
        check_collectors("edge.collectors", &urls).map_err(|error| error.to_string())
    };
    assert_eq!(bad(&["http://c:4300", "https://c.example/x"]), Ok(()));
    for url in ["c:4300", "http://", "http://c?x=1", "ftp://c"] {
        let error = bad(&["http://c", url]).expect_err(url);
        assert!(error.contains("edge.collectors") && error.contains(url), "{error}");
    }
    assert_eq!(check_share("x", 0.01).expect("valid"), 10_000);
    assert!(check_share("steer.sample", 1.5).expect_err("too much").to_string().contains("steer.sample"));
    assert!(check_share("x", f64::NAN).is_err());
}
