//! 403s in frames: the path's where one pathway alone has them.

use serde_json::json;

use crate::support::{Running, beacon, config, event, of, start};

/// `views` views on `pathway` that play; those in `denied` get a 403.
async fn watch(running: &Running, pathway: &str, views: usize, denied: usize) {
    for view in 0..views {
        let mut events = vec![event("heartbeat", 0, json!({"pathway": pathway}))];
        if view < denied {
            let request = json!({"pathway": pathway, "status": 403});
            events.push(event("segment", 1, json!({"pathway": pathway, "request": request})));
        }
        let (status, body) = running.post(beacon(&format!("{pathway}-{view}"), json!(events))).await;
        assert_eq!((status, &body["rejected"]), (202, &json!([])), "{body}");
    }
}

#[tokio::test]
async fn a_403_of_one_pathway_alone_is_a_failure_of_that_pathway() {
    let dir = tempfile::tempdir().expect("dir");
    let mut running = start(&dir, config()).await;
    watch(&running, "cdn-a", 14, 0).await;
    watch(&running, "cdn-b", 14, 14).await;
    // The views, and the verdict: a beacon may come between two frames.
    let mut failed = 0;
    let mut failing = 0;
    for _ in 0..3 {
        let frame = running.frame().await;
        assert!(of(&frame, "cdn-a").is_none_or(|cell| cell.requests_failed == 0));
        let cell = of(&frame, "cdn-b").expect("a cell");
        (failed, failing) = (failed + cell.requests_failed, failing + cell.views_failing);
    }
    assert_eq!((failed, failing), (14, 14), "each once");
    running.stop().await;
}

#[tokio::test]
async fn a_403_on_every_pathway_is_a_matter_of_rights() {
    let dir = tempfile::tempdir().expect("dir");
    let mut running = start(&dir, config()).await;
    watch(&running, "cdn-a", 14, 12).await;
    watch(&running, "cdn-b", 14, 14).await;
    for _ in 0..3 {
        let frame = running.frame().await;
        for pathway in ["cdn-a", "cdn-b"] {
            assert_eq!(of(&frame, pathway).map(|cell| cell.requests_failed), Some(0), "{pathway}");
        }
    }
    running.stop().await;
}
