//! Clean: pathways from hosts, and out with everything that must not come to rest.
//!
//! Every free text loses the queries, fragments and credentials of URLs. With Global Privacy Control (`Sec-GPC: 1`)
//! the session id goes too, since it joins the views of one visitor; the view id stays, because it is random, ends with
//! the playback, and without it nothing could be counted once. Region, network and country stay: they tell of many
//! thousands at once, are needed to route, and are shared with nobody.

use std::borrow::Cow;

use spillway_service::device::Device;
use spillway_wire::beacon::{Context, Event};
use spillway_wire::scrub;

use crate::App;

/// Bytes of an error's message.
const MESSAGE_MAX_BYTES: usize = 1024;
/// Bytes of a text that is a word: a class, a code.
const WORD_MAX_BYTES: usize = 128;

/// Pathways from hosts, no URL queries, short messages.
pub(crate) fn event(app: &App, event: &mut Event) {
    let deployment = app.deployed.now();
    let of_host = |host: &Option<String>| {
        host.as_deref().and_then(|host| deployment.pathway_of_host(host)).map(|id| id.as_str().to_owned())
    };
    host(&mut event.host);
    if event.pathway.is_none() {
        event.pathway = of_host(&event.host);
    }
    if let Some(request) = &mut event.request {
        host(&mut request.host);
        if request.pathway.is_none() {
            request.pathway = of_host(&request.host);
        }
    }
    if let Some(error) = &mut event.error {
        text(&mut error.message, MESSAGE_MAX_BYTES);
        text(&mut error.code, WORD_MAX_BYTES);
        word(&mut error.severity);
    }
    text(&mut event.state, WORD_MAX_BYTES);
    text(&mut event.reason, MESSAGE_MAX_BYTES);
}

/// Keys of CMCD that have no column: no URL queries, and under Global Privacy Control no custom keys (their names have a
/// hyphen), since nobody knows what they tell.
pub(crate) fn cmcd(mut keys: Vec<(String, String)>, gpc: bool) -> Vec<(String, String)> {
    keys.retain(|(name, _)| !gpc || !name.contains('-'));
    for (_, value) in &mut keys {
        if let Cow::Owned(clean) = scrub::without_queries(value) {
            *value = clean;
        }
    }
    keys
}

/// No URL queries, no session under Global Privacy Control, and what the user agent says where the player says nothing.
pub(crate) fn context(ctx: &mut Context, gpc: bool, device: Device) {
    if gpc {
        ctx.session_id = None;
    }
    text(&mut ctx.title, MESSAGE_MAX_BYTES);
    let words = [
        &mut ctx.session_id,
        &mut ctx.stream_type,
        &mut ctx.format,
        &mut ctx.player,
        &mut ctx.player_version,
        &mut ctx.device_class,
        &mut ctx.os,
        &mut ctx.browser,
        &mut ctx.page_type,
    ];
    for field in words {
        text(field, WORD_MAX_BYTES);
    }
    for (field, said) in
        [(&mut ctx.device_class, device.class), (&mut ctx.os, device.os), (&mut ctx.browser, device.browser)]
    {
        if field.is_none() {
            *field = said.map(str::to_owned);
        }
    }
}

/// A word of the sender's.
pub(crate) fn word(field: &mut String) {
    if let std::borrow::Cow::Owned(clean) = scrub::without_queries(field) {
        *field = clean;
    }
    scrub::truncate(field, WORD_MAX_BYTES);
}

fn text(field: &mut Option<String>, max: usize) {
    let Some(value) = field else { return };
    if let std::borrow::Cow::Owned(clean) = scrub::without_queries(value) {
        *value = clean;
    }
    scrub::truncate(value, max);
    if value.is_empty() {
        *field = None;
    }
}

fn host(field: &mut Option<String>) {
    if let Some(value) = field {
        *field = scrub::host_only(value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cmcd_loses_queries_and_under_gpc_what_nobody_knows() {
        let keys = || {
            vec![
                ("nor".to_owned(), "https://a.example/2.m4s?token=1".to_owned()),
                ("com.example-user".to_owned(), "7".to_owned()),
            ]
        };
        let (open, private) = (cmcd(keys(), false), cmcd(keys(), true));
        assert_eq!((open.len(), open[0].1.as_str()), (2, "https://a.example/2.m4s"));
        assert_eq!(private, open[..1]);
    }

    #[test]
    fn no_text_of_a_context_keeps_a_query_and_gpc_ends_the_session() {
        let dirty = || Some("https://x.example/watch?user=me#t".to_owned());
        let all = Context {
            view_id: "v".into(),
            content_id: "c".into(),
            session_id: dirty(),
            title: dirty(),
            stream_type: dirty(),
            format: dirty(),
            player: dirty(),
            player_version: dirty(),
            device_class: dirty(),
            os: dirty(),
            browser: dirty(),
            page_type: dirty(),
            sample_rate: None,
        };
        let device = Device { class: Some("tv"), os: Some("tizen"), browser: None };
        let mut open = all.clone();
        context(&mut open, false, device);
        let json = serde_json::to_string(&open).expect("json");
        assert!(!json.contains("user=me") && !json.contains("#t"), "{json}");
        assert_eq!(open.session_id.as_deref(), Some("https://x.example/watch"));
        assert_eq!(open.device_class.as_deref(), Some("https://x.example/watch"), "what the player says stays");
        let mut closed = Context { device_class: None, os: None, browser: None, ..all };
        context(&mut closed, true, device);
        assert_eq!(closed.session_id, None);
        assert_eq!(
            (closed.device_class.as_deref(), closed.os.as_deref(), closed.browser),
            (Some("tv"), Some("tizen"), None)
        );
        assert_eq!((closed.view_id.as_str(), closed.content_id.as_str()), ("v", "c"));
    }

    #[test]
    fn texts_are_cut_to_what_they_are_for() {
        let mut ctx = Context { title: Some("ä".repeat(2_000)), os: Some("x".repeat(2_000)), ..Context::default() };
        context(&mut ctx, false, Device::default());
        assert_eq!(ctx.title.map(|title| title.len()), Some(MESSAGE_MAX_BYTES));
        assert_eq!(ctx.os.map(|os| os.len()), Some(WORD_MAX_BYTES));
    }
}
