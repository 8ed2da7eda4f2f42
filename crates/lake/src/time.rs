//! Calendar days without a calendar library.

/// A day, ms.
pub(crate) const DAY_MS: u64 = 86_400_000;

/// `YYYY-MM-DD` (UTC) of a moment, ms since epoch. Howard Hinnant's civil-from-days, for days since 1970.
pub(crate) fn day_of(ms: u64) -> String {
    let z = ms / DAY_MS + 719_468;
    let era = z / 146_097;
    let day_of_era = z % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

/// A moment as `YYYY-MM-DDTHH:MM:SS.mmmZ`.
#[must_use]
pub fn iso(ms: u64) -> String {
    let of_day = ms % DAY_MS;
    let (seconds, ms_of_second) = (of_day / 1_000, of_day % 1_000);
    let (hours, minutes) = (seconds / 3_600, seconds / 60 % 60);
    format!("{}T{hours:02}:{minutes:02}:{:02}.{ms_of_second:03}Z", day_of(ms), seconds % 60)
}

/// Ms since epoch of a day's begin, `YYYY-MM-DD` (UTC) from 1970 to 9999. Days-from-civil, the inverse of [`day_of`].
pub(crate) fn ms_of_day(day: &str) -> Option<u64> {
    let mut parts = day.splitn(3, '-');
    let mut next = |digits: usize| -> Option<u64> {
        let part =
            parts.next().filter(|part| part.len() == digits && part.bytes().all(|byte| byte.is_ascii_digit()))?;
        part.parse().ok()
    };
    let (year, month, day_of_month) = (next(4)?, next(2)?, next(2)?);
    if !(1970..=9999).contains(&year) || !(1..=12).contains(&month) || !(1..=31).contains(&day_of_month) {
        return None;
    }
    let shifted_year = year - u64::from(month <= 2);
    let (era, year_of_era) = (shifted_year / 400, shifted_year % 400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day_of_month - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    let ms = (era * 146_097 + day_of_era - 719_468) * 86_400_000;
    // The 30th of February is another day than it says.
    (day_of(ms) == day).then_some(ms)
}

/// A moment as people and programs write it: a day, ISO 8601, or s, ms or µs since epoch; ms since epoch.
#[must_use]
pub fn moment(text: &str) -> Option<u64> {
    ms_of_day(text.trim()).or_else(|| crate::import::time_ms(text))
}

#[cfg(test)]
mod tests {
    use super::{day_of, ms_of_day};

    #[test]
    fn a_day_reads_back_and_one_that_is_none_does_not() {
        for days in [0_u64, 1, 11_016, 11_017, 20_454, 47_540] {
            let ms = days * 86_400_000;
            assert_eq!(ms_of_day(&day_of(ms)), Some(ms));
        }
        for bad in ["2026-02-29", "2026-13-01", "2026-1-1", "1969-12-31", "2026-01-00", "", "2026-01", "2026-01-01x"] {
            assert_eq!(ms_of_day(bad), None, "{bad}");
        }
    }

    #[test]
    fn days_are_those_of_the_calendar() {
        let day = 86_400_000;
        assert_eq!(day_of(0), "1970-01-01");
        assert_eq!(day_of(day - 1), "1970-01-01");
        assert_eq!(day_of(11_016 * day), "2000-02-29");
        assert_eq!(day_of(1_767_225_600_123), "2026-01-01");
    }
}
