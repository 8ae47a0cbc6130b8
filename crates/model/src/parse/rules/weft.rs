//! Rules of `Mesh`, `Workload` and `ExternalService`.

use std::net::IpAddr;
use std::time::Duration;

use super::{At, unique};
use crate::parse::Sink;

/// Shorter, and a busy control plane could not renew in time; longer, and a stolen key lives too long.
const TTL_MIN: Duration = Duration::from_secs(120);
const TTL_MAX: Duration = Duration::from_secs(720 * 3600);

pub fn mesh(top: &At<'_>, spec: &At<'_>, sink: &mut Sink) {
    if let Some(metadata) = top.field("metadata")
        && let Some(name) = metadata.text("name")
        && name != "default"
    {
        metadata.place("name").error(
            sink,
            format!("a Mesh is named \"default\", not {}", crate::text::quote(name)),
            "there is one mesh here",
        );
    }
    if let Some(certificates) = spec.field("certificates")
        && let Some(ttl) = certificates.period("ttl")
        && !(TTL_MIN..=TTL_MAX).contains(&ttl.get())
    {
        certificates.place("ttl").error(sink, format!("{ttl} is not within 2m to 720h"), "24h");
    }
}

pub fn workload(spec: &At<'_>, sink: &mut Sink) {
    let ports = spec.items("ports");
    unique(&ports, "the name", |port| port.text("name"), sink);
    unique(&ports, "the port number", |port| port.number("port"), sink);
    if let Some(address) = spec.text("address")
        && let Ok(address) = address.parse::<IpAddr>()
        && (address.is_unspecified() || address.is_multicast())
    {
        spec.place("address").error(
            sink,
            format!("{address} is not the address of one machine"),
            "the address that callers dial",
        );
    }
}

pub fn external(spec: &At<'_>, sink: &mut Sink) {
    let ports = spec.items("ports");
    unique(&ports, "the name", |port| port.text("name"), sink);
    unique(&ports, "the port number", |port| port.number("port"), sink);
    hosts(spec, sink);
    let Some(tls) = spec.field("tls") else { return };
    if tls.text_or("mode", "Originate") == "Originate"
        && ports.iter().any(|port| port.text("protocol") == Some("udp"))
    {
        let message = "is for connections: the datagrams of its port with protocol udp would go in the clear";
        spec.place("tls").error(sink, message, "give the udp ports an ExternalService of their own");
    }
    let own = |port: &At<'_>| matches!(port.text("protocol"), Some("https" | "tls"));
    let passes = tls.text("mode") == Some("PassThrough");
    if tls.says("ca") && tls.says("caSecretRef") {
        tls.place("caSecretRef").error(sink, "ca is given too", "leave one of the two out");
    }
    if passes {
        for name in ["sni", "ca", "caSecretRef", "clientSecretRef"].into_iter().filter(|name| tls.says(name))
        {
            tls.place(name).error(
                sink,
                "has no effect: with mode PassThrough the application does TLS",
                "mode: Originate, or leave it out",
            );
        }
    } else if !ports.is_empty() && ports.iter().all(own) {
        let hint = "protocol: http for what the proxy shall put into TLS, or mode: PassThrough";
        tls.place("mode").error(sink, "Originate has no port to work on: all bring TLS of their own", hint);
    }
}

fn hosts(spec: &At<'_>, sink: &mut Sink) {
    let endpoints = spec.items("endpoints");
    let hosts = spec.items("hosts");
    unique(&hosts, "the host", |host| host.value.as_str(), sink);
    if spec.text("resolution") == Some("Static") {
        if endpoints.is_empty() {
            spec.place("endpoints").error(
                sink,
                "is missing: resolution Static needs it",
                "- {address: 192.0.2.1}",
            );
        }
        for endpoint in &endpoints {
            if let Some(address) = endpoint.text("address")
                && address.parse::<IpAddr>().is_err()
            {
                endpoint.place("address").error(
                    sink,
                    format!("{} is not an IP address", crate::text::quote(address)),
                    "resolution: DNS for host names",
                );
            }
        }
        return;
    }
    let wild = hosts.iter().find(|host| host.value.as_str().is_some_and(|host| host.starts_with("*.")));
    if let Some(wild) = wild
        && endpoints.is_empty()
    {
        wild.error(sink, "DNS can't resolve a wildcard", "list endpoints, or each host");
    }
}
