//! A length of time as objects write it: `10s`, `1h30m`, `250ms`, `1.5s`.
//!
//! Gateway API's form (GEP-2257: one to four whole numbers, each with `h`, `m`, `s` or `ms`), and
//! decimals besides, because people write `1.5s`. Written back in Gateway API's form always, so that
//! other readers of our objects understand it.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The longest that Gateway API's form can say in hours (five digits).
const LONGEST: Duration = Duration::from_secs(99_999 * 3600);

/// A length of time in an object.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Period(pub Duration);

impl Period {
    #[must_use]
    pub const fn from_secs(seconds: u64) -> Period {
        Period(Duration::from_secs(seconds))
    }

    #[must_use]
    pub const fn from_millis(milliseconds: u64) -> Period {
        Period(Duration::from_millis(milliseconds))
    }

    #[must_use]
    pub const fn get(self) -> Duration {
        self.0
    }
}

impl From<Period> for Duration {
    fn from(period: Period) -> Duration {
        period.0
    }
}

impl From<Duration> for Period {
    fn from(duration: Duration) -> Period {
        Period(duration)
    }
}

/// Why a text is not a length of time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PeriodError {
    #[error("is empty; write for example 10s, 1h30m or 250ms")]
    Empty,
    #[error("needs a unit; write {0}s, {0}ms, {0}m or {0}h")]
    NoUnit(String),
    #[error("{0:?} is not a length of time; write for example 10s, 1h30m or 250ms")]
    Malformed(String),
    #[error("is longer than 99999h")]
    TooLong,
}

impl FromStr for Period {
    type Err = PeriodError;

    fn from_str(text: &str) -> Result<Period, PeriodError> {
        let malformed = || PeriodError::Malformed(text.chars().take(40).collect());
        if text.is_empty() {
            return Err(PeriodError::Empty);
        }
        if text == "0" {
            return Ok(Period::default());
        }
        let mut total = Duration::ZERO;
        let mut rest = text;
        let mut parts = 0;
        while !rest.is_empty() {
            parts += 1;
            let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.').len();
            let (number, after) = rest.split_at(digits);
            let letters = after.len() - after.trim_start_matches(|c: char| c.is_ascii_alphabetic()).len();
            let (unit, after) = after.split_at(letters);
            if unit.is_empty()
                && after.is_empty()
                && parts == 1
                && number.bytes().all(|byte| byte.is_ascii_digit())
                && number.len() <= 12
            {
                return Err(PeriodError::NoUnit(number.to_owned()));
            }
            let nanoseconds_per_unit: u64 = match unit {
                "h" => 3_600_000_000_000,
                "m" => 60_000_000_000,
                "s" => 1_000_000_000,
                "ms" => 1_000_000,
                _ => return Err(malformed()),
            };
            if parts > 4 {
                return Err(malformed());
            }
            total = total.saturating_add(part(number, nanoseconds_per_unit).ok_or_else(malformed)?);
            rest = after;
        }
        if total > LONGEST { Err(PeriodError::TooLong) } else { Ok(Period(total)) }
    }
}

/// `number` units, by whole arithmetic: `1.5` of `s` is exactly 1500 ms.
fn part(number: &str, nanoseconds_per_unit: u64) -> Option<Duration> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    if whole.is_empty()
        || whole.len() > 12
        || fraction.is_empty()
        || fraction.len() > 9
        || fraction.contains('.')
    {
        return None;
    }
    let whole: u128 = whole.parse().ok()?;
    let scale = 10u128.pow(u32::try_from(fraction.len()).ok()?);
    let fraction: u128 = fraction.parse().ok()?;
    let unit = u128::from(nanoseconds_per_unit);
    let nanoseconds = whole.checked_mul(unit)?.checked_add(fraction * unit / scale)?;
    // Beyond 584 years: longer than LONGEST, so the caller refuses it.
    Some(Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX)))
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let milliseconds = self.0.as_millis();
        if milliseconds == 0 {
            return f.write_str("0s");
        }
        let (hours, rest) = (milliseconds / 3_600_000, milliseconds % 3_600_000);
        let (minutes, rest) = (rest / 60_000, rest % 60_000);
        for (amount, unit) in [(hours, "h"), (minutes, "m"), (rest / 1000, "s"), (rest % 1000, "ms")] {
            if amount > 0 {
                write!(f, "{amount}{unit}")?;
            }
        }
        Ok(())
    }
}

impl Serialize for Period {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Period {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Period, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for Period {
    fn schema_name() -> Cow<'static, str> {
        "Period".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "format": "duration"})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, milliseconds: u64, canonical: &str) {
        let period = text.parse::<Period>();
        assert_eq!(period, Ok(Period::from_millis(milliseconds)), "{text}");
        assert_eq!(period.map(|period| period.to_string()), Ok(canonical.to_owned()), "{text}");
    }

    #[test]
    fn a_period_reads_and_writes() {
        check("10s", 10_000, "10s");
        check("1.5s", 1500, "1s500ms");
        check("24h", 86_400_000, "24h");
        check("1h30m", 5_400_000, "1h30m");
        check("90m", 5_400_000, "1h30m");
        check("1h2m3s4ms", 3_723_004, "1h2m3s4ms");
        check("0s", 0, "0s");
        check("0", 0, "0s");
        check("0.001s", 1, "1ms");
    }

    #[test]
    fn what_is_not_a_period_says_why() {
        assert_eq!("10".parse::<Period>(), Err(PeriodError::NoUnit("10".into())));
        assert_eq!("".parse::<Period>(), Err(PeriodError::Empty));
        assert_eq!("99999999h".parse::<Period>(), Err(PeriodError::TooLong));
        assert_eq!("99999h59m".parse::<Period>(), Err(PeriodError::TooLong));
        for text in [
            "10 s",
            "-1s",
            "1d",
            "s",
            "1.s",
            ".5s",
            "1..5s",
            "1s1s1s1s1s",
            "999999999999999999s",
            "1µs",
            "1s5",
            "1e3s",
        ] {
            assert!(matches!(text.parse::<Period>(), Err(PeriodError::Malformed(_))), "{text}");
        }
    }
}
