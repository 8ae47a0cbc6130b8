//! Time as text and numbers. Parts that decide take `now` as an argument; this is for the edges.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Seconds since 1970; 0 for a clock before it.
pub fn unix(now: SystemTime) -> u64 {
    now.duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

/// RFC 3339 in UTC, whole seconds.
pub fn rfc3339(at: SystemTime) -> String {
    let seconds = i64::try_from(unix(at)).unwrap_or(0);
    jiff::Timestamp::from_second(seconds).map_or_else(|_| String::new(), |t| t.to_string())
}

/// Seconds since 1970 of an RFC 3339 text, or of a bare number of seconds.
pub fn parse_instant(text: &str) -> Option<u64> {
    if let Ok(seconds) = text.parse::<u64>() {
        return Some(seconds);
    }
    let at: jiff::Timestamp = text.parse().ok()?;
    u64::try_from(at.as_second()).ok()
}

/// A duration as Kubernetes and Gateway API write it: `10s`, `1m30s`, `500ms`, `2h`; bare = seconds.
pub fn parse_duration(text: &str) -> Option<Duration> {
    if let Ok(seconds) = text.parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let mut total = 0u64;
    let mut rest = text;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let number: u64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let unit = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let millis = match &rest[..unit] {
            "ms" => 1,
            "s" => 1000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return None,
        };
        total = total.checked_add(number.checked_mul(millis)?)?;
        rest = &rest[unit..];
    }
    Some(Duration::from_millis(total))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_gateway_api_writes_them() {
        let check = |text, millis: Option<u64>| {
            assert_eq!(parse_duration(text).map(|d| d.as_millis() as u64), millis, "{text}");
        };
        check("30m", Some(1_800_000));
        check("1m30s", Some(90_000));
        check("500ms", Some(500));
        check("15", Some(15_000));
        check("", None);
        check("1x", None);
        check("s", None);
    }

    #[test]
    fn instants_round_trip() {
        let at = UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        assert_eq!(parse_instant(&rfc3339(at)), Some(1_700_000_000));
        assert_eq!(parse_instant("1700000000"), Some(1_700_000_000));
        assert_eq!(parse_instant("yesterday"), None);
    }
}
