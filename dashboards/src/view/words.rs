//! The words of an overview as style classes and ranks. Overviews carry words as text, so that an older page shows a
//! newer orchestrator's: a word that is not known is shown as it is, in grey.

use spillway_model::{Mode, PathwayKind, PathwayState};
use spillway_wire::overview::PathwayView;

use super::format::{percent_good, shorten};

/// How much attention something asks for, least first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    /// Nothing.
    Ok,
    /// Something is going on, on purpose or for the better.
    Info,
    /// Worse than it should be.
    Warn,
    /// Broken.
    Bad,
}

impl Level {
    /// Style class.
    pub(crate) const fn class(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Bad => "bad",
        }
    }
}

/// A word with its style class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tag {
    pub(crate) text: String,
    pub(crate) class: &'static str,
}

const WORD_MAX_CHARS: usize = 20;

/// The state's pill.
pub(crate) fn state(word: &str) -> Tag {
    let class = match word.parse::<PathwayState>() {
        Ok(PathwayState::Healthy) => "s-healthy",
        Ok(PathwayState::Degraded) => "s-degraded",
        Ok(PathwayState::Down) => "s-down",
        Ok(PathwayState::Draining) => "s-draining",
        Ok(PathwayState::Recovering) => "s-recovering",
        Ok(PathwayState::Unknown) | Err(_) => "s-unknown",
    };
    let text = if word.is_empty() { "UNKNOWN".to_owned() } else { shorten(word, WORD_MAX_CHARS) };
    Tag { text, class }
}

/// How much attention a pathway asks for. One that nobody uses and nothing is heard of asks for none.
pub(crate) fn level(pathway: &PathwayView) -> Level {
    match pathway.state.parse::<PathwayState>() {
        Ok(PathwayState::Healthy) => Level::Ok,
        Ok(PathwayState::Degraded) => Level::Warn,
        Ok(PathwayState::Down) => Level::Bad,
        Ok(PathwayState::Draining | PathwayState::Recovering) => Level::Info,
        Ok(PathwayState::Unknown) | Err(_) if pathway.views_active > 0 => Level::Info,
        Ok(PathwayState::Unknown) | Err(_) => Level::Ok,
    }
}

/// The badge of who runs it; `kind` is empty if the overview doesn't say.
pub(crate) fn badge(kind: &str) -> Tag {
    match kind.parse::<PathwayKind>() {
        Ok(PathwayKind::Own) => Tag { text: "own".to_owned(), class: "b-own" },
        Ok(PathwayKind::Commercial) => Tag { text: "CDN".to_owned(), class: "b-cdn" },
        Err(_) if kind.is_empty() => Tag { text: "?".to_owned(), class: "b-other" },
        Err(_) => Tag { text: shorten(kind, WORD_MAX_CHARS), class: "b-other" },
    }
}

/// The region's mode.
pub(crate) fn mode(word: &str) -> Tag {
    let class = match word.parse::<Mode>() {
        Ok(Mode::Control) => "m-control",
        Ok(Mode::Shadow | Mode::Observe) | Err(_) => "m-other",
    };
    let text = if word.is_empty() { "mode unknown".to_owned() } else { shorten(word, WORD_MAX_CHARS) };
    Tag { text, class }
}

/// What the probes say.
pub(crate) fn probe(word: &str) -> Tag {
    let class = match word {
        "ok" => "p-ok",
        "bad" => "p-bad",
        _ => "p-none",
    };
    let text = if word.is_empty() { "none".to_owned() } else { shorten(word, WORD_MAX_CHARS) };
    Tag { text, class }
}

/// Good views below this are worth a look.
const GOOD_WARN_PPM: u32 = 970_000;
/// Good views below this are an incident.
const GOOD_BAD_PPM: u32 = 900_000;

/// Share of good views.
pub(crate) fn good(ppm: Option<u32>) -> Tag {
    match ppm {
        None => Tag { text: "–".to_owned(), class: "v-none" },
        Some(ppm) => Tag {
            text: percent_good(ppm),
            class: match ppm {
                ..GOOD_BAD_PPM => "v-bad",
                GOOD_BAD_PPM..GOOD_WARN_PPM => "v-warn",
                _ => "v-ok",
            },
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_of_the_model_has_a_pill_of_its_own() {
        let mut classes: Vec<_> = PathwayState::ALL.iter().map(|word| state(word.as_str()).class).collect();
        classes.sort_unstable();
        classes.dedup();
        assert_eq!(classes.len(), PathwayState::ALL.len());
    }

    #[test]
    fn an_unknown_word_is_shown_as_it_is() {
        assert_eq!(state("WOBBLY"), Tag { text: "WOBBLY".to_owned(), class: "s-unknown" });
        assert_eq!(badge("satellite").text, "satellite");
        assert_eq!(probe("").text, "none");
    }
}
