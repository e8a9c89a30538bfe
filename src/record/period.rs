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
    DaysAgo(u16),
}

impl Day {
    /// The date, if today is this day.
    #[must_use]
    pub fn date(self, today: Date) -> Date {
        match self {
            Self::Date(date) => date,
            Self::DaysAgo(days) => today.saturating_sub(i64::from(days).days()),
        }
    }
}

impl FromStr for Day {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "{text:?} is not a day; use a date (2026-11-26), a number of days or weeks ago (7d, 2w), today or yesterday"
            )
        };
        let ago = |number: &str, days: u16| {
            let number: u16 = number.parse().map_err(|_| wrong())?;
            let days = number.checked_mul(days).ok_or_else(wrong)?;
            Ok(Self::DaysAgo(days))
        };
        match text {
            "today" => Ok(Self::DaysAgo(0)),
            "yesterday" => Ok(Self::DaysAgo(1)),
            _ => match (text.strip_suffix('d'), text.strip_suffix('w')) {
                (Some(number), _) => ago(number, 1),
                (_, Some(number)) => ago(number, 7),
                _ => text.parse().map(Self::Date).map_err(|_| wrong()),
            },
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
            ("7d", date(2026, 2, 22)),
            ("2w", date(2026, 2, 15)),
        ] {
            let parsed = Day::from_str(text).map(|day| day.date(today));
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
            assert!(Day::from_str(text).is_err(), "{text}");
        }
        assert_eq!(Day::DaysAgo(u16::MAX).date(Date::MIN), Date::MIN);
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
