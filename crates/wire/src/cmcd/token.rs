//! Tokens: what a thing is, as one to three letters.

use sfv::{BareItem, ListEntry};

use super::value::{Value, single};

/// What an object is (`ot`), and for which kind of object a number holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ObjectType {
    /// `m`: playlist or manifest.
    Manifest,
    /// `a`: audio.
    Audio,
    /// `v`: video.
    Video,
    /// `av`: audio and video in one.
    Muxed,
    /// `i`: initialisation segment.
    Init,
    /// `c`: captions.
    Caption,
    /// `tt`: timed text in ISO BMFF.
    TimedText,
    /// `k`: key, licence or certificate.
    Key,
    /// `o`: anything else.
    Other,
}

/// Stream type (`st`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamType {
    /// `v`: on demand.
    Vod,
    /// `l`: live.
    Live,
    /// `ll`: live with low latency.
    LowLatency,
}

/// Streaming format (`sf`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamingFormat {
    /// `d`: MPEG-DASH.
    Dash,
    /// `h`: HLS.
    Hls,
    /// `e`: HESP.
    Hesp,
    /// `s`: Smooth Streaming.
    Smooth,
    /// `o`: anything else.
    Other,
}

/// State of the player (`sta`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// `s`: told to play, and not there yet.
    Starting,
    /// `p`: media is rendered.
    Playing,
    /// `k`: seeking.
    Seeking,
    /// `r`: out of buffer, start-up and seeks excepted.
    Rebuffering,
    /// `a`: paused.
    Paused,
    /// `w`: paused by the player (gone in CTA-5004-B).
    Waiting,
    /// `e`: played to the end.
    Ended,
    /// `f`: ended by an error.
    Fatal,
    /// `q`: ended by the viewer.
    Quit,
    /// `d`: loading ahead of a start that is to come.
    Preloading,
}

/// Why a record was made (`e`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventName {
    /// `abs`: an ad break begins.
    AdBreakStart,
    /// `abe`: an ad break ends.
    AdBreakEnd,
    /// `as`: an ad begins.
    AdStart,
    /// `ae`: an ad ends.
    AdEnd,
    /// `b`: into the background (with `bg`) or out of it.
    Background,
    /// `bc`: another bitrate.
    Bitrate,
    /// `c`: other content.
    Content,
    /// `ce`: an event of the application's own, named by `cen`.
    Custom,
    /// `e`: an error.
    Error,
    /// `h`: another host.
    Host,
    /// `m`: muted.
    Mute,
    /// `pc`: the player became smaller.
    Collapse,
    /// `pe`: the player became larger.
    Expand,
    /// `pr`: another playback rate.
    Rate,
    /// `ps`: another state.
    State,
    /// `rr`: a response was received.
    Response,
    /// `sk`: an ad was skipped.
    Skip,
    /// `t`: time has passed.
    Time,
    /// `um`: no longer muted.
    Unmute,
}

macro_rules! tokens {
    ($($name:ident { $($text:literal $variant:ident),+ $(,)? })+) => {$(
        impl $name {
            /// The token.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }

            /// The value of this token.
            #[must_use]
            pub fn of(token: &str) -> Option<Self> {
                match token { $($text => Some(Self::$variant),)+ _ => None }
            }
        }

        impl Value for $name {
            fn read(entry: &ListEntry) -> Option<Self> {
                match single(entry)? {
                    BareItem::Token(token) => Self::of(token.as_str()),
                    BareItem::String(text) => Self::of(text.as_str()),
                    _ => None,
                }
            }

            fn write(&self) -> Option<String> {
                Some(self.as_str().to_owned())
            }
        }
    )+};
}

tokens! {
    ObjectType {
        "m" Manifest, "a" Audio, "v" Video, "av" Muxed, "i" Init, "c" Caption, "tt" TimedText, "k" Key, "o" Other,
    }
    StreamType { "v" Vod, "l" Live, "ll" LowLatency }
    StreamingFormat { "d" Dash, "h" Hls, "e" Hesp, "s" Smooth, "o" Other }
    State {
        "s" Starting, "p" Playing, "k" Seeking, "r" Rebuffering, "a" Paused, "w" Waiting, "e" Ended, "f" Fatal,
        "q" Quit, "d" Preloading,
    }
    EventName {
        "abs" AdBreakStart, "abe" AdBreakEnd, "as" AdStart, "ae" AdEnd, "b" Background, "bc" Bitrate, "c" Content,
        "ce" Custom, "e" Error, "h" Host, "m" Mute, "pc" Collapse, "pe" Expand, "pr" Rate, "ps" State, "rr" Response,
        "sk" Skip, "t" Time, "um" Unmute,
    }
}
