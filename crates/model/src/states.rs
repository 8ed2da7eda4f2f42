//! The closed sets of words that decisions and reports use.

use alloc::string::{String, ToString};
use core::fmt;

/// A word outside its set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownWord {
    what: &'static str,
    value: String,
    valid: &'static [&'static str],
}

impl fmt::Display for UnknownWord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown: String = self.value.chars().take(64).collect();
        write!(f, "{} {shown:?} is unknown (valid: ", self.what)?;
        for (index, word) in self.valid.iter().enumerate() {
            write!(f, "{}{word}", if index == 0 { "" } else { ", " })?;
        }
        f.write_str(")")
    }
}

impl core::error::Error for UnknownWord {}

macro_rules! words {
    ($(#[$doc:meta])* $name:ident, $what:literal { $($(#[$vdoc:meta])* $variant:ident = $text:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name { $($(#[$vdoc])* $variant),+ }

        impl $name {
            /// Every word, in order.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The word as it is written on the wire and on pages.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl core::str::FromStr for $name {
            type Err = UnknownWord;
            fn from_str(value: &str) -> Result<Self, UnknownWord> {
                match value {
                    $($text => Ok(Self::$variant),)+
                    _ => Err(UnknownWord { what: $what, value: value.to_string(), valid: &[$($text),+] }),
                }
            }
        }
    };
}

words!(/// State of a pathway in a region (field: steering, state machine).
    PathwayState, "pathway state" {
    /// Takes its full weight.
    Healthy = "HEALTHY",
    /// Measurably worse than its neighbours: keeps a tenth.
    Degraded = "DEGRADED",
    /// Dead: probes only.
    Down = "DOWN",
    /// Being emptied on purpose.
    Draining = "DRAINING",
    /// Coming back in steps.
    Recovering = "RECOVERING",
    /// Nothing trustworthy is heard: weights stay as they are.
    Unknown = "UNKNOWN",
});

words!(/// What an anomaly is put down to. Only `Path` and `PathAsn` change a pathway's state.
    Verdict, "verdict" {
    /// One pathway in one region.
    Path = "PATH",
    /// One pathway in one network.
    PathAsn = "PATHxASN",
    /// One network, whatever the pathway.
    Access = "ACCESS",
    /// Several pathways at once: behind them.
    Origin = "ORIGIN",
    /// The origin, because of our own last move.
    OriginSelf = "ORIGIN_SELF",
    /// Too full, not ill.
    Capacity = "CAPACITY",
    /// The measurements are missing, not the service.
    Telemetry = "TELEMETRY",
    /// A flood is not an audience.
    Abuse = "ABUSE",
});

words!(/// How far Spillway is in charge of a region × class.
    Mode, "mode" {
    /// Nothing is steered.
    Observe = "observe",
    /// The plan is published beside the incumbent rules and compared.
    Shadow = "shadow",
    /// A share of sessions is steered, the rest is the holdback.
    Control = "control",
});

words!(/// Who runs a pathway.
    PathwayKind, "pathway kind" {
    /// One node of an own cluster.
    Own = "own",
    /// A commercial CDN.
    Commercial = "commercial",
});

words!(/// Streaming protocol.
    Protocol, "protocol" {
    /// HTTP Live Streaming.
    Hls = "hls",
    /// MPEG-DASH.
    Dash = "dash",
    /// Anything else, or unknown.
    Other = "other",
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_word_names_what_would_be_valid() {
        let error = "UP".parse::<PathwayState>().expect_err("not a state");
        assert_eq!(
            error.to_string(),
            "pathway state \"UP\" is unknown (valid: HEALTHY, DEGRADED, DOWN, DRAINING, RECOVERING, UNKNOWN)"
        );
    }

    #[test]
    fn every_word_reads_back() {
        for state in PathwayState::ALL {
            assert_eq!(state.as_str().parse::<PathwayState>().as_ref(), Ok(state));
        }
    }
}
