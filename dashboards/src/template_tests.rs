//! Every template × sample.

use spillway_wire::overview::Overview;

use crate::board::Board;
use crate::sample::{self, SAMPLE_AT_MS};
use crate::{DashboardConfig, view};

fn config() -> DashboardConfig {
    DashboardConfig {
        title: Some("a <b>deployment</b>".to_owned()),
        watch_url: Some("https://tv.example/watch?a=1&b=2".to_owned()),
        ..DashboardConfig::default()
    }
}

fn board(overview: &Overview) -> Board {
    let mut board = Board::default();
    let json = serde_json::to_vec(overview).expect("JSON");
    board.accept(&json, overview.at_ms).expect("accepted");
    board
}

/// The story up to `second`, as a page has it that was there all the time.
fn board_with_history(second: u64) -> Board {
    let mut board = Board::default();
    for at in (0..=second).step_by(2) {
        let at_ms = SAMPLE_AT_MS - (second - at) * 1_000;
        let json = serde_json::to_vec(&sample::story(at, at_ms)).expect("JSON");
        board.accept(&json, at_ms).expect("accepted");
    }
    board
}

/// Tags that open, minus tags that close, by name: a crude check that markup is whole.
fn unbalanced(html: &str) -> Vec<String> {
    [
        "div", "section", "table", "header", "main", "tbody", "tr", "td", "th", "p", "ul", "ol", "li", "span", "svg",
        "figure", "dl", "a",
    ]
    .into_iter()
    .filter(|tag| {
        let opened = html.matches(&format!("<{tag} ")).count() + html.matches(&format!("<{tag}>")).count();
        opened != html.matches(&format!("</{tag}>")).count()
    })
    .map(str::to_owned)
    .collect()
}

#[test]
fn every_sample_renders_whole_as_page_and_as_fragment() {
    for (name, overview) in sample::all() {
        let board = board(&overview);
        for age_ms in [0, 9_999, 23_000] {
            let page = view::page(&config(), &board, SAMPLE_AT_MS + age_ms);
            let fragment = view::fragment(&config(), &board, SAMPLE_AT_MS + age_ms);
            assert!(page.starts_with("<!DOCTYPE html>") && page.trim_end().ends_with("</html>"), "{name}");
            assert!(page.contains(fragment.trim()), "{name}: the page holds the same board as the event");
            assert_eq!(unbalanced(&page), Vec::<String>::new(), "{name}");
            for forbidden in [" style=", "<style", " onclick", "<script>", "http://"] {
                assert!(!page.contains(forbidden), "{name}: {forbidden}");
            }
        }
    }
}

#[test]
fn the_page_before_the_first_overview_says_what_it_waits_for() {
    let page = view::page(&DashboardConfig::default(), &Board::default(), SAMPLE_AT_MS);
    assert!(page.contains("Waiting for the first overview") && page.contains("No data yet"));
    assert_eq!(unbalanced(&page), Vec::<String>::new());
}

#[test]
fn nothing_that_came_over_the_bus_becomes_markup() {
    let overview = sample::hostile();
    let page = view::page(&config(), &board(&overview), SAMPLE_AT_MS);
    for forbidden in ["<script>alert", "<img", "<b>WOBBLY", "<b>deployment", "alert('x')"] {
        assert!(!page.contains(forbidden), "{forbidden}");
    }
    assert!(page.contains("&#60;script&#62;alert") && page.contains("&#60;b&#62;WOBBLY"));
}

#[test]
fn old_data_is_called_old_in_words() {
    let board = board(&sample::quiet());
    let fresh = view::fragment(&config(), &board, SAMPLE_AT_MS + 10_000);
    let stale = view::fragment(&config(), &board, SAMPLE_AT_MS + 23_000);
    assert!(!fresh.contains("The orchestrator has not reported"));
    assert!(
        stale.contains(">23\u{202f}s</span> old.")
            && stale.contains("Last known: All pathways")
            && stale.contains("l-stale")
            && stale.contains("OLD DATA")
    );
}

#[test]
fn a_region_in_trouble_comes_first() {
    let html = view::fragment(&config(), &board(&sample::outage()), SAMPLE_AT_MS);
    let place = |name: &str| html.find(&format!("id=\"region-{name}\"")).expect("there");
    assert!(place("eu-central") < place("ap-south") && place("ap-south") < place("us-east"));
}

#[test]
fn what_is_in_force_is_listed_with_its_end_and_bounded() {
    let html = view::fragment(&config(), &board(&sample::sparse()), SAMPLE_AT_MS);
    let notes = html.split("class=\"card notes\"").nth(1).expect("a card").split("</section>").next().expect("whole");
    for words in [
        "freeze</span><p><span class=\"where\">eu-central</span> final of the cup (ann)",
        "for another 9\u{202f}min",
        "drain own-fra-1: new disks (bob)",
        "for another 2\u{202f}h",
        "trial</span><p>policy bold on trial in ap-south",
        "commit</span><p>cdn-a: 312 of 1000 committed GB",
    ] {
        assert!(notes.contains(words), "{words} is missing in {notes}");
    }
    assert!(!view::fragment(&config(), &board(&sample::quiet()), SAMPLE_AT_MS).contains("card notes"));
    assert!(view::fragment(&config(), &board(&sample::long()), SAMPLE_AT_MS).contains("and 28 more"));
}

#[test]
fn fifty_lines_are_listed_newest_first_and_each_is_bounded() {
    let html = view::fragment(&config(), &board(&sample::long()), SAMPLE_AT_MS);
    assert_eq!(html.matches("<li data-key=\"17").count(), 50);
    assert!(html.find("line 49:").expect("newest") < html.find("line 0:").expect("oldest"));
    assert!(html.len() < 150_000, "{}", html.len());
}

#[test]
fn a_whole_history_fits_a_small_event() {
    let html = view::fragment(&config(), &board_with_history(358), SAMPLE_AT_MS);
    assert!(html.len() < 80_000, "{}", html.len());
}

#[test]
fn the_quiet_board_reads_as_before() {
    insta::assert_snapshot!(view::fragment(&DashboardConfig::default(), &board_with_history(12), SAMPLE_AT_MS + 700));
}

#[test]
fn the_outage_page_reads_as_before() {
    insta::assert_snapshot!(view::page(&config(), &board(&sample::outage()), SAMPLE_AT_MS + 700));
}

#[test]
fn the_empty_page_reads_as_before() {
    insta::assert_snapshot!(view::page(&DashboardConfig::default(), &Board::default(), SAMPLE_AT_MS));
}
