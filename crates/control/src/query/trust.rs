//! Certificates that run out: told while there is time.

use std::time::{Duration, SystemTime};

use weft_model::{Finding, Severity};

use crate::clock;
use crate::proxies::Row;

const DAY: Duration = Duration::from_secs(24 * 3600);
/// A new root must reach every member before the old one ends, and people must find time for it.
const ROOT_SOON: Duration = DAY.saturating_mul(90);
const ROOT_NOW: Duration = DAY.saturating_mul(30);
/// It renews itself a month before its end: whatever is older could not.
const INTERMEDIATE_NOW: Duration = DAY.saturating_mul(28);
/// A member's certificate is renewed when half to 70 % of its life is over: with a fifth left, renewing fails.
const LIFE_LEFT: u32 = 5;

/// When the CA's certificates end.
#[derive(Debug, Clone)]
pub struct Ends {
    /// Of each root that members trust, by its serial number.
    pub roots: Vec<(String, SystemTime)>,
    /// Of what signs members' certificates.
    pub intermediate: SystemTime,
}

/// What is about to end, or has ended.
pub(super) fn findings(ends: &Ends, proxies: &[Row], life: Duration, now: SystemTime) -> Vec<Finding> {
    let mut found = Vec::new();
    let left = |end: SystemTime| end.duration_since(now).unwrap_or_default();
    for (name, end) in &ends.roots {
        let (code, severity) = match left(*end) {
            left if left < ROOT_NOW => ("WFT0954", Severity::Error),
            left if left < ROOT_SOON => ("WFT0953", Severity::Warning),
            _ => continue,
        };
        found.push(Finding {
            code,
            severity,
            object: format!("root {name}"),
            message: format!(
                "members trust it for {} more (until {})",
                days(left(*end)),
                clock::rfc3339(*end)
            ),
            hint: "make members trust the next root before: add it to ca/trusted.pem in the state directory"
                .into(),
        });
    }
    if left(ends.intermediate) < INTERMEDIATE_NOW {
        let (left, until) = (days(left(ends.intermediate)), clock::rfc3339(ends.intermediate));
        found.push(Finding {
            code: "WFT0954",
            severity: Severity::Error,
            object: "intermediate".into(),
            message: format!("it signs certificates for {left} more (until {until}), and renewing it fails"),
            hint: "look at the control plane's log: it needs the root's key, and a writable state directory"
                .into(),
        });
    }
    for row in proxies.iter().filter(|row| row.connected) {
        let Some(end) = row.certificate_expires.as_deref().and_then(clock::parse_instant) else { continue };
        let left = Duration::from_secs(end.saturating_sub(clock::unix(now)));
        if left >= life / LIFE_LEFT {
            continue;
        }
        let until = row.certificate_expires.as_deref().unwrap_or_default();
        found.push(Finding {
            code: "WFT0952",
            severity: if left.is_zero() { Severity::Error } else { Severity::Warning },
            object: format!("proxy {}", row.name),
            message: format!("its certificate ends at {until}, and it has not got a new one"),
            hint: "look at its log for why renewing fails; when nothing else helps, give it a new join token"
                .into(),
        });
    }
    found
}

fn days(left: Duration) -> String {
    match left.as_secs() / DAY.as_secs() {
        0 => "less than a day".to_owned(),
        1 => "1 day".to_owned(),
        days => format!("{days} days"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(connected: bool, expires: Option<SystemTime>) -> Row {
        Row {
            name: "default/fe".into(),
            service: "default/fe".into(),
            kind: "weft".into(),
            connected,
            acked: String::new(),
            latest: String::new(),
            lag_ms: 0,
            certificate_expires: expires.map(clock::rfc3339),
            nack: None,
            lkg_age_s: None,
        }
    }

    fn codes(
        root: Duration,
        intermediate: Duration,
        proxies: &[Row],
        now: SystemTime,
    ) -> Vec<(&'static str, Severity)> {
        let ends = Ends { roots: vec![("ab12".into(), now + root)], intermediate: now + intermediate };
        findings(&ends, proxies, DAY, now).into_iter().map(|found| (found.code, found.severity)).collect()
    }

    #[test]
    fn the_ca_is_told_of_by_days_left() {
        let now = SystemTime::UNIX_EPOCH + 20_000 * DAY;
        let year = 365 * DAY;
        assert_eq!(codes(91 * DAY, year, &[], now), []);
        assert_eq!(codes(89 * DAY, year, &[], now), [("WFT0953", Severity::Warning)]);
        assert_eq!(codes(29 * DAY, year, &[], now), [("WFT0954", Severity::Error)]);
        assert_eq!(codes(year, 29 * DAY, &[], now), [], "it is about to renew itself");
        assert_eq!(codes(year, 27 * DAY, &[], now), [("WFT0954", Severity::Error)]);
        let ended = Ends { roots: vec![("ab12".into(), now - DAY)], intermediate: now + year };
        let told = findings(&ended, &[], DAY, now);
        assert!(told[0].message.contains("less than a day"), "{}", told[0].message);
    }

    #[test]
    fn a_proxy_is_told_of_when_its_renewal_is_overdue() {
        let now = SystemTime::UNIX_EPOCH + 20_000 * DAY;
        let hour = Duration::from_secs(3600);
        let of = |rows: &[Row]| codes(365 * DAY, 365 * DAY, rows, now);
        assert_eq!(of(&[row(true, Some(now + 5 * hour))]), []);
        assert_eq!(of(&[row(true, Some(now + 4 * hour))]), [("WFT0952", Severity::Warning)]);
        assert_eq!(of(&[row(true, Some(now - hour))]), [("WFT0952", Severity::Error)]);
        assert_eq!(of(&[row(false, Some(now - hour)), row(true, None)]), [], "away, or not known");
    }
}
