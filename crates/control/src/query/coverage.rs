//! What an answer about traffic covers, and what it can't: said with every answer.
//!
//! Proxies send each second, so one that was killed takes up to that with it; a foreign proxy counts nothing here.

use std::collections::BTreeSet;
use std::time::SystemTime;

use serde_json::{Value, json};
use weft_model::ProxyKind;

use crate::core::Core;
use crate::measure::gaps::{Fate, Gap};
use crate::snapshot::Snapshot;

/// Gaps that are named; the others are counted.
const NAMED_MAX: usize = 50;

/// The coverage of an answer about `services` (empty: all) from `from` to `to`.
pub fn of(core: &Core, services: &BTreeSet<String>, from: u64, to: u64, note: Option<&str>) -> Value {
    let about = |service: &str| services.is_empty() || services.contains(service);
    let mut gaps = core.history.gaps(from, to, SystemTime::now());
    gaps.retain(|gap| about(&gap.service));
    let not_counted = not_counted(&core.now(), about);
    let named: Vec<Value> = gaps.iter().take(NAMED_MAX).map(gap_json).collect();
    json!({
        "complete": gaps.is_empty() && not_counted.is_empty() && note.is_none(),
        "gaps": named,
        "gaps_total": gaps.len(),
        "not_counted": not_counted,
        "note": note,
    })
}

fn gap_json(gap: &Gap) -> Value {
    // Both ends are whole seconds, and what was counted in the last one may be gone too.
    let seconds = gap.to.saturating_sub(gap.from) + 1;
    let what = match gap.fate {
        Fate::Vanished => "ended without goodbye",
        Fate::Restarted => "ended without goodbye and was started again",
        Fate::Away => "lost its stream, and may yet send what it counted",
    };
    json!({
        "proxy": gap.proxy,
        "service": gap.service,
        "fate": gap.fate,
        "from": super::rfc3339(gap.from),
        "to": super::rfc3339(gap.to),
        "seconds_max": seconds,
        "message": format!("{} {what}: up to {seconds} s of what it counted may be missing", gap.proxy),
    })
}

/// Instances whose traffic nobody counts.
fn not_counted(now: &Snapshot, about: impl Fn(&str) -> bool) -> Vec<Value> {
    now.instances
        .values()
        .filter(|instance| instance.proxy == ProxyKind::Envoy)
        .map(|instance| (instance, format!("{}/{}", instance.namespace, instance.service)))
        .filter(|(_, service)| about(service))
        .map(|(instance, service)| {
            let proxy = format!("{}/{}", instance.namespace, instance.name);
            let message =
                format!("{proxy} is an Envoy: what it takes is not counted here, its own /stats has it");
            json!({"proxy": proxy, "service": service, "kind": "envoy", "message": message})
        })
        .collect()
}
