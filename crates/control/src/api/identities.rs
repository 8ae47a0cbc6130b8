//! Who is certified, and taking it back: `/identity/v1/certificates` and `/identity/v1/revocations`.

use std::time::{Duration, SystemTime};

use axum::extract::Query;
use http::{Method, StatusCode, Uri};
use serde::Deserialize;
use serde_json::{Value, json};
use weft_identity::TrustDomain;
use weft_identity::revocation::Reason;
use weft_store::{Store, StoreError};

use super::status::Status;
use crate::clock;
use crate::inventory::revoke::{RevokeError, Subject, revoke};
use crate::inventory::{Certificate, Revocation, barred, certificates, revoked};

/// What is asked, and by whom.
pub(crate) struct Asked<'a> {
    pub(crate) store: &'a dyn Store,
    pub(crate) trust_domain: &'a str,
    pub(crate) who: &'a str,
    pub(crate) method: &'a Method,
    pub(crate) uri: &'a Uri,
}

/// Of the list.
#[derive(Debug, Default, Deserialize)]
struct Wanted {
    /// A serial number or a SPIFFE id.
    of: Option<String>,
}

/// Of a revocation.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wish {
    /// A serial number or a SPIFFE id.
    of: String,
    #[serde(default)]
    reason: Option<String>,
}

/// The answer, and what the audit log says it was about.
pub(crate) async fn answer(
    asked: Asked<'_>,
    segments: &[&str],
    body: impl Future<Output = Result<Value, Status>>,
) -> (String, Result<(StatusCode, Value), Status>) {
    let now = SystemTime::now();
    let path = format!("/{}", segments.join("/"));
    match (asked.method.as_str(), segments) {
        ("GET" | "HEAD", ["identity", "v1", "certificates"]) => {
            (path, list(&asked, now).await.map(|all| (StatusCode::OK, all)))
        }
        ("POST", ["identity", "v1", "revocations"]) => {
            let wish = body.await.and_then(|body| {
                serde_json::from_value::<Wish>(body)
                    .map_err(|error| Status::bad_request(format!("nothing can be revoked by this: {error}")))
            });
            match wish {
                Ok(wish) => {
                    let object = format!("certificates of {}", wish.of);
                    (object, take_back(&asked, &wish, now).await.map(|done| (StatusCode::OK, done)))
                }
                Err(status) => (path, Err(status)),
            }
        }
        (_, ["identity", "v1", "certificates" | "revocations"]) => (path, Err(Status::method_not_allowed())),
        _ => (path, Err(Status::no_such_path())),
    }
}

async fn list(asked: &Asked<'_>, now: SystemTime) -> Result<Value, Status> {
    let wanted = Query::<Wanted>::try_from_uri(asked.uri)
        .map_err(|error| Status::bad_request(format!("the query of the URL can't be read: {error}")))?
        .0;
    let subject = wanted.of.map(|text| parse(asked, &text)).transpose()?;
    let failed = |error: StoreError| Status::store(&error);
    let revocations = revoked(asked.store, now).await.map_err(failed)?;
    let mut all = certificates(asked.store, now).await.map_err(failed)?;
    let mut barred = barred(asked.store).await.map_err(failed)?;
    if let Some(subject) = &subject {
        all.retain(|certificate| subject.is(certificate));
        barred.retain(|one| matches!(subject, Subject::Id(id) if id.as_str() == one.of));
        if all.is_empty() && barred.is_empty() {
            return Err(Status::missing(&match subject {
                Subject::Serial(serial) => RevokeError::UnknownSerial(serial.clone()).to_string(),
                Subject::Id(id) => {
                    format!("{id} has no certificate that is valid now: `weft identity list` shows who has")
                }
            }));
        }
    }
    all.sort_by(|one, other| {
        (&one.id, one.issued, &one.serial).cmp(&(&other.id, other.issued, &other.serial))
    });
    let shown: Vec<Value> = all.iter().map(|one| shown(one, revocations.get(&one.serial))).collect();
    Ok(json!({
        "certificates": shown,
        "barred": barred.iter().map(|one| json!({"id": one.of, "revoked": taken_back(one)})).collect::<Vec<_>>(),
    }))
}

fn shown(certificate: &Certificate, revocation: Option<&Revocation>) -> Value {
    json!({
        "serial": certificate.serial,
        "id": certificate.id,
        "issuer": certificate.issuer,
        "not_before": rfc3339(certificate.not_before),
        "not_after": rfc3339(certificate.not_after),
        "issued": rfc3339(certificate.issued),
        "evidence": certificate.evidence,
        "from": certificate.from,
        "revoked": revocation.map(taken_back),
    })
}

fn taken_back(revocation: &Revocation) -> Value {
    json!({"at": rfc3339(revocation.at), "reason": revocation.reason, "by": revocation.by})
}

fn rfc3339(unix: u64) -> String {
    let at = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(unix));
    at.map_or_else(String::new, clock::rfc3339)
}

async fn take_back(asked: &Asked<'_>, wish: &Wish, now: SystemTime) -> Result<Value, Status> {
    let reason = match &wish.reason {
        None => Reason::Unspecified,
        Some(name) => Reason::find(name).ok_or_else(|| {
            let known = Reason::ALL.map(Reason::name).join(", ");
            Status::bad_request(format!("reason {name:?}: choose from {known}"))
        })?,
    };
    let subject = parse(asked, &wish.of)?;
    let done =
        revoke(asked.store, &subject, reason, asked.who, now).await.map_err(|error| refusal(&error))?;
    Ok(json!({
        "id": done.id,
        "revoked": done.revoked,
        "already": done.already,
        "barred": matches!(subject, Subject::Id(_)),
        "tokens": done.tokens,
    }))
}

fn parse(asked: &Asked<'_>, text: &str) -> Result<Subject, Status> {
    let trust_domain = TrustDomain::new(asked.trust_domain)
        .map_err(|error| Status::internal(format!("the trust domain: {error}")))?;
    Subject::parse(text, &trust_domain).map_err(|error| refusal(&error))
}

fn refusal(error: &RevokeError) -> Status {
    match error {
        RevokeError::Read(error) => Status::store(error),
        RevokeError::Write(error) => Status::commit(error),
        RevokeError::UnknownSerial(_) | RevokeError::UnknownId(_) => Status::missing(&error.to_string()),
        RevokeError::Subject(..) | RevokeError::Control(_) | RevokeError::TooMany { .. } => {
            Status::bad_request(error.to_string())
        }
    }
}
