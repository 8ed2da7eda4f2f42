//! Times as MPDs have them (ISO 8601).

/// `PT1H2M3.5S` and such in ms; years and months are too vague to be one.
pub(super) fn duration_ms(text: &str) -> Option<u64> {
    let rest = text.trim().strip_prefix('P')?;
    let (days, time) = rest.split_once('T').unwrap_or((rest, ""));
    let mut ms = 0.0;
    for (part, units) in [(days, &[('D', 86_400.0)][..]), (time, &[('H', 3_600.0), ('M', 60.0), ('S', 1.0)])] {
        let mut part = part;
        for (unit, seconds) in units {
            if let Some((number, after)) = part.split_once(*unit) {
                let number: f64 = number.parse().ok()?;
                ms += number * seconds * 1000.0;
                part = after;
            }
        }
        if !part.is_empty() {
            return None;
        }
    }
    (ms.is_finite() && (0.0..1e15).contains(&ms)).then(|| ms.round() as u64)
}

/// `2026-01-01T00:00:00.5Z` as ms since 1970; without a zone it is UTC.
pub(super) fn moment_ms(text: &str) -> Option<u64> {
    let (date, time) = text.trim().split_once('T')?;
    let mut date = date.splitn(3, '-').map(|part| part.parse::<i64>().ok());
    let (year, month, day) = (date.next()??, date.next()??, date.next()??);
    let (clock, zone_minutes) = match time.find(['Z', '+', '-']) {
        Some(at) => (&time[..at], zone_minutes(&time[at..])?),
        None => (time, 0),
    };
    let mut clock = clock.splitn(3, ':');
    let (hour, minute): (i64, i64) = (clock.next()?.parse().ok()?, clock.next()?.parse().ok()?);
    let second: f64 = clock.next()?.parse().ok()?;
    let valid = (1970..10_000).contains(&year)
        && (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && (0..=24).contains(&hour)
        && (0..60).contains(&minute)
        && (0.0..61.0).contains(&second);
    if !valid {
        return None;
    }
    let minutes = (days_since_1970(year, month, day) * 24 + hour) * 60 + minute - zone_minutes;
    u64::try_from(minutes * 60_000 + (second * 1000.0).round() as i64).ok()
}

fn zone_minutes(zone: &str) -> Option<i64> {
    if zone == "Z" {
        return Some(0);
    }
    let sign = if zone.starts_with('-') { -1 } else { 1 };
    let (hours, minutes) = zone.get(1..)?.split_once(':')?;
    Some(sign * (hours.parse::<u8>().ok().map(i64::from)? * 60 + minutes.parse::<u8>().ok().map(i64::from)?))
}

/// Days of the Gregorian calendar; years begin in March, so that the leap day is their last.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year / 400, year % 400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + day_of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_or_refused() {
        for (text, expected) in [
            ("PT2S", Some(2_000)),
            ("PT0H1M0.250S", Some(60_250)),
            ("P1DT1H", Some(90_000_000)),
            ("P1Y", None),
            ("PT", Some(0)),
            ("PTxS", None),
            ("2S", None),
            ("PT1S1M", None),
            ("PT-1S", None),
            ("PTinfS", None),
        ] {
            assert_eq!(duration_ms(text), expected, "{text}");
        }
    }

    #[test]
    fn moments_are_read_or_refused() {
        for (text, expected) in [
            ("1970-01-01T00:00:00Z", Some(0)),
            ("2020-01-01T00:00:00Z", Some(1_577_836_800_000)),
            ("2024-02-29T12:00:00.5+01:00", Some(1_709_204_400_500)),
            ("2026-12-31T23:59:59", Some(1_798_761_599_000)),
            ("1969-12-31T23:59:59Z", None),
            ("2026-13-01T00:00:00Z", None),
            ("now", None),
            ("2026-01-01T00:00:00+x", None),
        ] {
            assert_eq!(moment_ms(text), expected, "{text}");
        }
    }
}
