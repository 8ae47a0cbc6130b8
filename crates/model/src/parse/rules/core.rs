//! Rules of `Service` and `Secret`.

use std::net::IpAddr;

use super::{At, label_pairs, unique};
use crate::parse::Sink;
use crate::protocol::Protocol;

pub fn service(spec: &At<'_>, sink: &mut Sink) {
    let ports = spec.items("ports");
    let headless = spec.text("clusterIP") == Some("None");
    match spec.text_or("type", "ClusterIP") {
        "ExternalName" if !spec.says("externalName") => {
            spec.place("externalName").error(
                sink,
                "is missing: type ExternalName needs it",
                "the host that stands behind the name",
            );
        }
        "ExternalName" => {}
        _ if ports.is_empty()
            && !headless
            && spec.field("ports").is_none_or(|ports| ports.value.is_array()) =>
        {
            spec.place("ports").error(sink, "needs at least one port", "- {name: http, port: 80}");
        }
        _ => {}
    }
    if let Some(address) = spec.text("clusterIP")
        && !matches!(address, "" | "None")
        && address.parse::<IpAddr>().is_err()
    {
        spec.place("clusterIP").error(
            sink,
            format!("{} is neither an IP address nor None", crate::text::quote(address)),
            "leave it out to be given one",
        );
    }
    if let Some(selector) = spec.field("selector") {
        label_pairs(&selector, sink);
    }
    for port in &ports {
        if ports.len() > 1 && !port.says("name") {
            port.place("name").error(
                sink,
                "is missing: with several ports each needs a name",
                "such as http or grpc-api",
            );
        }
        if let Some(protocol @ ("UDP" | "SCTP")) = port.text("protocol") {
            port.place("protocol").warning(
                sink,
                format!("the mesh does not carry {protocol} between members: nothing would encrypt it"),
                "such traffic goes past the mesh",
            );
            if let Some(word) =
                port.text("appProtocol").filter(|word| Protocol::of_app_protocol(word).is_some())
            {
                let message =
                    format!("{} is spoken over TCP, and the port is {protocol}", crate::text::quote(word));
                port.place("appProtocol").warning(sink, message, "protocol: TCP, or leave appProtocol out");
            }
        }
        if let Some(word) = port.text("appProtocol")
            && Protocol::of_app_protocol(word).is_none()
        {
            let message = format!(
                "{} is not known here; the port's name and number tell the protocol",
                crate::text::quote(word)
            );
            port.place("appProtocol").warning(
                sink,
                message,
                "http, http2, grpc, grpc-web, https, tls or tcp",
            );
        }
    }
    unique(&ports, "the name", |port| port.text("name"), sink);
    unique(
        &ports,
        "the port number",
        |port| Some((port.number("port")?, port.text_or("protocol", "TCP"))),
        sink,
    );
}

pub fn secret(top: &At<'_>, sink: &mut Sink) {
    if top.text("type") == Some("kubernetes.io/tls") {
        for entry in ["tls.crt", "tls.key"] {
            let is_in = |name: &str| top.field(name).is_some_and(|data| data.field(entry).is_some());
            if !is_in("data") && !is_in("stringData") {
                top.place("data").place(entry).error(sink, "is missing: type kubernetes.io/tls needs it", "");
            }
        }
    }
    for (name, path) in ["data", "stringData"].into_iter().filter_map(|name| Some((name, top.field(name)?))) {
        for key in path.value.as_object().into_iter().flatten().map(|(key, _)| key) {
            let good = !key.is_empty()
                && key.len() <= 253
                && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
            if !good {
                path.place(key).error(
                    sink,
                    format!("is not a key of {name}"),
                    "letters, digits, -, _ and ., at most 253",
                );
            }
        }
    }
}
