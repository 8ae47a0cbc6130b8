//! `crypto.x509.*`: certificates as policies see them, with the names that Go gives their fields.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use regorus::Value;
use regorus::value::Object;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, UnixTime};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer as _;
use x509_parser::time::ASN1Time;
use x509_parser::x509::X509Name;

use super::context::{Answer, Context, Fault, text};

const TEXT_MAX: usize = 128 * 1024;
const CERTIFICATES_MAX: usize = 16;

/// Every certificate of a text: PEM, or base64 of PEM or of DER one behind the other.
pub(super) fn parse(_: &mut Context, arguments: &[Value]) -> Answer {
    let ders = read(text(arguments, 0)?)?;
    describe_all(&ders)
}

/// `[valid, chain]`: the first is the root, the last the one in question, now.
pub(super) fn verify(context: &mut Context, arguments: &[Value]) -> Answer {
    let ders = read(text(arguments, 0)?)?;
    let invalid = Ok(Value::from(vec![Value::Bool(false), Value::new_array()]));
    let [root, between @ .., leaf] = ders.as_slice() else { return invalid };
    let seconds = u64::try_from(context.now_ns / 1_000_000_000).map_err(|_| Fault::Undefined)?;
    let now = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
    let valid = webpki::anchor_from_trusted_cert(root).is_ok_and(|anchor| {
        webpki::EndEntityCert::try_from(leaf).is_ok_and(|leaf| {
            let usage = webpki::KeyUsage::server_auth();
            leaf.verify_for_usage(webpki::ALL_VERIFICATION_ALGS, &[anchor], between, now, usage, None, None)
                .is_ok()
        })
    });
    if !valid {
        return invalid;
    }
    let chain: Vec<CertificateDer<'_>> = ders.iter().rev().cloned().collect();
    Ok(Value::from(vec![Value::Bool(true), describe_all(&chain)?]))
}

fn read(text: &str) -> Result<Vec<CertificateDer<'static>>, Fault> {
    if text.len() > TEXT_MAX {
        return Err(Fault::Undefined);
    }
    let decoded;
    let bytes = if text.trim_start().starts_with("-----BEGIN") {
        text.as_bytes()
    } else {
        decoded = STANDARD.decode(text.trim()).map_err(|_| Fault::Undefined)?;
        decoded.as_slice()
    };
    let mut ders = Vec::new();
    if bytes.starts_with(b"-----BEGIN") {
        for der in CertificateDer::pem_slice_iter(bytes) {
            ders.push(der.map_err(|_| Fault::Undefined)?);
        }
    } else {
        let mut rest = bytes;
        while !rest.is_empty() {
            let (after, _) = X509Certificate::from_der(rest).map_err(|_| Fault::Undefined)?;
            let one = rest.get(..rest.len() - after.len()).unwrap_or_default();
            ders.push(CertificateDer::from(one.to_vec()));
            rest = after;
        }
    }
    if ders.is_empty() || ders.len() > CERTIFICATES_MAX { Err(Fault::Undefined) } else { Ok(ders) }
}

fn describe_all(ders: &[CertificateDer<'_>]) -> Answer {
    ders.iter().map(|der| describe(der)).collect::<Result<Vec<_>, _>>().map(Value::from)
}

fn describe(der: &[u8]) -> Answer {
    let (_, certificate) = X509Certificate::from_der(der).map_err(|_| Fault::Undefined)?;
    let mut names = Names::default();
    if let Ok(Some(extension)) = certificate.subject_alternative_name() {
        names.read(&extension.value.general_names);
    }
    let constraints = certificate.basic_constraints().ok().flatten();
    let usage = certificate.key_usage().ok().flatten().map_or(0, |usage| usage.value.flags);
    let uris = names.uris.iter().map(|uri| location(uri)).collect();
    let fields = [
        ("Raw", Value::from(STANDARD.encode(der))),
        ("Version", Value::from(u64::from(certificate.version().0) + 1)),
        ("SerialNumber", Value::from_numeric_string(&certificate.serial.to_string()).unwrap_or(Value::Null)),
        ("Subject", name(certificate.subject())),
        ("Issuer", name(certificate.issuer())),
        ("NotBefore", Value::from(time(&certificate.validity().not_before))),
        ("NotAfter", Value::from(time(&certificate.validity().not_after))),
        ("KeyUsage", Value::from(u64::from(usage))),
        ("BasicConstraintsValid", Value::Bool(constraints.is_some())),
        ("IsCA", Value::Bool(constraints.is_some_and(|constraints| constraints.value.ca))),
        ("DNSNames", list(names.dns)),
        ("EmailAddresses", list(names.emails)),
        ("IPAddresses", list(names.addresses)),
        ("URIStrings", list(names.uris)),
        ("URIs", or_null(uris)),
    ];
    Ok(fields.into_iter().map(|(key, value)| (Value::from(key), value)).collect::<Object>().into_value())
}

#[derive(Default)]
struct Names {
    dns: Vec<String>,
    emails: Vec<String>,
    addresses: Vec<String>,
    uris: Vec<String>,
}

impl Names {
    fn read(&mut self, names: &[GeneralName<'_>]) {
        for name in names {
            match name {
                GeneralName::DNSName(name) => self.dns.push((*name).to_owned()),
                GeneralName::RFC822Name(name) => self.emails.push((*name).to_owned()),
                GeneralName::URI(uri) => self.uris.push((*uri).to_owned()),
                GeneralName::IPAddress(bytes) => {
                    let v4 = <[u8; 4]>::try_from(*bytes).map(std::net::IpAddr::from);
                    let address = v4.or_else(|_| <[u8; 16]>::try_from(*bytes).map(std::net::IpAddr::from));
                    self.addresses.extend(address.map(|address| address.to_string()));
                }
                _ => {}
            }
        }
    }
}

/// A name's parts, as Go's `pkix.Name` has them.
fn name(name: &X509Name<'_>) -> Value {
    let texts = |wanted: &str| -> Vec<String> {
        let of = name.iter_attributes().filter(|part| part.attr_type().to_id_string() == wanted);
        of.filter_map(|part| part.as_str().ok()).map(str::to_owned).collect()
    };
    let single = |wanted: &str| Value::from(texts(wanted).pop().unwrap_or_default());
    let fields = [
        ("CommonName", single("2.5.4.3")),
        ("SerialNumber", single("2.5.4.5")),
        ("Country", list(texts("2.5.4.6"))),
        ("Locality", list(texts("2.5.4.7"))),
        ("Province", list(texts("2.5.4.8"))),
        ("StreetAddress", list(texts("2.5.4.9"))),
        ("Organization", list(texts("2.5.4.10"))),
        ("OrganizationalUnit", list(texts("2.5.4.11"))),
        ("PostalCode", list(texts("2.5.4.17"))),
    ];
    fields.into_iter().map(|(key, value)| (Value::from(key), value)).collect::<Object>().into_value()
}

/// As Go's `url.URL` has it, as far as a SPIFFE id goes.
fn location(uri: &str) -> Value {
    let (scheme, rest) = uri.split_once(':').unwrap_or(("", uri));
    let (host, path) = match rest.strip_prefix("//") {
        Some(rest) => rest.find('/').map_or((rest, ""), |at| rest.split_at(at)),
        None => ("", rest),
    };
    let fields = [("Scheme", scheme), ("Host", host), ("Path", path)];
    fields
        .into_iter()
        .map(|(key, text)| (Value::from(key), Value::from(text)))
        .collect::<Object>()
        .into_value()
}

fn list(texts: Vec<String>) -> Value {
    or_null(texts.into_iter().map(Value::from).collect())
}

/// Go writes an empty list as null.
fn or_null(values: Vec<Value>) -> Value {
    if values.is_empty() { Value::Null } else { Value::from(values) }
}

fn time(at: &ASN1Time) -> String {
    let at = at.to_datetime();
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}Z",
        at.year(),
        u8::from(at.month()),
        at.day(),
        at.hour(),
        at.minute(),
        at.second()
    )
}
