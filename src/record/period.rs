//! Days, which are UTC everywhere, periods of them, and how long something lasts.

use std::str::FromStr;

use jiff::civil::Date;
use jiff::tz::Offset;
use jiff::{Timestamp, ToSpan};

use super::Millis;

/// A day, in milliseconds.
pub const DAY: Millis = 86_400_000;

/// A day as users type it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Day {
    /// A date.
    Date(Date),
    /// This many days before today.
    Ago(u16),
    /// This many days, the last of which is today.
    Last(u16),
}

impl Day {
    /// The first day of a period that begins with it.
    #[must_use]
    pub fn first(self, today: Date) -> Date {
        match self {
            Self::Date(date) => date,
            Self::Ago(days) => before(today, days),
            Self::Last(days) => before(today, days.saturating_sub(1)),
        }
    }

    /// The last day of a period that ends with it; for [`Self::Last`], the day before those days.
    #[must_use]
    pub fn last(self, today: Date) -> Date {
        match self {
            Self::Last(days) => before(today, days),
            _ => self.first(today),
        }
    }
}

fn before(today: Date, days: u16) -> Date {
    today.saturating_sub(i64::from(days).days())
}

impl FromStr for Day {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "{text:?} is not a day; use a date (2026-11-26), a number of days or weeks (7d, 2w), today or yesterday"
            )
        };
        let last = |number: &str, days: u16| {
            let number: u16 = number.parse().map_err(|_| wrong())?;
            let days = number.checked_mul(days).ok_or_else(wrong)?;
            Ok(Self::Last(days))
        };
        let lower = text.to_ascii_lowercase();
        match lower.as_str() {
            "today" => return Ok(Self::Ago(0)),
            "yesterday" => return Ok(Self::Ago(1)),
            _ => {}
        }
        match (lower.strip_suffix('d'), lower.strip_suffix('w')) {
            (Some(number), _) => last(number, 1),
            (_, Some(number)) => last(number, 7),
            _ => {
                let date = text.parse().map_err(|_| wrong())?;
                let is_part = |char: char| char.is_ascii_digit() || char == '-';
                if text.chars().all(is_part) {
                    return Ok(Self::Date(date));
                }
                // A time or a time zone must not seem to count.
                Err(format!(
                    "{text:?} has a time or a time zone; days are UTC, so use only the date: {date}"
                ))
            }
        }
    }
}

/// A duration as users type it, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lifetime(pub Millis);

impl FromStr for Lifetime {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let units = [('h', DAY / 24), ('d', DAY), ('w', 7 * DAY)];
        let mut parts = units
            .into_iter()
            .filter_map(|(unit, length)| Some((text.strip_suffix(unit)?, length)));
        match parts
            .next()
            .map(|(number, length)| (number.parse::<u16>(), length))
        {
            Some((Ok(number @ 1..), length)) => Ok(Self(Millis::from(number) * length)),
            _ => Err("expected a number of hours, days or weeks, such as 12h, 7d or 2w".to_owned()),
        }
    }
}

/// The days from one to another, both included.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Period {
    /// The first day, if there is one.
    pub since: Option<Date>,
    /// The last day, if there is one.
    pub until: Option<Date>,
}

impl Period {
    /// Whether the day is in the period.
    #[must_use]
    pub fn contains(&self, day: Date) -> bool {
        self.since.is_none_or(|since| day >= since) && self.until.is_none_or(|until| day <= until)
    }
}

/// The UTC day of a moment.
#[must_use]
pub fn day_of(at: Millis) -> Date {
    let moment = Timestamp::from_millisecond(at).unwrap_or_default();
    Offset::UTC.to_datetime(moment).date()
}

/// The first moment of a UTC day.
#[must_use]
pub fn start_of(day: Date) -> Millis {
    let moment = Offset::UTC.to_timestamp(day.at(0, 0, 0, 0));
    moment.map_or(Millis::MIN, Timestamp::as_millisecond)
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;

    use super::*;

    #[test]
    fn day_is_parsed_as_users_type_it() {
        let today = date(2026, 3, 1);
        for (text, day) in [
            ("2026-02-28", date(2026, 2, 28)),
            ("20260228", date(2026, 2, 28)),
            ("today", today),
            ("0d", today),
            ("yesterday", date(2026, 2, 28)),
            ("1d", today),
            ("7d", date(2026, 2, 23)),
            ("2w", date(2026, 2, 16)),
            ("7D", date(2026, 2, 23)),
            ("Yesterday", date(2026, 2, 28)),
        ] {
            let parsed = Day::from_str(text).map(|day| day.first(today));
            assert_eq!(parsed, Ok(day), "{text}");
        }
        for text in [
            "",
            "d",
            "-1d",
            "7",
            "2026-02-30",
            "65536d",
            "9999w",
            "tomorrow",
        ] {
            let error = Day::from_str(text).unwrap_err();
            assert!(error.contains("is not a day"), "{text}: {error}");
        }
        assert_eq!(Day::Last(u16::MAX).first(Date::MIN), Date::MIN);
    }

    #[test]
    fn last_days_end_today_and_those_before_them_end_when_they_begin() {
        let today = date(2026, 3, 1);
        let week = Day::from_str("7d").unwrap();
        let days = |day: Day, other: Day| (day.first(today), other.last(today));
        assert_eq!(
            days(week, Day::Ago(0)),
            (date(2026, 2, 23), date(2026, 3, 1))
        );
        let two_weeks = Day::from_str("2w").unwrap();
        assert_eq!(
            days(two_weeks, week),
            (date(2026, 2, 16), date(2026, 2, 22))
        );
    }

    #[test]
    fn day_with_a_time_or_a_time_zone_is_refused() {
        for text in [
            "2026-11-01T23:00:00+05:00",
            "2026-11-01[Asia/Tokyo]",
            "2026-11-01 10:00",
        ] {
            let error = Day::from_str(text).unwrap_err();
            let expected = "days are UTC, so use only the date: 2026-11-01";
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn lifetime_is_at_least_an_hour() {
        let hours = |text: &str| Lifetime::from_str(text).map(|time| time.0 / 3_600_000);
        assert_eq!(["1h", "7d", "2w"].map(hours), [Ok(1), Ok(168), Ok(336)]);
        for text in ["", "h", "0d", "7", "-1d", "7y", "65536h", "é"] {
            assert!(hours(text).is_err(), "{text}");
        }
    }

    #[test]
    fn day_starts_at_midnight_utc() {
        let day = date(2025, 3, 1);
        let start = 1_740_787_200_000;
        assert_eq!((start_of(day), day_of(start)), (start, day));
        assert_eq!(day_of(start - 1), date(2025, 2, 28));
        assert_eq!(day_of(start + 86_399_999), day);
    }
}
