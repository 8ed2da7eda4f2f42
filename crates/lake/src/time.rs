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

#[cfg(test)]
mod tests {
    use super::day_of;

    #[test]
    fn days_are_those_of_the_calendar() {
        let day = 86_400_000;
        assert_eq!(day_of(0), "1970-01-01");
        assert_eq!(day_of(day - 1), "1970-01-01");
        assert_eq!(day_of(11_016 * day), "2000-02-29");
        assert_eq!(day_of(1_767_225_600_123), "2026-01-01");
    }
}
