//! Newtypes for units, so that two numbers cannot be swapped.

use core::fmt;
use core::iter::Sum;
use core::ops::{Add, AddAssign, Sub};

macro_rules! unit {
    ($(#[$doc:meta])* $name:ident, $inner:ty, $suffix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $inner);

        impl $name {
            /// None of it.
            pub const ZERO: Self = Self(0);

            /// Difference that stops at zero.
            #[must_use]
            pub const fn saturating_sub(self, other: Self) -> Self {
                Self(self.0.saturating_sub(other.0))
            }
        }

        impl Add for $name {
            type Output = Self;
            fn add(self, other: Self) -> Self {
                Self(self.0.saturating_add(other.0))
            }
        }

        impl AddAssign for $name {
            fn add_assign(&mut self, other: Self) {
                *self = *self + other;
            }
        }

        impl Sub for $name {
            type Output = Self;
            fn sub(self, other: Self) -> Self {
                self.saturating_sub(other)
            }
        }

        impl Sum for $name {
            fn sum<I: Iterator<Item = Self>>(iter: I) -> Self {
                iter.fold(Self::ZERO, Add::add)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}{}", self.0, $suffix)
            }
        }
    };
}

unit!(/** A span of time. */ Millis, u64, " ms");
unit!(/** A moment: milliseconds since the Unix epoch. */ TimestampMs, u64, " ms since epoch");
unit!(/** A rate of delivery. */ BitsPerSecond, u64, " bit/s");
unit!(/** An amount of delivery. */ Bits, u64, " bit");
unit!(/** An amount of storage or body. */ Bytes, u64, " bytes");
unit!(/** A share in parts per million; 1,000,000 is all. */ Ppm, u32, " ppm");

impl TimestampMs {
    /// The moment `span` later.
    #[must_use]
    pub const fn after(self, span: Millis) -> Self {
        Self(self.0.saturating_add(span.0))
    }

    /// Time since `earlier`, zero if that lies ahead.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Millis {
        Millis(self.0.saturating_sub(earlier.0))
    }
}

impl Millis {
    /// From whole seconds.
    #[must_use]
    pub const fn from_secs(seconds: u64) -> Self {
        Self(seconds.saturating_mul(1000))
    }

    /// As seconds with fraction.
    #[must_use]
    pub fn as_secs_f64(self) -> f64 {
        self.0 as f64 / 1000.0
    }
}

impl Ppm {
    /// All of it.
    pub const ALL: Self = Self(1_000_000);

    /// The nearest share of a fraction, which is first brought into 0 to 1.
    #[must_use]
    pub fn from_fraction(fraction: f64) -> Self {
        let bounded = if fraction.is_nan() { 0.0 } else { fraction.clamp(0.0, 1.0) };
        Self((bounded * 1e6 + 0.5) as u32)
    }

    /// As a fraction; may exceed 1 (a utilisation can).
    #[must_use]
    pub fn as_fraction(self) -> f64 {
        f64::from(self.0) / 1e6
    }
}
