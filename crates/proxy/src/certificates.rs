//! The proxy's own identity: how it is got, kept and renewed.
//!
//! The key is made here and leaves this process only into the state directory (0600) and the agent's socket. First
//! contact is by join token over TLS that trusts the token's CA alone; afterwards the current certificate renews itself
//! at a jittered 50 to 70 % of its life, with retries until it ends.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use rustls_pki_types::{CertificateDer, ServerName};
use tokio::sync::watch;
use tonic::Code;
use weft_identity::{
    Bundle, Crl, IdentityMatch, JoinToken, PrivateKey, SignedList, SpiffeId, Svid, TrustDomain,
    files::create_private_dir,
    tls::{self, ALPN_H2},
};
use weft_link::{JoinRequest, JoinResponse, LinkClient, RenewRequest};

use crate::{
    channel::{self, ChannelError},
    config::Control,
    members::Members,
};

const RETRY_FIRST: Duration = Duration::from_millis(200);
const RETRY_MAX: Duration = Duration::from_secs(30);
/// A proxy that never joined serves nobody: it asks more often.
const JOIN_RETRY_MAX: Duration = Duration::from_secs(1);
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// What TLS calls the control plane. Nobody checks it: identities are SPIFFE ids.
const CONTROL_NAME: &str = "control.mesh.internal";

/// What the proxy is, and whom it trusts.
#[derive(Debug)]
pub struct Credentials {
    /// Grows with each new certificate and each other set of roots: connections of an older one are not used again.
    pub generation: u64,
    /// Grows with that, and with each new list of what is revoked: handshakes follow the newest.
    pub revision: u64,
    pub svid: Arc<Svid>,
    pub bundle: Arc<Bundle>,
    /// The open connections with members, whichever credentials they began with.
    pub members: Arc<Members>,
}

impl Credentials {
    /// The first ones.
    pub fn new(generation: u64, svid: Svid, bundle: Bundle) -> Credentials {
        let (svid, bundle) = (Arc::new(svid), Arc::new(bundle));
        Credentials { generation, revision: generation, svid, bundle, members: Arc::default() }
    }

    /// What comes after these. What is known of revocations stays known where the new bundle says nothing of it.
    fn followed_by(&self, svid: Svid, bundle: Bundle) -> Credentials {
        let bundle = match bundle.crl() {
            None => bundle.with_crl(self.bundle.crl().cloned()),
            Some(_) => bundle,
        };
        let same = svid.serial_hex() == self.svid.serial_hex() && bundle.roots() == self.bundle.roots();
        Credentials {
            generation: if same { self.generation } else { self.generation + 1 },
            revision: self.revision + 1,
            svid: Arc::new(svid),
            bundle: Arc::new(bundle),
            members: Arc::clone(&self.members),
        }
    }
}

/// Where the proxy stands with its identity.
#[derive(Debug, Clone, Default)]
pub enum CertState {
    #[default]
    Starting,
    Valid(Arc<Credentials>),
    /// Renewal (or joining) fails; the last certificate serves on until it ends.
    Failing {
        last: Option<Arc<Credentials>>,
        error: String,
    },
}

impl CertState {
    pub fn credentials(&self) -> Option<&Arc<Credentials>> {
        match self {
            CertState::Starting => None,
            CertState::Valid(credentials) => Some(credentials),
            CertState::Failing { last, .. } => last.as_ref(),
        }
    }
}

/// Why there is no identity, and none can be got.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    #[error("no identity in {dir} and no join token: get one with `weft identity token --service {service}`", dir = dir.display())]
    NoToken { dir: PathBuf, service: String },
    #[error("the join token cannot be read: {0}")]
    Token(#[from] weft_identity::TokenError),
    #[error("the join token is for {found}, not for {wanted}")]
    WrongToken { found: String, wanted: String },
    #[error("the control plane refused the join token: {0}; a token works once, get a new one")]
    Refused(String),
    #[error("the state directory")]
    State(#[from] weft_identity::files::FileError),
    #[error("the identity")]
    Key(#[from] weft_identity::KeyError),
    #[error("the control plane's answer: {0}")]
    Answer(String),
    #[error(transparent)]
    Channel(#[from] ChannelError),
    #[error("the control plane did not answer in time")]
    Timeout,
    #[error("the control plane: {0}")]
    Call(String),
    #[error("the trust domain's CA: {0}")]
    Tls(String),
}

/// The identity and its keeper. Clones share it.
#[derive(Clone)]
pub struct Identity {
    state: watch::Sender<CertState>,
    dir: PathBuf,
    control: Option<Control>,
    namespace: String,
    service: String,
}

impl Identity {
    /// Takes what the state directory holds, if it is still good.
    pub fn open(
        state: &Path,
        control: Option<Control>,
        namespace: &str,
        service: &str,
    ) -> Result<Identity, IdentityError> {
        let dir = state.join("identity");
        create_private_dir(&dir)?;
        let identity = Identity {
            state: watch::Sender::new(CertState::Starting),
            dir,
            control,
            namespace: namespace.to_owned(),
            service: service.to_owned(),
        };
        match Svid::read(&identity.dir) {
            Ok((svid, bundle)) if svid.expired(SystemTime::now()) => {
                tracing::warn!(id = %svid.id(), "the stored certificate has expired; trust domain {}", bundle.trust_domain());
            }
            Ok((svid, bundle)) if identity.is_ours(svid.id()) => {
                let crl = Crl::read_file(&identity.dir, &bundle).unwrap_or_else(|error| {
                    tracing::warn!(%error, "the stored revocation list cannot be used; the control plane sends a new one");
                    None
                });
                let bundle = bundle.with_crl(crl);
                if bundle.revokes(svid.serial_hex()) {
                    let serial = svid.serial_hex();
                    tracing::warn!(id = %svid.id(), serial, "the stored certificate was revoked; a new token is needed");
                } else {
                    identity.publish(svid, bundle);
                }
            }
            Ok((svid, _)) => {
                tracing::warn!(id = %svid.id(), "the stored certificate is for another service; it is not used")
            }
            Err(error) if error.is_missing() => {}
            Err(error) => tracing::warn!(%error, "the stored identity cannot be used"),
        }
        Ok(identity)
    }

    /// An identity that others made, e.g. for a static proxy or a test. It is not renewed.
    pub fn fixed(svid: Svid, bundle: Bundle) -> Identity {
        let identity = Identity {
            state: watch::Sender::new(CertState::Starting),
            dir: PathBuf::new(),
            control: None,
            namespace: String::new(),
            service: String::new(),
        };
        identity.publish(svid, bundle);
        identity
    }

    pub fn watch(&self) -> watch::Receiver<CertState> {
        self.state.subscribe()
    }

    pub fn credentials(&self) -> Option<Arc<Credentials>> {
        self.state.borrow().credentials().cloned()
    }

    /// Waits until there is a certificate.
    pub async fn ready(&self) -> Arc<Credentials> {
        let mut state = self.watch();
        loop {
            if let Some(credentials) = state.borrow_and_update().credentials() {
                return Arc::clone(credentials);
            }
            if state.changed().await.is_err() {
                std::future::pending::<()>().await; // `self` holds the sender
            }
        }
    }

    /// Joins if need be, then renews for ever. Returns only when joining is hopeless.
    pub async fn keep(self) -> Result<(), IdentityError> {
        let Some(control) = self.control.clone() else {
            return std::future::pending().await;
        };
        if self.credentials().is_none() {
            self.join(&control).await?;
        }
        let mut changes = self.watch();
        loop {
            let Some(credentials) = self.credentials() else {
                return self.join(&control).await;
            };
            let due = credentials.svid.renew_at(fastrand::f64());
            let wait = due.duration_since(SystemTime::now()).unwrap_or_default();
            changes.mark_unchanged();
            tokio::select! {
                () = tokio::time::sleep(wait) => self.renew(&control).await,
                // A new bundle: the same certificate, the same plan.
                _ = changes.changed() => {}
            }
        }
    }

    /// The control plane has other roots.
    pub fn set_bundle(&self, pem: &str) {
        let Some(now) = self.credentials() else { return };
        match Bundle::from_pem(now.bundle.trust_domain().clone(), pem) {
            Ok(bundle) if bundle.roots() == now.bundle.roots() => {}
            Ok(bundle) => {
                let bundle = bundle.with_crl(now.bundle.crl().cloned());
                tracing::info!(roots = bundle.roots().len(), "the trust bundle changed");
                self.store(&now.svid, &bundle);
                self.publish((*now.svid).clone(), bundle);
            }
            Err(error) => tracing::warn!(%error, "a trust bundle of the control plane is refused"),
        }
    }

    /// The control plane has taken back certificates. What is not believed changes nothing.
    pub fn set_crl(&self, crl: weft_link::Crl) {
        let Some(now) = self.credentials() else { return };
        let lists = crl.lists.into_iter();
        let lists =
            lists.map(|list| SignedList { der: list.crl_der, issuer: list.issuer_der.into() }).collect();
        match Crl::read(lists, &now.bundle) {
            Ok(crl) if now.bundle.crl() == Some(&crl) => {}
            Ok(crl) => {
                tracing::info!(revoked = crl.len(), "the revocation list changed");
                let bundle = (*now.bundle).clone().with_crl(Some(crl));
                // First those who are here: the disk is for the next start.
                self.publish((*now.svid).clone(), bundle.clone());
                self.store(&now.svid, &bundle);
            }
            Err(error) => {
                tracing::warn!(%error, "a revocation list of the control plane is refused; the one before stays");
            }
        }
    }

    async fn join(&self, control: &Control) -> Result<(), IdentityError> {
        let Some(token) = &control.token else {
            return Err(IdentityError::NoToken { dir: self.dir.clone(), service: self.service.clone() });
        };
        let parsed: JoinToken = token.trim().parse()?;
        if (parsed.namespace.as_str(), parsed.service.as_str()) != (&self.namespace, &self.service) {
            return Err(IdentityError::WrongToken {
                found: format!("{}/{}", parsed.namespace, parsed.service),
                wanted: format!("{}/{}", self.namespace, self.service),
            });
        }
        let mut wait = RETRY_FIRST;
        loop {
            match self.join_once(control, token.trim(), &parsed).await {
                Ok(()) => return Ok(()),
                Err(
                    error @ (IdentityError::Refused(_) | IdentityError::State(_) | IdentityError::Key(_)),
                ) => {
                    return Err(error);
                }
                Err(error) => self.failing(&error),
            }
            tokio::time::sleep(wait.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
            wait = (wait * 2).min(JOIN_RETRY_MAX);
        }
    }

    async fn join_once(
        &self,
        control: &Control,
        token: &str,
        parsed: &JoinToken,
    ) -> Result<(), IdentityError> {
        let trust_domain = parsed.trust_domain();
        let config = tls::client_config_anonymous(&parsed.bundle, control_only(trust_domain), ALPN_H2)
            .map_err(|error| IdentityError::Tls(error.to_string()))?;
        let (key, csr_der) = self.request(trust_domain)?;
        let channel = channel::connect(&control.address, Some((config, control_name()))).await?;
        let request = JoinRequest {
            token: token.to_owned(),
            csr_der,
            service: self.service.clone(),
            namespace: self.namespace.clone(),
        };
        let mut client = LinkClient::new(channel);
        let answer = tokio::time::timeout(CALL_TIMEOUT, client.join(request)).await;
        self.take(key, answered(answer)?)
    }

    async fn renew(&self, control: &Control) {
        let mut wait = RETRY_FIRST;
        loop {
            match self.renew_once(control).await {
                Ok(()) => return,
                Err(error) => self.failing(&error),
            }
            tokio::time::sleep(wait.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
            wait = (wait * 2).min(RETRY_MAX);
        }
    }

    async fn renew_once(&self, control: &Control) -> Result<(), IdentityError> {
        let now = self.ready().await;
        let (key, csr_der) = self.request(now.bundle.trust_domain())?;
        let channel = connect(control, &now).await?;
        let mut client = LinkClient::new(channel);
        let answer = tokio::time::timeout(CALL_TIMEOUT, client.renew(RenewRequest { csr_der })).await;
        self.take(key, answered(answer)?)
    }

    /// A new key and the request for its certificate.
    fn request(&self, trust_domain: &TrustDomain) -> Result<(PrivateKey, Vec<u8>), IdentityError> {
        let id = SpiffeId::service(trust_domain, &self.namespace, &self.service)
            .map_err(|error| IdentityError::Answer(error.to_string()))?;
        let key = PrivateKey::generate()?;
        let csr = key.csr_der(&id)?;
        Ok((key, csr))
    }

    fn take(&self, key: PrivateKey, answer: JoinResponse) -> Result<(), IdentityError> {
        let wrong = |error: &dyn std::fmt::Display| IdentityError::Answer(error.to_string());
        let trust_domain = TrustDomain::new(&answer.trust_domain).map_err(|error| wrong(&error))?;
        let bundle = Bundle::from_pem(trust_domain, &answer.bundle_pem).map_err(|error| wrong(&error))?;
        let chain = answer.chain_der.into_iter().map(CertificateDer::from).collect();
        let svid = Svid::new(chain, key).map_err(|error| wrong(&error))?;
        if !self.is_ours(svid.id()) {
            return Err(IdentityError::Answer(format!("a certificate for {}", svid.id())));
        }
        // Who joins anew knows what it knew before: its control plane may be gone before it sends a list.
        let bundle = match self.credentials() {
            None => {
                let known = Crl::read_file(&self.dir, &bundle).unwrap_or_default();
                bundle.with_crl(known)
            }
            Some(_) => bundle,
        };
        self.store(&svid, &bundle);
        self.publish(svid, bundle);
        Ok(())
    }

    /// A full disk costs the next start its identity, not this run.
    fn store(&self, svid: &Svid, bundle: &Bundle) {
        if let Err(error) = svid.write(bundle, &self.dir) {
            tracing::error!(%error, "the identity could not be stored; after a restart a new token is needed");
        }
    }

    fn publish(&self, svid: Svid, bundle: Bundle) {
        self.state.send_modify(|state| {
            let next = match state.credentials() {
                None => Credentials::new(1, svid, bundle),
                Some(last) => last.followed_by(svid, bundle),
            };
            let Credentials { generation, revision, svid, bundle, members } = &next;
            tracing::info!(id = %svid.id(), serial = svid.serial_hex(), generation, revision, "identity");
            let cut = members.learn(bundle);
            if cut > 0 {
                tracing::warn!(cut, "connections with members whose certificates are revoked are cut");
            }
            *state = CertState::Valid(Arc::new(next));
        });
    }

    fn failing(&self, error: &IdentityError) {
        self.state.send_modify(|state| {
            // A control plane that is away is worth one line, not one a second.
            match state {
                CertState::Failing { error: known, .. } if *known == error.to_string() => {
                    tracing::debug!(%error, "still no new certificate");
                }
                _ => tracing::warn!(%error, "no new certificate"),
            }
            let last = state.credentials().cloned();
            *state = CertState::Failing { last, error: error.to_string() };
        });
    }

    fn is_ours(&self, id: &SpiffeId) -> bool {
        id.namespace() == Some(&self.namespace) && id.service_account() == Some(&self.service)
    }
}

fn answered(
    answer: Result<Result<tonic::Response<JoinResponse>, tonic::Status>, tokio::time::error::Elapsed>,
) -> Result<JoinResponse, IdentityError> {
    match answer {
        Ok(Ok(response)) => Ok(response.into_inner()),
        Ok(Err(status)) => Err(match status.code() {
            Code::PermissionDenied | Code::Unauthenticated | Code::InvalidArgument => {
                IdentityError::Refused(status.message().to_owned())
            }
            _ => IdentityError::Call(status.message().to_owned()),
        }),
        Err(_) => Err(IdentityError::Timeout),
    }
}

/// A channel to the control plane with our own certificate.
pub async fn connect(
    control: &Control,
    credentials: &Credentials,
) -> Result<tonic::transport::Channel, IdentityError> {
    let expected = control_only(credentials.bundle.trust_domain());
    let config = tls::client_config(&credentials.svid, &credentials.bundle, expected, ALPN_H2)
        .map_err(|error| IdentityError::Tls(error.to_string()))?;
    Ok(channel::connect(&control.address, Some((config, control_name()))).await?)
}

fn control_only(trust_domain: &TrustDomain) -> IdentityMatch {
    IdentityMatch::Exact(vec![SpiffeId::control(trust_domain)])
}

fn control_name() -> ServerName<'static> {
    // A constant name; the address stands in for it if it ever stopped being one.
    ServerName::try_from(CONTROL_NAME)
        .unwrap_or(ServerName::IpAddress(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST).into()))
}
