//! The users that an admin has made: a name, a role, namespaces, and the hash of a secret.
//!
//! They live in the store, so that every control plane on it knows them, under a group of keys that no
//! API path reaches. Neither a token nor a certificate is kept: the SHA-256 of what a client presents
//! finds its user. A client certificate proves the possession of its key in the TLS handshake and
//! nothing else; who signed it doesn't matter, since it is known by its own hash, like an SSH key.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest;
use http::StatusCode;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use weft_store::{CommitError, Key, Selector, Store, Transaction};

use super::access::{Caller, Role};
use super::auth::random_token;
use super::status::Status;
use crate::clock;
use crate::seed::INTERNAL_GROUP;

const KIND: &str = "users";
/// Users of one mesh; a request that no admin makes looks through all of them.
const USERS_MAX: usize = 1000;
const NAME_BYTES_MAX: usize = 64;
/// What the audit log calls others.
const RESERVED: [&str; 3] = ["owner", "admin", "unknown"];

/// The SHA-256 of a token or of a certificate's DER.
pub(crate) type Fingerprint = [u8; 32];

pub(crate) fn fingerprint(secret: &[u8]) -> Fingerprint {
    let mut print = [0; 32];
    print.copy_from_slice(digest::digest(&digest::SHA256, secret).as_ref());
    print
}

/// How a user proves who it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Proof {
    Token,
    Certificate,
}

/// As it stands in the store.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    role: Role,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    namespaces: Option<BTreeSet<String>>,
    proof: Proof,
    sha256: String,
    created: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    expires: Option<String>,
}

/// What an admin asks for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    name: String,
    role: Role,
    #[serde(default)]
    namespaces: Option<BTreeSet<String>>,
    /// A duration; for ever without it.
    #[serde(default)]
    ttl: Option<String>,
    /// PEM; a token is made without it.
    #[serde(default)]
    certificate: Option<String>,
}

pub(crate) struct Users {
    pub(crate) store: Arc<dyn Store>,
}

impl Users {
    /// The user whose secret has this hash, unless its time is over.
    pub(crate) async fn find(
        &self,
        proof: Proof,
        presented: &Fingerprint,
        now: SystemTime,
    ) -> Option<Caller> {
        let presented = hex(presented);
        let all = match self.all().await {
            Ok(all) => all,
            Err(error) => {
                tracing::warn!(%error, "the users can't be read; only the admin's token and the socket work");
                return None;
            }
        };
        // All are compared, so that the time says nothing about which one it was.
        let mut found = None;
        for (name, record) in all {
            let same = verify_slices_are_equal(record.sha256.as_bytes(), presented.as_bytes()).is_ok();
            if same && record.proof == proof && !record.is_over(now) {
                found = Some(Caller { name, role: record.role, namespaces: record.namespaces });
            }
        }
        found
    }

    async fn all(&self) -> Result<Vec<(String, Record)>, weft_store::StoreError> {
        let (found, _) = self.store.list(&Selector::kind(INTERNAL_GROUP, KIND)).await?;
        Ok(found
            .into_iter()
            .filter_map(|stored| Some((stored.key.name, serde_json::from_slice(&stored.value).ok()?)))
            .collect())
    }

    pub(crate) async fn list(&self, now: SystemTime) -> Result<Value, Status> {
        let all = self.all().await.map_err(|error| Status::store(&error))?;
        let users: Vec<Value> = all
            .iter()
            .map(|(name, record)| {
                json!({
                    "name": name,
                    "role": record.role,
                    "namespaces": record.namespaces,
                    "proof": record.proof,
                    "created": record.created,
                    "expires": record.expires,
                    "expired": record.is_over(now),
                })
            })
            .collect();
        Ok(json!({ "users": users }))
    }

    /// Makes a user; the token is in the answer and nowhere else, ever.
    pub(crate) async fn create(&self, wanted: Value, now: SystemTime) -> Result<(String, Value), Status> {
        let wanted: Wanted = serde_json::from_value(wanted)
            .map_err(|error| Status::bad_request(format!("no user can be made of this: {error}")))?;
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.@".contains(&byte);
        let name = wanted.name.as_str();
        if name.is_empty()
            || name.len() > NAME_BYTES_MAX
            || !name.bytes().all(fits)
            || RESERVED.contains(&name)
        {
            return Err(Status::bad_request(format!(
                "name: {name:?} can't be a user's; write up to {NAME_BYTES_MAX} letters, digits and -_.@, and none of {}",
                RESERVED.join(", ")
            )));
        }
        if wanted.namespaces.as_ref().is_some_and(BTreeSet::is_empty) {
            return Err(Status::bad_request(
                "namespaces: an empty list allows nothing; leave it out for all",
            ));
        }
        let expires = match &wanted.ttl {
            None => None,
            Some(text) => Some(
                clock::parse_duration(text)
                    .filter(|ttl| *ttl > Duration::ZERO)
                    .and_then(|ttl| now.checked_add(ttl))
                    .map(clock::rfc3339)
                    .filter(|text| !text.is_empty())
                    .ok_or_else(|| Status::bad_request(format!("ttl {text:?}: write for example 720h")))?,
            ),
        };
        let (proof, token, print) = match &wanted.certificate {
            Some(pem) => {
                let der = CertificateDer::from_pem_slice(pem.as_bytes())
                    .map_err(|_| Status::bad_request("certificate: this is no certificate in PEM"))?;
                (Proof::Certificate, None, fingerprint(&der))
            }
            None => {
                let token = random_token().map_err(|error| Status::internal(format!("{error:#}")))?;
                let print = fingerprint(token.as_bytes());
                (Proof::Token, Some(token), print)
            }
        };
        let all = self.all().await.map_err(|error| Status::store(&error))?;
        if all.len() >= USERS_MAX {
            return Err(Status::forbidden(format!("there are {USERS_MAX} users, which is the most")));
        }
        if let Some((other, _)) = all.iter().find(|(_, record)| record.sha256 == hex(&print)) {
            return Err(Status::bad_request(format!("certificate: it is the user {other}'s already")));
        }
        let record = Record {
            role: wanted.role,
            namespaces: wanted.namespaces,
            proof,
            sha256: hex(&print),
            created: clock::rfc3339(now),
            expires,
        };
        let value = serde_json::to_vec(&record).map_err(|error| Status::internal(error.to_string()))?;
        match self.store.commit(Transaction::create(key(name), value)).await {
            Ok(_) => {}
            Err(CommitError::Conflict { .. }) => {
                return Err(Status::taken(&format!("there is a user \"{name}\" already; delete it first")));
            }
            Err(error) => return Err(Status::commit(&error)),
        }
        let mut answer = json!({
            "name": name, "role": record.role, "namespaces": record.namespaces, "proof": proof, "expires": record.expires,
        });
        if let Some(token) = token {
            answer["token"] = token.into();
        }
        Ok((wanted.name, answer))
    }

    /// From the next request on it is nobody.
    pub(crate) async fn delete(&self, name: &str) -> Result<Value, Status> {
        let found = self.store.get(&key(name)).await.map_err(|error| Status::store(&error))?;
        let Some(found) = found.filter(|_| !name.is_empty()) else {
            return Err(Status::missing(&format!("there is no user \"{name}\"")));
        };
        match self.store.commit(Transaction::delete(found.key, found.modified)).await {
            Ok(_) => Ok(json!({ "name": name, "deleted": true })),
            Err(error) => Err(Status::commit(&error)),
        }
    }
}

impl Record {
    fn is_over(&self, now: SystemTime) -> bool {
        // A time that can't be read is over: nobody gets in by a damaged record.
        self.expires
            .as_ref()
            .is_some_and(|end| clock::parse_instant(end).is_none_or(|end| end <= clock::unix(now)))
    }
}

fn key(name: &str) -> Key {
    Key::new(INTERNAL_GROUP, KIND, "", name)
}

fn hex(print: &Fingerprint) -> String {
    print.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// `/access/v1/users` and `/access/v1/users/NAME`: the answer and what the audit log says it was about.
pub(crate) async fn answer(
    users: &Users,
    method: &http::Method,
    segments: &[&str],
    body: impl Future<Output = Result<Value, Status>>,
) -> (String, Result<(StatusCode, Value), Status>) {
    let now = SystemTime::now();
    let path = format!("/{}", segments.join("/"));
    match (method.as_str(), segments) {
        ("GET" | "HEAD", ["access", "v1", "users"]) => {
            (path, users.list(now).await.map(|all| (StatusCode::OK, all)))
        }
        ("POST", ["access", "v1", "users"]) => {
            let made = match body.await {
                Ok(wanted) => users.create(wanted, now).await,
                Err(status) => Err(status),
            };
            match made {
                Ok((name, value)) => (format!("user {name}"), Ok((StatusCode::CREATED, value))),
                Err(status) => (path, Err(status)),
            }
        }
        ("DELETE", ["access", "v1", "users", name]) => {
            (format!("user {name}"), users.delete(name).await.map(|gone| (StatusCode::OK, gone)))
        }
        (_, ["access", "v1", "users" | "users/"] | ["access", "v1", "users", _]) => {
            (path, Err(Status::method_not_allowed()))
        }
        _ => (path, Err(Status::no_such_path())),
    }
}

/// The certificate's hash and its times, as the handshake saw it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ClientCertificate {
    pub(crate) print: Fingerprint,
    not_before: SystemTime,
    not_after: SystemTime,
}

impl ClientCertificate {
    pub(crate) fn read(der: &CertificateDer<'_>) -> anyhow::Result<ClientCertificate> {
        let leaf = weft_identity::certificate::Leaf::parse(der).context("read the client certificate")?;
        Ok(ClientCertificate {
            print: fingerprint(der),
            not_before: leaf.not_before,
            not_after: leaf.not_after,
        })
    }

    pub(crate) fn is_valid(&self, now: SystemTime) -> bool {
        (self.not_before..=self.not_after).contains(&now)
    }
}
