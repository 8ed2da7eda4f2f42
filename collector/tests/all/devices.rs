//! Views by device class in frames.

use serde_json::json;
use spillway_wire::frame::DeviceViews;

use crate::support::{NOW_MS, config, event, start};

#[tokio::test]
async fn views_that_report_are_told_by_device_class() {
    let dir = tempfile::tempdir().expect("dir");
    let mut running = start(&dir, config()).await;
    let roku = "Roku/DVP-12.5 (12.5.0.4178-CE)";
    for (view, said, agent) in [
        ("a", Some("tv"), ""),
        ("b", None, roku),
        ("c", Some("toaster"), roku),
        ("d", Some("mobile"), ""),
        ("e", None, ""),
    ] {
        let mut ctx = json!({"view_id": view, "content_id": "live/river", "stream_type": "live", "format": "hls"});
        if let Some(said) = said {
            ctx["device_class"] = json!(said);
        }
        let events = json!([event("heartbeat", 0, json!({"pathway": "cdn-a"}))]);
        let body = json!({"v": 1, "sdk": "test/1", "sent_ms": NOW_MS, "ctx": ctx, "events": events}).to_string();
        assert_eq!(running.post_with(body, &[("user-agent", agent)]).await.0, 202);
    }
    let frame = running.frame().await;
    let row = |device: &str, views_active: u64| DeviceViews {
        region: "eu-a".into(),
        device: device.into(),
        views_active,
        ..DeviceViews::default()
    };
    assert_eq!(frame.devices, [row("mobile", 1), row("other", 1), row("tv", 2), row("unknown", 1)]);
    running.stop().await;
}
