//! Checks of single texts, by the name that a schema's `format` gives them.
//!
//! [`check`] answers with the sentence that completes "the value …", or nothing when all is well.

mod portable;

use std::net::{IpAddr, Ipv4Addr};

use crate::period::Period;

/// Longest regular expression, in characters: longer ones are a way to burn CPU on every request.
pub const REGEX_CHARS_MAX: usize = 1024;
/// Memory that a compiled regular expression may take.
const REGEX_BYTES_MAX: usize = 1 << 20;
/// The same where it decides who may come in: every proxy must take it.
const PORTABLE_REGEX_BYTES_MAX: usize = 192 << 10;
const SPIFFE_BYTES_MAX: usize = 2048;

/// What is wrong with a text, and what to write instead.
#[derive(Debug, PartialEq, Eq)]
pub struct Complaint {
    pub message: String,
    pub hint: Option<String>,
}

fn complain(message: impl Into<String>, hint: impl Into<String>) -> Result<(), Complaint> {
    let hint = hint.into();
    Err(Complaint { message: message.into(), hint: (!hint.is_empty()).then_some(hint) })
}

/// Checks a text by the name of its format. Formats that are not ours always pass.
pub fn check(format: &str, text: &str) -> Result<(), Complaint> {
    match format {
        "duration" => match text.parse::<Period>() {
            Ok(_) => Ok(()),
            Err(error) => complain(error.to_string(), ""),
        },
        "dns-label" => dns_label(text),
        "dns-subdomain" => dns_subdomain(text),
        "hostname" => hostname(text),
        "hostname-or-wildcard" => hostname(text.strip_prefix("*.").unwrap_or(text)),
        "ip" => ip(text),
        "ip-or-hostname" => {
            if text.parse::<IpAddr>().is_ok() {
                Ok(())
            } else {
                hostname(text)
            }
        }
        "ipv4-cidr" => ipv4_cidr(text),
        "cidr" => cidr(text),
        "header-name" => header_name(text),
        "header-value" => header_value(text),
        "http-method" => http_method(text),
        "http-path" => http_path(text),
        "path-or-prefix" => path_or_prefix(text),
        "grpc-method-or-service" => grpc_method_or_service(text),
        "http-method-or-any" => {
            if text == "*" {
                Ok(())
            } else {
                http_method(text)
            }
        }
        "regex" => regex(text, REGEX_BYTES_MAX),
        "portable-regex" => regex(text, PORTABLE_REGEX_BYTES_MAX).and_then(|()| portable::portable(text)),
        "spiffe-id" => spiffe_id(text),
        "spiffe-id-or-prefix" => spiffe_id_or_prefix(text),
        "trust-domain" => trust_domain(text),
        "service-name" => service_name(text),
        "date-time" => match text.parse::<jiff::Timestamp>() {
            Ok(_) => Ok(()),
            Err(_) => {
                complain(format!("{} is not a moment", quote(text)), "RFC 3339, such as 2026-05-01T12:00:00Z")
            }
        },
        "byte" => {
            if base64(text).is_some() {
                Ok(())
            } else {
                complain("is not base64", "plain text goes into stringData")
            }
        }
        "pem-certificates" => pem_certificates(text),
        "port-number-or-name" => match text.parse::<u16>() {
            Ok(_) => complain(format!("{} is a number in quotes", quote(text)), "write it without quotes"),
            Err(_) => dns_label(text),
        },
        _ => Ok(()),
    }
}

/// A text for a message: quoted, escaped, and short.
pub fn quote(text: &str) -> String {
    let short: String = text.chars().take(60).collect();
    if short.len() < text.len() { format!("{short:?}…") } else { format!("{short:?}") }
}

fn is_label(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = text.as_bytes();
    let ends =
        bytes.first().is_some_and(|byte| inner(*byte)) && bytes.last().is_some_and(|byte| inner(*byte));
    ends && bytes.len() <= 63 && bytes.iter().all(|byte| inner(*byte) || *byte == b'-')
}

/// The nearest valid label, for a hint; empty when nothing is left of the text.
fn as_label(text: &str, keep_dots: bool, chars_max: usize) -> String {
    let mapped: String =
        text.chars()
            .map(|c| {
                if c.is_ascii_alphanumeric() || (keep_dots && c == '.') {
                    c.to_ascii_lowercase()
                } else {
                    '-'
                }
            })
            .take(chars_max)
            .collect();
    mapped.trim_matches(|c| c == '-' || c == '.').to_owned()
}

fn did_you_mean(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!("did you mean {text:?}?") }
}

fn dns_label(text: &str) -> Result<(), Complaint> {
    if is_label(text) {
        return Ok(());
    }
    let message = format!(
        "{} is not a DNS label: a-z, 0-9 and '-', at most 63, a letter or digit at both ends",
        quote(text)
    );
    complain(message, did_you_mean(&as_label(text, false, 63)))
}

fn dns_subdomain(text: &str) -> Result<(), Complaint> {
    if text.len() <= 253 && text.split('.').all(is_label) {
        return Ok(());
    }
    let message =
        format!("{} is not a DNS name: labels of a-z, 0-9 and '-', joined by dots, at most 253", quote(text));
    complain(message, did_you_mean(&as_label(text, true, 253)))
}

fn hostname(text: &str) -> Result<(), Complaint> {
    if text.contains("://") || text.contains('/') {
        return complain(format!("{} is a URL, not a host name", quote(text)), "the host name alone");
    }
    if text.parse::<IpAddr>().is_ok() {
        return complain(
            format!("{} is an address, not a host name", quote(text)),
            "addresses go into endpoints",
        );
    }
    if let Some((host, port)) = text.rsplit_once(':')
        && port.parse::<u16>().is_ok()
    {
        return complain(format!("{} carries a port", quote(text)), did_you_mean(host));
    }
    dns_subdomain(text)
}

fn ip(text: &str) -> Result<(), Complaint> {
    match text.parse::<IpAddr>() {
        Ok(_) => Ok(()),
        Err(_) => complain(format!("{} is not an IP address", quote(text)), ""),
    }
}

fn ipv4_cidr(text: &str) -> Result<(), Complaint> {
    let Ok(net) = text.parse::<ipnet::Ipv4Net>() else {
        return complain(
            format!("{} is not a range of IPv4 addresses", quote(text)),
            format!("such as {}", crate::names::VIP_CIDR),
        );
    };
    if net.trunc() != net {
        return complain(
            format!("{text} has bits set behind its length"),
            did_you_mean(&net.trunc().to_string()),
        );
    }
    if net.prefix_len() > 28 || net.prefix_len() < 8 || net.contains(&Ipv4Addr::LOCALHOST) {
        return complain(
            format!("{text} is no range for virtual addresses"),
            "a length of 8 to 28, not of loopback",
        );
    }
    Ok(())
}

fn cidr(text: &str) -> Result<(), Complaint> {
    if let Ok(address) = text.parse::<IpAddr>() {
        let all = if address.is_ipv4() { 32 } else { 128 };
        return complain(
            format!("{text} is one address, not a network"),
            did_you_mean(&format!("{text}/{all}")),
        );
    }
    match text.parse::<ipnet::IpNet>() {
        Ok(ipnet::IpNet::V6(net)) if net.prefix_len() >= 96 && net.addr().to_ipv4_mapped().is_some() => {
            let v4 = net.addr().to_ipv4_mapped().unwrap_or(std::net::Ipv4Addr::UNSPECIFIED);
            complain(
                format!("{text} is a network of IPv4 written as IPv6, and no caller is known so"),
                did_you_mean(&format!("{v4}/{}", net.prefix_len() - 96)),
            )
        }
        Ok(net) if net.trunc() == net => Ok(()),
        Ok(net) => {
            complain(format!("{text} has bits set behind its length"), did_you_mean(&net.trunc().to_string()))
        }
        Err(_) => {
            complain(format!("{} is not a network", quote(text)), "such as 192.0.2.0/24 or 2001:db8::/32")
        }
    }
}

fn is_token(text: &str) -> bool {
    !text.is_empty()
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

fn header_name(text: &str) -> Result<(), Complaint> {
    if text.starts_with(':') {
        return complain(
            format!("{} is a pseudo header", quote(text)),
            "match method, path or hostnames instead",
        );
    }
    if is_token(text) && text.len() <= 256 {
        return Ok(());
    }
    complain(format!("{} is not a header name", quote(text)), "letters, digits and -, at most 256")
}

fn header_value(text: &str) -> Result<(), Complaint> {
    if text.len() > 4096 || text.bytes().any(|byte| byte < b' ' && byte != b'\t' || byte == 127) {
        return complain("is not a header value", "no control characters, at most 4096 bytes");
    }
    Ok(())
}

fn http_method(text: &str) -> Result<(), Complaint> {
    if is_token(text) && !text.bytes().any(|byte| byte.is_ascii_lowercase()) {
        return Ok(());
    }
    complain(format!("{} is not an HTTP method", quote(text)), did_you_mean(&as_method(text)))
}

fn as_method(text: &str) -> String {
    if is_token(text) { text.to_ascii_uppercase() } else { String::new() }
}

fn http_path(text: &str) -> Result<(), Complaint> {
    if !text.starts_with('/') {
        return complain(format!("{} does not start with /", quote(text)), did_you_mean(&format!("/{text}")));
    }
    if text.len() > 1024 {
        return complain("is longer than 1024 bytes", "");
    }
    for (bad, why) in [
        ("//", "an empty element (//)"),
        ("/./", "a dot segment"),
        ("/../", "a dot segment"),
        ("#", "a fragment (#)"),
        ("?", "a query (?)"),
    ] {
        if text.contains(bad) {
            return complain(
                format!("{} has {why}, which no request's path has when it is matched", quote(text)),
                "leave it out",
            );
        }
    }
    if text.ends_with("/..") || text.ends_with("/.") {
        return complain(
            format!("{} has a dot segment, which no request's path has when it is matched", quote(text)),
            "leave it out",
        );
    }
    let lower = text.to_ascii_lowercase();
    if lower.contains("%2f")
        || lower.contains("%5c")
        || text.contains('\\')
        || text.bytes().any(|byte| byte <= b' ' || byte == 127)
    {
        return complain(
            format!("{} has characters that the mesh refuses in a path", quote(text)),
            "no blank, backslash, %2F or %5C",
        );
    }
    Ok(())
}

fn path_or_prefix(text: &str) -> Result<(), Complaint> {
    let path = text.strip_suffix('*').unwrap_or(text);
    if path.contains('*') || (path.len() < text.len() && !path.ends_with('/')) {
        return complain(
            format!("{} has a * that is not a whole last element", quote(text)),
            "/a for one path, /a/* for everything below it",
        );
    }
    http_path(path)
}

fn regex(text: &str, bytes_max: usize) -> Result<(), Complaint> {
    let chars = text.chars().count();
    if chars > REGEX_CHARS_MAX {
        return complain(
            format!("is a regular expression of {chars} characters, more than {REGEX_CHARS_MAX}"),
            "",
        );
    }
    match regex::RegexBuilder::new(text).size_limit(bytes_max).build() {
        Ok(_) => Ok(()),
        Err(regex::Error::CompiledTooBig(_)) => {
            let message = format!("is a regular expression that takes more than {} KiB", bytes_max >> 10);
            complain(message, "fewer or smaller repetitions")
        }
        Err(error) => {
            // The last line of the parser's message names the reason; the others draw the place.
            let error = error.to_string();
            let reason = error.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
            let hint = if text.contains("(?=") || text.contains("(?!") || text.contains("(?<") {
                "RE2 syntax: no look-around, no back references"
            } else {
                "RE2 syntax"
            };
            complain(format!("{} is not a regular expression: {reason}", quote(text)), hint)
        }
    }
}

fn grpc_method_or_service(text: &str) -> Result<(), Complaint> {
    let identifier = |word: &str| {
        let mut bytes = word.bytes();
        bytes.next().is_some_and(|first| first.is_ascii_alphabetic() || first == b'_')
            && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    if let Some((service, method)) = text.split_once('/')
        && text.len() <= 512
        && service.split('.').all(identifier)
        && (method == "*" || identifier(method))
    {
        return Ok(());
    }
    let hint = match text.strip_prefix('/') {
        // As it stands in a request's path.
        Some(bare) if grpc_method_or_service(bare).is_ok() => did_you_mean(bare),
        _ => "PACKAGE.SERVICE/METHOD, or PACKAGE.SERVICE/* for all of a service".to_owned(),
    };
    complain(format!("{} is not a gRPC method", quote(text)), hint)
}

fn trust_domain(text: &str) -> Result<(), Complaint> {
    let good = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_.".contains(&byte);
    if !text.is_empty() && text.len() <= 255 && text.bytes().all(good) {
        return Ok(());
    }
    let bare = text.strip_prefix("spiffe://").unwrap_or(text).to_ascii_lowercase();
    complain(
        format!("{} is not a trust domain: a-z, 0-9, '-', '_' and '.', at most 255", quote(text)),
        did_you_mean(bare.trim_end_matches('/')),
    )
}

/// The rules of the SPIFFE-ID specification, section 2.
fn spiffe_id(text: &str) -> Result<(), Complaint> {
    const FORM: &str = "spiffe://TRUST-DOMAIN/ns/NAMESPACE/sa/SERVICE";
    let Some(rest) = text.strip_prefix("spiffe://") else {
        return complain(format!("{} is not a SPIFFE id", quote(text)), FORM);
    };
    if text.len() > SPIFFE_BYTES_MAX {
        return complain(format!("is a SPIFFE id of {} bytes, more than {SPIFFE_BYTES_MAX}", text.len()), "");
    }
    let (domain, path) = rest.split_once('/').map_or((rest, None), |(domain, path)| (domain, Some(path)));
    if let Err(complaint) = trust_domain(domain) {
        return complain(format!("{} is not a SPIFFE id: {}", quote(text), complaint.message), FORM);
    }
    let segment = |segment: &str| {
        let good = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        !segment.is_empty() && segment != "." && segment != ".." && segment.bytes().all(good)
    };
    match path {
        None => complain(format!("{} names a trust domain only", quote(text)), FORM),
        Some(path) if !path.split('/').all(segment) => complain(
            format!(
                "{} is not a SPIFFE id: a path element is empty or has other characters than letters, digits, '-', '_' and '.'",
                quote(text)
            ),
            FORM,
        ),
        Some(_) => Ok(()),
    }
}

fn spiffe_id_or_prefix(text: &str) -> Result<(), Complaint> {
    match text.strip_suffix("/*") {
        // `spiffe://td/*` is everybody of a trust domain: a prefix without a path is well.
        Some(prefix)
            if prefix.strip_prefix("spiffe://").is_some_and(|domain| trust_domain(domain).is_ok()) =>
        {
            Ok(())
        }
        Some(prefix) => spiffe_id(prefix),
        None => spiffe_id(text),
    }
}

fn service_name(text: &str) -> Result<(), Complaint> {
    let mut parts = text.split('/');
    match (parts.next(), parts.next(), parts.next()) {
        (Some(name), None, None) if is_label(name) => Ok(()),
        (Some(namespace), Some(name), None) if is_label(namespace) && is_label(name) => Ok(()),
        _ => complain(format!("{} is not a service", quote(text)), "NAME or NAMESPACE/NAME"),
    }
}

fn pem_certificates(text: &str) -> Result<(), Complaint> {
    const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
    const END: &str = "-----END CERTIFICATE-----";
    if text.contains("PRIVATE KEY-----") {
        return complain("holds a private key", "certificates of authorities only; keys go into a Secret");
    }
    let mut rest = text;
    let mut found = 0;
    while let Some(start) = rest.find(BEGIN) {
        let body = &rest[start + BEGIN.len()..];
        let Some(end) = body.find(END) else {
            return complain("has a certificate that does not end", END);
        };
        let encoded: String = body[..end].split_whitespace().collect();
        if encoded.is_empty() || base64(&encoded).is_none() {
            return complain("has a certificate that is not base64", "was it copied whole?");
        }
        found += 1;
        rest = &body[end + END.len()..];
    }
    if found == 0 { complain("holds no PEM certificate", BEGIN) } else { Ok(()) }
}

/// Decodes standard base64; blanks and line ends between are skipped, as in Kubernetes' YAML.
pub fn base64(text: &str) -> Option<Vec<u8>> {
    let sextet = |byte: u8| match byte {
        b'A'..=b'Z' => Some(u32::from(byte - b'A')),
        b'a'..=b'z' => Some(u32::from(byte - b'a') + 26),
        b'0'..=b'9' => Some(u32::from(byte - b'0') + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    };
    let bytes: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    if !bytes.len().is_multiple_of(4) {
        return None;
    }
    let mut decoded = Vec::with_capacity(bytes.len() / 4 * 3);
    let last = bytes.len().checked_div(4).unwrap_or(0).saturating_sub(1);
    for (index, group) in bytes.chunks_exact(4).enumerate() {
        let padding = group.iter().rev().take_while(|byte| **byte == b'=').count();
        if padding > 2 || (padding > 0 && index != last) {
            return None;
        }
        let mut word = 0;
        for byte in &group[..4 - padding] {
            word = word << 6 | sextet(*byte)?;
        }
        word <<= 6 * padding;
        let three = word.to_be_bytes();
        decoded.extend_from_slice(&three[1..4 - padding]);
        // Bits that padding throws away must be zero: one value, one spelling.
        if three[4 - padding..].iter().any(|byte| *byte != 0) {
            return None;
        }
    }
    Some(decoded)
}

/// A label's key: an optional DNS name and `/`, then a name of at most 63.
pub fn label_key(text: &str) -> Result<(), Complaint> {
    let (prefix, name) = text.split_once('/').map_or((None, text), |(prefix, name)| (Some(prefix), name));
    let prefix_good = prefix.is_none_or(|prefix| dns_subdomain(prefix).is_ok());
    if prefix_good && is_label_word(name) {
        return Ok(());
    }
    complain(
        format!("{} is not a label key", quote(text)),
        "NAME or DOMAIN/NAME; NAME of letters, digits, -, _ and ., at most 63",
    )
}

/// A label's value: empty, or a word of at most 63.
pub fn label_value(text: &str) -> Result<(), Complaint> {
    if text.is_empty() || is_label_word(text) {
        return Ok(());
    }
    complain(
        format!("{} is not a label value", quote(text)),
        "letters, digits, -, _ and ., at most 63, a letter or digit at both ends",
    )
}

fn is_label_word(text: &str) -> bool {
    let bytes = text.as_bytes();
    let ends = bytes.first().is_some_and(u8::is_ascii_alphanumeric)
        && bytes.last().is_some_and(u8::is_ascii_alphanumeric);
    ends && bytes.len() <= 63
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(byte))
}

#[cfg(test)]
mod tests;
