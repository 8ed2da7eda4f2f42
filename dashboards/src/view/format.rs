//! Numbers as people read them. A narrow no-break space stands between number and unit.

/// Between a number and its unit.
const NARROW: char = '\u{202f}';

/// A share: one decimal below 10 %, none above.
pub(crate) fn percent(ppm: u32) -> String {
    let tenths = (u64::from(ppm) + 500) / 1_000;
    match (ppm, tenths) {
        (0, _) => format!("0{NARROW}%"),
        (_, 0) => format!("<0.1{NARROW}%"),
        (10_000_000.., _) => format!(">999{NARROW}%"),
        (_, 1..100) => format!("{}.{}{NARROW}%", tenths / 10, tenths % 10),
        _ => format!("{}{NARROW}%", (u64::from(ppm) + 5_000) / 10_000),
    }
}

/// A share of good things: one decimal, never rounded up, so that 100 % means all.
pub(crate) fn percent_good(ppm: u32) -> String {
    match ppm / 1_000 {
        1_000.. => format!("100{NARROW}%"),
        tenths => format!("{}.{}{NARROW}%", tenths / 10, tenths % 10),
    }
}

/// A width in per cent for an SVG attribute: `ppm` of a scale that ends at `full_ppm`.
pub(crate) fn width(ppm: u32, full_ppm: u32) -> String {
    let permille = (u64::from(ppm) * 1_000 / u64::from(full_ppm.max(1))).min(1_000);
    format!("{}.{}%", permille / 10, permille % 10)
}

/// A number with commas between thousands.
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A bit rate with three digits that count.
pub(crate) fn rate(bps: u64) -> String {
    let (unit, per) = match bps {
        0 => return format!("0{NARROW}bit/s"),
        1..1_000_000 => ("kbit/s", 1_000),
        1_000_000..1_000_000_000 => ("Mbit/s", 1_000_000),
        1_000_000_000..1_000_000_000_000 => ("Gbit/s", 1_000_000_000),
        _ => ("Tbit/s", 1_000_000_000_000),
    };
    let hundredths = u128::from(bps) * 100 / per;
    let number = match hundredths {
        0..1_000 => format!("{}.{:02}", hundredths / 100, hundredths % 100),
        1_000..10_000 => format!("{}.{}", hundredths / 100, hundredths % 100 / 10),
        _ => count(u64::try_from(hundredths / 100).unwrap_or(u64::MAX)),
    };
    format!("{number}{NARROW}{unit}")
}

/// How long, in the largest unit or two.
pub(crate) fn span(ms: u64) -> String {
    let s = ms / 1_000;
    match s {
        0..60 => format!("{s}{NARROW}s"),
        60..600 if !s.is_multiple_of(60) => format!("{}{NARROW}min {}{NARROW}s", s / 60, s % 60),
        60..3_600 => format!("{}{NARROW}min", s / 60),
        3_600..86_400 => format!("{}{NARROW}h {}{NARROW}min", s / 3_600, s % 3_600 / 60),
        _ => format!("{}{NARROW}d {}{NARROW}h", s / 86_400, s % 86_400 / 3_600),
    }
}

/// How long something lasts that began at `since_ms`; nothing if that is not known (0).
pub(crate) fn lasting(since_ms: u64, at_ms: u64) -> Option<String> {
    (since_ms > 0).then(|| span(at_ms.saturating_sub(since_ms)))
}

/// Time of day, UTC: `03:12:44`.
pub(crate) fn time_of_day(ms: u64) -> String {
    let s = ms / 1_000;
    format!("{:02}:{:02}:{:02}", s / 3_600 % 24, s / 60 % 60, s % 60)
}

/// Date and time, UTC: `2026-11-05T03:12:44Z`.
pub(crate) fn iso(ms: u64) -> String {
    // Days since 0000-03-01, in eras of 400 years (Howard Hinnant, "chrono-compatible low-level date algorithms").
    let days = ms / 86_400_000 + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let of_year = day - (365 * year + year / 4 - year / 100);
    let shifted = (5 * of_year + 2) / 153;
    let date = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year + era * 400 + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{date:02}T{}Z", time_of_day(ms))
}

/// At most `chars` characters, with an ellipsis if there were more.
pub(crate) fn shorten(text: &str, chars: usize) -> String {
    let mut letters = text.chars();
    let mut short: String = letters.by_ref().take(chars).collect();
    if letters.next().is_some() {
        short.pop();
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(text: &str) -> String {
        text.replace(NARROW, " ")
    }

    #[test]
    fn shares_keep_a_decimal_only_where_it_tells_something() {
        let shown: Vec<String> = [0, 1, 900, 99_400, 99_960, 234_567, 996_000, 1_000_000, 4_000_000_000]
            .map(percent)
            .iter()
            .map(|t| plain(t))
            .collect();
        assert_eq!(shown, ["0 %", "<0.1 %", "0.1 %", "9.9 %", "10 %", "23 %", "100 %", "100 %", ">999 %"]);
    }

    #[test]
    fn good_views_are_never_rounded_up() {
        assert_eq!(plain(&percent_good(999_999)), "99.9 %");
        assert_eq!(plain(&percent_good(1_000_000)), "100 %");
        assert_eq!(plain(&percent_good(81_234)), "8.1 %");
    }

    #[test]
    fn rates_have_three_digits() {
        let shown: Vec<String> =
            [0, 5_000, 950_000, 1_234_567, 84_200_000, 940_000_000, 1_240_000_000, 2_000_000_000_000]
                .map(rate)
                .iter()
                .map(|t| plain(t))
                .collect();
        let expected = [
            "0 bit/s",
            "5.00 kbit/s",
            "950 kbit/s",
            "1.23 Mbit/s",
            "84.2 Mbit/s",
            "940 Mbit/s",
            "1.24 Gbit/s",
            "2.00 Tbit/s",
        ];
        assert_eq!(shown, expected);
    }

    #[test]
    fn spans_and_counts_read_well() {
        let shown: Vec<String> = [900, 42_000, 80_000, 120_000, 3_599_000, 7_500_000, 90_000_000_u64]
            .map(span)
            .iter()
            .map(|t| plain(t))
            .collect();
        assert_eq!(shown, ["0 s", "42 s", "1 min 20 s", "2 min", "59 min", "2 h 5 min", "1 d 1 h"]);
        assert_eq!([0, 999, 1_000, 1_234_567].map(count), ["0", "999", "1,000", "1,234,567"]);
    }

    #[test]
    fn dates_are_right_at_the_edges_of_months_and_leap_years() {
        assert_eq!(iso(0), "1970-01-01T00:00:00Z");
        assert_eq!(iso(951_782_400_000), "2000-02-29T00:00:00Z");
        assert_eq!(iso(1_735_689_599_000), "2024-12-31T23:59:59Z");
        assert_eq!(iso(1_793_849_564_000), "2026-11-05T03:32:44Z");
    }

    #[test]
    fn widths_end_at_the_scale() {
        assert_eq!(width(372_000, 1_000_000), "37.2%");
        assert_eq!(width(2_000_000, 1_250_000), "100.0%");
    }

    #[test]
    fn long_text_is_cut_between_characters() {
        assert_eq!(shorten("äöü", 3), "äöü");
        assert_eq!(shorten("äöüß", 3), "äö…");
    }
}
