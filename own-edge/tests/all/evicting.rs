//! What left a live window makes room; what is in it stays.

use std::time::Duration;

use crate::client::get;
use crate::scripted::Scripted;
use crate::support::TestEdge;

#[tokio::test]
async fn segments_far_behind_the_live_edge_go_and_the_window_stays() {
    let folder = tempfile::tempdir().unwrap();
    let disk = format!("[disk]\npath = \"{}\"\nsize_mb = 64", folder.path().display());
    for lines in ["", &disk] {
        let origin = Scripted::start().await;
        for n in 0..20 {
            origin.answer(&format!("/{n}.ts"), "Cache-Control: max-age=600", format!("segment {n}"));
        }
        origin.answer("/init.mp4", "Cache-Control: max-age=600", "init");
        let edge = TestEdge::with(&origin.url(), lines).await;
        edge.hit("/init.mp4").await;
        for first in 0..=10 {
            let list: String = (first..first + 3).map(|n| format!("#EXTINF:2,\n{n}.ts\n")).collect();
            let head = format!("#EXT-X-TARGETDURATION:2\n#EXT-X-MEDIA-SEQUENCE:{first}\n#EXT-X-MAP:URI=\"init.mp4\"\n");
            origin.answer("/live.m3u8", "Cache-Control: max-age=1", format!("#EXTM3U\n{head}{list}"));
            edge.clock.forward(2);
            edge.hit("/live.m3u8").await;
            // Twice: hot, and for the disk.
            for _ in 0..2 {
                edge.hit(&format!("/{}.ts", first + 2)).await;
            }
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
        for n in [4, 5, 8, 9, 10, 11, 12] {
            get(edge.address, &format!("/{n}.ts")).await;
            assert_eq!(origin.count(&format!("/{n}.ts")), 1, "{n} left just now, or is in the window");
        }
        assert_eq!(get(edge.address, "/2.ts").await.body, b"segment 2", "who is late gets it all the same");
        assert_eq!((origin.count("/2.ts"), origin.count("/3.ts"), origin.count("/init.mp4")), (2, 1, 1));
    }
}
