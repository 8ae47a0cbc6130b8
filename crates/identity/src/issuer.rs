//! The embedded CA: a root that signs an intermediate, an intermediate that signs members.
//!
//! A certificate carries only what the server decided: the id that was attested, CA:false, digitalSignature,
//! client and server, a validity and a random serial. Of the request it takes the public key and nothing
//! else.

mod authority;
mod stored;

pub use stored::IssuerPem;

use crate::bundle::{Bundle, BundleError};
use crate::certificate::{Leaf, hex};
use crate::csr::{self, CsrRefusal};
use crate::files::FileError;
use crate::key::{KeyError, PrivateKey};
use crate::pem::{self, PemError};
use crate::revocation::{Crl, CrlError, REVOKED_MAX, Revoked, canonical, is_ca_of};
use crate::rotation::BACKDATED;
use crate::spiffe::{SpiffeId, TrustDomain};
use authority::{SharedKey, since_epoch, whole_seconds};
use rcgen::{
    CertificateParams, CertificateRevocationListParams, DistinguishedName, ExtendedKeyUsagePurpose, IsCa,
    KeyIdMethod, KeyUsagePurpose, RevokedCertParams, SanType, SerialNumber, SubjectPublicKeyInfo,
};
use rustls_pki_types::CertificateDer;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::time::{Duration, SystemTime};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// How long a root lives.
pub const ROOT_TTL: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);
/// How long an intermediate lives.
pub const INTERMEDIATE_TTL: Duration = Duration::from_secs(365 * 24 * 60 * 60);
/// The longest life of a member's certificate, whatever is asked.
pub const LEAF_TTL_MAX: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// Why there is no CA.
#[derive(Debug, thiserror::Error)]
pub enum IssuerError {
    /// A key.
    #[error("a key of the CA")]
    Key(#[from] KeyError),
    /// A certificate can't be made.
    #[error("make a certificate of the CA of {trust_domain}")]
    Certificate {
        /// Of which trust domain.
        trust_domain: TrustDomain,
        /// Why.
        #[source]
        source: rcgen::Error,
    },
    /// A certificate can't be read.
    #[error("the {part} certificate of the CA")]
    Pem {
        /// Which.
        part: &'static str,
        /// Why.
        #[source]
        source: PemError,
    },
    /// A certificate is no CA certificate of this trust domain with this key.
    #[error("the {part} certificate of the CA of {trust_domain}: {why}")]
    Unfit {
        /// Which.
        part: &'static str,
        /// Of which trust domain.
        trust_domain: TrustDomain,
        /// Why.
        why: &'static str,
    },
    /// The root can't be a trust anchor.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// A file can't be read or written.
    #[error(transparent)]
    File(#[from] FileError),
}

impl IssuerError {
    /// Is it only that there is no CA yet?
    pub fn is_missing(&self) -> bool {
        matches!(self, IssuerError::File(error) if error.is_missing())
    }
}

/// Why a certificate was not issued.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    /// The request asks for what it may not, or is broken.
    #[error(transparent)]
    Refused(#[from] CsrRefusal),
    /// An id of another trust domain: a mistake of whoever attested.
    #[error("the CA of {trust_domain} does not certify {id}")]
    OtherTrustDomain {
        /// Of the CA.
        trust_domain: TrustDomain,
        /// What was asked for.
        id: SpiffeId,
    },
    /// The intermediate is no longer valid.
    #[error("the CA's intermediate certificate has expired: renew it with `Issuer::renew_intermediate`")]
    Expired,
    /// The list would be longer than any member reads.
    #[error("{0} certificates are revoked, at most {max} can be", max = crate::revocation::REVOKED_MAX)]
    TooManyRevoked(usize),
    /// A list was made that nobody would believe: the intermediate may not sign one.
    #[error("sign a revocation list")]
    Crl(#[source] CrlError),
    /// Signing failed.
    #[error("sign a certificate for {subject}")]
    Sign {
        /// For whom.
        subject: String,
        /// Why.
        #[source]
        source: rcgen::Error,
    },
}

impl IssueError {
    /// A word for metrics and the audit log.
    pub fn label(&self) -> &'static str {
        match self {
            IssueError::Refused(refusal) => refusal.label(),
            IssueError::OtherTrustDomain { .. } => "other_trust_domain",
            IssueError::Expired => "ca_expired",
            IssueError::TooManyRevoked(_) => "too_many_revoked",
            IssueError::Crl(_) => "crl",
            IssueError::Sign { .. } => "sign",
        }
    }
}

/// A certificate that was issued.
#[derive(Debug, Clone)]
pub struct Issued {
    /// The leaf, then the intermediate.
    pub chain: Vec<CertificateDer<'static>>,
    /// The serial number, lower-case hex.
    pub serial_hex: String,
    /// Valid from; [`BACKDATED`] before the moment of issue.
    pub not_before: SystemTime,
    /// Valid until.
    pub not_after: SystemTime,
}

/// Signs members' certificates with the intermediate.
pub struct Issuer {
    trust_domain: TrustDomain,
    bundle: Bundle,
    intermediate: CertificateDer<'static>,
    intermediate_not_after: SystemTime,
    public_keys: [Vec<u8>; 2],
    signer: rcgen::Issuer<'static, SharedKey>,
    /// The intermediate that this one has replaced: it signs lists as long as its certificates live.
    before: Option<(CertificateDer<'static>, rcgen::Issuer<'static, SharedKey>)>,
}

impl Issuer {
    /// A new root and a new intermediate.
    pub fn create(trust_domain: &TrustDomain, now: SystemTime) -> Result<(Issuer, IssuerPem), IssuerError> {
        let root_key = PrivateKey::generate()?;
        let failed = |source| IssuerError::Certificate { trust_domain: trust_domain.clone(), source };
        let root_params =
            authority::params(trust_domain, "root", &root_key, 1, now, ROOT_TTL).map_err(failed)?;
        let root = root_params.self_signed(root_key.pair()).map_err(failed)?;
        let pem = IssuerPem {
            root: pem::encode("CERTIFICATE", root.der()),
            root_key: root_key.to_pem(),
            intermediate: String::new(),
            intermediate_key: String::new(),
        };
        Issuer::renew_intermediate(trust_domain, pem, now)
    }

    /// A new intermediate under the same root: members trust it at once.
    pub fn renew_intermediate(
        trust_domain: &TrustDomain,
        pem: IssuerPem,
        now: SystemTime,
    ) -> Result<(Issuer, IssuerPem), IssuerError> {
        let failed = |source| IssuerError::Certificate { trust_domain: trust_domain.clone(), source };
        let root = authority::first_certificate("root", &pem.root)?;
        let root_key = PrivateKey::from_pem(&pem.root_key)?;
        authority::check("root", &root, &root_key, trust_domain)?;
        let key = PrivateKey::generate()?;
        let params = authority::params(trust_domain, "intermediate", &key, 0, now, INTERMEDIATE_TTL)
            .map_err(failed)?;
        let signer = rcgen::Issuer::from_ca_cert_der(&root, SharedKey(root_key)).map_err(failed)?;
        let intermediate = params.signed_by(key.pair(), &signer).map_err(failed)?;
        let pem = IssuerPem {
            intermediate: pem::encode("CERTIFICATE", intermediate.der()),
            intermediate_key: key.to_pem(),
            ..pem
        };
        Ok((Issuer::load(trust_domain, &pem)?, pem))
    }

    /// The CA from its PEM texts. The root's key is not needed and not looked at.
    pub fn load(trust_domain: &TrustDomain, pem: &IssuerPem) -> Result<Issuer, IssuerError> {
        let root = authority::first_certificate("root", &pem.root)?;
        let intermediate = authority::first_certificate("intermediate", &pem.intermediate)?;
        let key = PrivateKey::from_pem(&pem.intermediate_key)?;
        let leaf = authority::check("intermediate", &intermediate, &key, trust_domain)?;
        let root_leaf = authority::parse("root", &root, trust_domain)?;
        let signer = rcgen::Issuer::from_ca_cert_der(&intermediate, SharedKey(key))
            .map_err(|source| IssuerError::Certificate { trust_domain: trust_domain.clone(), source })?;
        Ok(Issuer {
            trust_domain: trust_domain.clone(),
            bundle: Bundle::new(trust_domain.clone(), vec![root])?,
            intermediate,
            intermediate_not_after: leaf.not_after,
            public_keys: [leaf.public_key, root_leaf.public_key],
            signer,
            before: None,
        })
    }

    /// Keeps the intermediate before this one, so that it can take back what it has signed. One that can't be used is
    /// none: its certificates can still be taken back, but a peer that wants a list of each CA won't know.
    fn with_before(mut self, pem: Option<IssuerPem>) -> Issuer {
        let before = pem.and_then(|pem| {
            let certificate = authority::first_certificate("intermediate", &pem.intermediate).ok()?;
            let key = PrivateKey::from_pem(&pem.intermediate_key).ok()?;
            authority::check("intermediate", &certificate, &key, &self.trust_domain).ok()?;
            // Of a CA that was replaced: nobody would believe its list, nor one beside it.
            is_ca_of(&certificate, &self.bundle).then_some(())?;
            let signer = rcgen::Issuer::from_ca_cert_der(&certificate, SharedKey(key)).ok()?;
            Some((certificate, signer))
        });
        self.before = before.filter(|(certificate, _)| *certificate != self.intermediate);
        self
    }

    /// Reads the CA from `dir`, or makes one there. An intermediate in its last 30 days is renewed.
    pub fn open(dir: &Path, trust_domain: &TrustDomain, now: SystemTime) -> Result<Issuer, IssuerError> {
        let (issuer, pem) = match IssuerPem::read(dir) {
            Ok(pem) => {
                let issuer = Issuer::load(trust_domain, &pem)?;
                if issuer.intermediate_not_after > now + 30 * DAY {
                    return Ok(issuer.with_before(pem.read_before(dir)));
                }
                pem.write_before(dir)?;
                let before = pem.clone();
                let (issuer, pem) = Issuer::renew_intermediate(trust_domain, pem, now)?;
                (issuer.with_before(Some(before)), pem)
            }
            // Only when there is nothing at all: to make a new root beside a damaged CA would cut off every
            // member.
            Err(error) if error.is_missing() && !dir.join(IssuerPem::ROOT_FILE).exists() => {
                Issuer::create(trust_domain, now)?
            }
            Err(error) => return Err(error.into()),
        };
        pem.write(dir)?;
        Ok(issuer)
    }

    /// The trust domain that this CA certifies.
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// What members must trust: the root.
    pub fn bundle(&self) -> &Bundle {
        &self.bundle
    }

    /// When the intermediate expires; no certificate lives longer.
    pub fn not_after(&self) -> SystemTime {
        self.intermediate_not_after
    }

    /// Certifies a member that was attested as `id`. `ttl` is cut to [`LEAF_TTL_MAX`] and the CA's own life.
    pub fn issue(
        &self,
        csr_der: &[u8],
        id: &SpiffeId,
        now: SystemTime,
        ttl: Duration,
        serial_random: [u8; 16],
    ) -> Result<Issued, IssueError> {
        if !id.member_of(&self.trust_domain) || id.path().is_empty() {
            return Err(IssueError::OtherTrustDomain {
                trust_domain: self.trust_domain.clone(),
                id: id.clone(),
            });
        }
        let public_key = csr::check(csr_der, id)?;
        if self.public_keys.contains(&public_key) {
            return Err(CsrRefusal::AuthorityKey.into());
        }
        let failed = |source| IssueError::Sign { subject: id.to_string(), source };
        let public_key = SubjectPublicKeyInfo::from_der(&public_key).map_err(failed)?;
        let names = vec![SanType::URI(id.as_str().try_into().map_err(failed)?)];
        let usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        self.sign(&public_key, names, usages, now, ttl.min(LEAF_TTL_MAX), serial_random, id.as_str())
    }

    /// Certifies the API's HTTPS: `localhost`, both loopback addresses, and what is given. It names no SPIFFE
    /// id and may only serve, so no member takes it for one of its own.
    pub fn issue_api_server(
        &self,
        key: &PrivateKey,
        hosts: &[String],
        addresses: &[IpAddr],
        now: SystemTime,
        ttl: Duration,
        serial_random: [u8; 16],
    ) -> Result<Issued, IssueError> {
        let subject = std::iter::once("localhost")
            .chain(hosts.iter().map(String::as_str))
            .collect::<Vec<_>>()
            .join(", ");
        let sans = server_names(hosts, addresses)
            .map_err(|source| IssueError::Sign { subject: subject.clone(), source })?;
        let usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.sign(key.pair(), sans, usages, now, ttl.min(INTERMEDIATE_TTL), serial_random, &subject)
    }

    /// Certifies the control plane itself. Members know it by its SPIFFE id; gRPC's xDS clients prove a server by
    /// the name or address that they dialled, so those stand beside the id: loopback, and what is given.
    pub fn issue_control(
        &self,
        key: &PrivateKey,
        hosts: &[String],
        addresses: &[IpAddr],
        now: SystemTime,
        ttl: Duration,
        serial_random: [u8; 16],
    ) -> Result<Issued, IssueError> {
        let id = SpiffeId::control(&self.trust_domain);
        let failed = |source| IssueError::Sign { subject: id.to_string(), source };
        let mut sans = vec![SanType::URI(id.as_str().try_into().map_err(failed)?)];
        sans.extend(server_names(hosts, addresses).map_err(failed)?);
        let usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        self.sign(key.pair(), sans, usages, now, ttl.min(LEAF_TTL_MAX), serial_random, id.as_str())
    }

    /// Who this CA is to readers of its certificates, in lower-case hex: the intermediate's serial number.
    pub fn serial_hex(&self) -> String {
        Leaf::parse(&self.intermediate).map_or_else(|_| String::new(), |leaf| leaf.serial_hex)
    }

    /// A list of what was taken back, for members and for Envoys.
    ///
    /// It is valid as long as the intermediate: lists are pushed, and when there is nobody to push one, a peer that
    /// looks at its age (an Envoy does) must not refuse everybody.
    pub fn crl(&self, revoked: &[Revoked], now: SystemTime) -> Result<Crl, IssueError> {
        if revoked.len() > REVOKED_MAX {
            return Err(IssueError::TooManyRevoked(revoked.len()));
        }
        if self.intermediate_not_after <= now {
            return Err(IssueError::Expired);
        }
        let date = |time| rcgen::date_time_ymd(1970, 1, 1) + since_epoch(time);
        let entries = revoked.iter().filter_map(|one| {
            let canonical = canonical(&one.serial_hex);
            Some(RevokedCertParams {
                serial_number: SerialNumber::from_slice(&bytes(&canonical)?),
                revocation_time: date(one.at),
                reason_code: one.reason.code(),
                invalidity_date: None,
            })
        });
        let micros = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_micros();
        let params = CertificateRevocationListParams {
            this_update: date(now - BACKDATED),
            next_update: date(self.intermediate_not_after),
            crl_number: SerialNumber::from(u64::try_from(micros).unwrap_or(u64::MAX)),
            issuing_distribution_point: None,
            revoked_certs: entries.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let mut lists = vec![authority::list(&self.intermediate, &self.signer, &params)?];
        if let Some((intermediate, signer)) = &self.before {
            lists.push(authority::list(intermediate, signer, &params)?);
        }
        Crl::read(lists, &self.bundle).map_err(IssueError::Crl)
    }

    fn sign(
        &self,
        public_key: &impl rcgen::PublicKeyData,
        names: Vec<SanType>,
        usages: Vec<ExtendedKeyUsagePurpose>,
        now: SystemTime,
        ttl: Duration,
        serial_random: [u8; 16],
        subject: &str,
    ) -> Result<Issued, IssueError> {
        let not_before = whole_seconds(now - BACKDATED);
        let not_after = whole_seconds((now + ttl).min(self.intermediate_not_after));
        if not_after <= now {
            return Err(IssueError::Expired);
        }
        let serial = serial(serial_random);
        let mut params = CertificateParams::default();
        params.not_before = rcgen::date_time_ymd(1970, 1, 1) + since_epoch(not_before);
        params.not_after = rcgen::date_time_ymd(1970, 1, 1) + since_epoch(not_after);
        params.serial_number = Some(SerialNumber::from_slice(&serial));
        params.subject_alt_names = names;
        params.distinguished_name = DistinguishedName::new();
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = usages;
        params.use_authority_key_identifier_extension = true;
        let certificate = params
            .signed_by(public_key, &self.signer)
            .map_err(|source| IssueError::Sign { subject: subject.to_owned(), source })?;
        Ok(Issued {
            chain: vec![certificate.der().clone(), self.intermediate.clone()],
            serial_hex: hex(&serial),
            not_before,
            not_after,
        })
    }
}

impl std::fmt::Debug for Issuer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Issuer({})", self.trust_domain)
    }
}

/// `localhost`, both loopback addresses, and what is given.
fn server_names(hosts: &[String], addresses: &[IpAddr]) -> Result<Vec<SanType>, rcgen::Error> {
    let mut names = vec![SanType::DnsName("localhost".try_into()?)];
    for host in hosts.iter().filter(|host| *host != "localhost") {
        names.push(SanType::DnsName(host.as_str().try_into()?));
    }
    let loopback = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
    let others = addresses.iter().filter(|ip| !loopback.contains(ip) && !ip.is_unspecified());
    names.extend(loopback.iter().chain(others).map(|ip| SanType::IpAddress(*ip)));
    Ok(names)
}

/// `None`: no hex.
fn bytes(hex: &str) -> Option<Vec<u8>> {
    let digits = hex.as_bytes();
    if digits.is_empty() || !digits.len().is_multiple_of(2) {
        return None;
    }
    digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}

/// A positive integer of exactly 16 bytes: 126 of its bits are the caller's random ones.
fn serial(mut random: [u8; 16]) -> [u8; 16] {
    random[0] = random[0] & 0x7f | 0x40;
    random
}

#[cfg(test)]
mod tests;
