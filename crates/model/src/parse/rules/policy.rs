//! Rules of `TrafficPolicy`, and of the targets of policies.

use std::time::Duration;

use serde_json::Value;

use super::target::{self, Stray, Target};
use super::{At, unique};
use crate::kind::{GATEWAY_GROUP, WEFT_GROUP};
use crate::parse::Sink;

const CHECK_INTERVAL_MIN: Duration = Duration::from_millis(100);

pub fn traffic(spec: &At<'_>, sink: &mut Sink) {
    const ASPECTS: [&str; 8] = [
        "loadBalancing",
        "timeouts",
        "retry",
        "circuitBreaking",
        "healthCheck",
        "outlierDetection",
        "proxyProtocol",
        "acceptProxyProtocol",
    ];
    let known = [
        ("", "Service"),
        (GATEWAY_GROUP, "HTTPRoute"),
        (GATEWAY_GROUP, "GRPCRoute"),
        (GATEWAY_GROUP, "TCPRoute"),
        (WEFT_GROUP, "ExternalService"),
    ];
    targets(spec, &known, sink);
    if ASPECTS.into_iter().all(|aspect| spec.field(aspect).is_none()) {
        spec.warning(sink, "says nothing about its targets", &format!("set {}", ASPECTS.join(", ")));
    }
    if let Some(timeouts) = spec.field("timeouts") {
        shorter(&timeouts, "perTry", &timeouts, "request", sink);
    }
    if let Some(retry) = spec.field("retry") {
        if let Some(backoff) = retry.field("backoff") {
            shorter(&backoff, "base", &backoff, "max", sink);
        }
        unique(&retry.items("on"), "the word", |word| word.value.as_str(), sink);
    }
    if let Some(check) = spec.field("healthCheck") {
        if let Some(interval) = check.period("interval")
            && interval.get() < CHECK_INTERVAL_MIN
        {
            check.place("interval").error(sink, format!("{interval} is less than 100ms"), "");
        }
        if check.period("timeout").is_some_and(|timeout| timeout.get().is_zero()) {
            check.place("timeout").error(sink, "a check needs time", "1s");
        }
    }
    if let Some(accepting) = spec.field("acceptProxyProtocol") {
        let networks = accepting.items("from");
        unique(&networks, "the network", |network| network.value.as_str(), sink);
        for network in networks {
            let net = network.value.as_str().and_then(|text| text.parse::<ipnet::IpNet>().ok());
            if net.is_some_and(|net| net.prefix_len() == 0) {
                let message = "is everybody, and whoever connects could say to be anybody";
                network.error(sink, message, "the networks of the load balancers, such as 192.0.2.0/28");
            }
        }
    }
}

/// Tells when `part` is longer than `whole`; a whole of 0 is without limit.
fn shorter(part_of: &At<'_>, part: &str, whole_of: &At<'_>, whole: &str, sink: &mut Sink) {
    if let (Some(short), Some(long)) = (part_of.period(part), whole_of.period(whole))
        && short > long
        && !long.get().is_zero()
    {
        part_of.place(part).error(sink, format!("{short} is longer than {whole}, {long}"), "");
    }
}

/// Checks `targetRefs`, each of which must be one of `known`.
pub fn targets(spec: &At<'_>, known: &[Target], sink: &mut Sink) {
    let targets = spec.items("targetRefs");
    for reference in &targets {
        let said = (reference.text_or("group", ""), reference.text_or("kind", "Service"));
        match target::known(known, said) {
            Ok(()) => {}
            // Here even a foreign kind is a mistake: a policy of ours that guards nothing must not look as if it did.
            Err(Stray::Foreign { kind, .. }) => {
                let names: Vec<&str> = known.iter().map(|(_, name)| *name).collect();
                let hint = format!("known here: {}", names.join(", "));
                Stray::Kind { kind, hint }.tell(reference, "a policy of this kind can't target", sink);
            }
            Err(stray) => stray.tell(reference, "a policy of this kind can't target", sink),
        }
    }
    let key = |target: &At<'_>| {
        Some(
            ["group", "kind", "name", "sectionName"].map(|name| target.value.get(name).map(Value::to_string)),
        )
    };
    unique(&targets, "the target", |target| key(target), sink);
}
