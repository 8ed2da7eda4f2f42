//! URLs that need a token: those that steering nodes sign.

use spillway_wire::load::Directives;
use spillway_wire::signed_url::own::Keys;
use spillway_wire::signed_url::{Place, Resource, Signer};

use crate::client::{get, get_from};
use crate::reports::{Orchestrator, admit};
use crate::scripted::Scripted;
use crate::support::TestEdge;

const KEY: &str = "an-edge-key-of-32-bytes-or-more!";
const OLD_KEY: &str = "the-edge-key-before-of-32-bytes!";
/// The test clock's now, in whole seconds, and what it has run so far.
const NOW_S: u64 = 1_767_225_600 + 1_000;

/// The path of `path` with a token for its folder.
fn signed(key: &str, folder: &str, path: &str, expires_s: u64) -> String {
    let signer = Signer::Own(Keys::new(key, None).expect("a key"));
    let resource = Resource { host: "", path, folder, expires_s };
    signer.sign(Place::Path, &resource).expect("signed").url("", path)
}

async fn edge(origin: &Scripted) -> TestEdge {
    origin.answer("/live/x/720/1.m4s", "Cache-Control: max-age=60", "media");
    origin.answer("/public/logo.png", "Cache-Control: max-age=60", "logo");
    TestEdge::with(
        &origin.url(),
        &format!("[signed_urls]\nkey = \"{KEY}\"\nprevious_key = \"{OLD_KEY}\"\nopen = [\"/public/\"]"),
    )
    .await
}

#[tokio::test]
async fn a_token_opens_its_folder_and_all_who_have_one_share_what_is_kept() {
    let origin = Scripted::start().await;
    let edge = edge(&origin).await;
    let path = "/live/x/720/1.m4s";
    let one = signed(KEY, "/live/x/", path, NOW_S + 600);
    assert_eq!(get(edge.address, &one).await.body, b"media");
    for other in [signed(KEY, "/live/x/", path, NOW_S + 1_200), signed(OLD_KEY, "/live/", path, NOW_S + 600)] {
        assert_eq!(edge.hit(&other).await.body, b"media");
    }
    assert_eq!((origin.count(path), origin.seen_at(&one).len()), (1, 0), "the origin sees no token");
    assert_eq!(get(edge.address, "/public/logo.png").await.body, b"logo");
}

#[tokio::test]
async fn who_has_no_good_token_is_told_why_and_reaches_nothing() {
    let origin = Scripted::start().await;
    let edge = edge(&origin).await;
    let path = "/live/x/720/1.m4s";
    let good = signed(KEY, "/live/x/", path, NOW_S + 600);
    assert_eq!(get(edge.address, &good).await.status, 200);
    let token = good.strip_suffix(path).expect("a token").to_owned();
    for (target, word) in [
        (path.to_owned(), "missing"),
        (format!("{token}/live/y/720/1.m4s"), "bad_signature"),
        (signed("another-key-of-32-bytes-or-more-", "/live/x/", path, NOW_S + 600), "bad_signature"),
        (signed(KEY, "/live/x/", path, NOW_S - 60), "expired"),
        (format!("/~1~2~3{path}"), "malformed"),
        (format!("{token}/public/logo.png"), "bad_signature"),
    ] {
        let reply = get(edge.address, &target).await;
        let text = String::from_utf8(reply.body.clone()).expect("text");
        assert!(reply.status == 403 && text.contains(word), "{target}: {} {text}", reply.head);
        assert_eq!(reply.header("access-control-allow-origin"), Some("*"), "a page must be able to read it");
    }
    assert_eq!(origin.count(path), 1, "what is kept is not given either");
}

#[tokio::test]
async fn a_session_that_is_sent_elsewhere_takes_its_token_along() {
    let (origin, orchestrator) = (Scripted::start().await, Orchestrator::start().await);
    origin.answer("/live/x/1.m4s", "Cache-Control: max-age=60", "media");
    let edge = orchestrator.edge(&origin, &format!("[signed_urls]\nkey = \"{KEY}\"")).await;
    let elsewhere = Some("http://other.example/".to_owned());
    orchestrator.order(Directives { admit: false, redirect_to: elsewhere, ..admit() }).await;
    let one = signed(KEY, "/live/x/", "/live/x/1.m4s", NOW_S + 600);
    let moved = get_from(edge.address, [127, 0, 0, 2], &format!("{one}?a=1")).await;
    assert_eq!((moved.status, moved.header("location")), (307, Some(&*format!("http://other.example{one}?a=1"))));
}
