use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::future::BoxFuture;
use weft_identity::revocation::REVOKED_MAX;
use weft_identity::{PrivateKey, TrustDomain};
use weft_store::embedded::Embedded;
use weft_store::{Revision, Stored, Watch};

use super::revoke::{Subject, revoke};
use super::*;

const MINUTE: Duration = Duration::from_secs(60);

fn store(dir: &Path) -> Embedded {
    Embedded::open(&dir.join("store.redb")).unwrap()
}

fn id(service: &str) -> SpiffeId {
    SpiffeId::service(&TrustDomain::default(), "default", service).unwrap()
}

fn certificate(serial: &str, service: &str, not_after: SystemTime) -> Certificate {
    Certificate {
        serial: serial.to_owned(),
        id: id(service).to_string(),
        issuer: "4a".to_owned(),
        not_before: 0,
        not_after: clock::unix(not_after),
        issued: 0,
        evidence: Evidence::Renewal,
        from: None,
    }
}

async fn put(store: &dyn Store, certificate: &Certificate) {
    let writes = vec![certificate.write()];
    store.commit(Transaction { expect: Vec::new(), writes }).await.unwrap();
}

async fn keys(store: &dyn Store, kind: &str) -> Vec<String> {
    let (found, _) = store.list(&Selector::kind(INTERNAL_GROUP, kind)).await.unwrap();
    found.into_iter().map(|stored| stored.key.name).collect()
}

#[tokio::test]
async fn what_has_expired_leaves_the_records_and_the_list() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path());
    let now = SystemTime::now();
    for (serial, service, life) in
        [("4a01", "fe", MINUTE), ("4a02", "fe", 60 * MINUTE), ("4a03", "be", MINUTE)]
    {
        put(&store, &certificate(serial, service, now + life)).await;
    }
    let done = revoke(&store, &Subject::Id(id("fe")), Reason::Superseded, "ana", now).await.unwrap();
    assert_eq!(done.revoked, ["4a01", "4a02"]);
    // A peer whose clock is behind may still believe it.
    let later = now + 2 * MINUTE;
    sweep(&store, later).await.unwrap();
    assert_eq!(keys(&store, CERTIFICATES).await, ["4a02"]);
    assert_eq!(keys(&store, REVOKED).await, ["4a01", "4a02"]);
    let later = now + 15 * MINUTE;
    let revoked = revoked(&store, later).await.unwrap();
    assert_eq!(revoked.keys().collect::<Vec<_>>(), ["4a02"], "also before it is swept");
    assert_eq!((revoked["4a02"].by.as_str(), revoked["4a02"].reason), ("ana", Reason::Superseded));
    sweep(&store, later).await.unwrap();
    assert_eq!(keys(&store, REVOKED).await, ["4a02"]);
    // Whoever is to join anew stays so.
    sweep(&store, now + 1000 * MINUTE).await.unwrap();
    assert_eq!((keys(&store, REVOKED).await.len(), barred(&store).await.unwrap().len()), (0, 1));
}

#[tokio::test]
async fn a_damaged_record_is_removed_and_stops_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path());
    let now = SystemTime::now();
    store.commit(Transaction::put(certificate_key("4a01"), b"{".to_vec())).await.unwrap();
    put(&store, &certificate("4a02", "fe", now + MINUTE)).await;
    assert_eq!(certificates(&store, now).await.unwrap().len(), 1);
    sweep(&store, now).await.unwrap();
    assert_eq!(keys(&store, CERTIFICATES).await, ["4a02"]);
}

#[tokio::test]
async fn a_record_that_had_to_wait_is_written_and_taken_back_if_its_identity_was() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path());
    let now = SystemTime::now();
    put(&store, &certificate("4a01", "fe", now + MINUTE)).await;
    let waiting = Waiting::default();
    for service in ["fe", "be"] {
        waiting.keep(certificate(&format!("4a{service}"), service, now + MINUTE));
    }
    revoke(&store, &Subject::Id(id("fe")), Reason::KeyCompromise, "ana", now).await.unwrap();
    waiting.flush(&store).await;
    assert_eq!(keys(&store, CERTIFICATES).await, ["4a01", "4abe", "4afe"]);
    assert_eq!(keys(&store, REVOKED).await, ["4a01", "4afe"]);
    assert!(waiting.0.lock().unwrap().is_empty());
}

#[tokio::test]
async fn an_identity_is_out_also_where_the_list_has_no_room_for_all_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path());
    let now = SystemTime::now();
    let others: Vec<Write> = (1..REVOKED_MAX)
        .map(|n| {
            let of = format!("5b{n:06x}");
            let record = Revocation {
                of: of.clone(),
                id: id("be").to_string(),
                not_after: clock::unix(now + MINUTE),
                at: 0,
                reason: Reason::Superseded,
                by: "ana".to_owned(),
            };
            Write::Put(revoked_key(&of), record.bytes())
        })
        .collect();
    for part in others.chunks(WRITES_MAX) {
        store.commit(Transaction { expect: Vec::new(), writes: part.to_vec() }).await.unwrap();
    }
    for (serial, life) in [("4a01", MINUTE), ("4a02", 60 * MINUTE), ("4a03", 30 * MINUTE)] {
        put(&store, &certificate(serial, "fe", now + life)).await;
    }
    let refused =
        revoke(&store, &Subject::Id(id("fe")), Reason::KeyCompromise, "ana", now).await.unwrap_err();
    assert!(
        refused.to_string().starts_with("1 certificates are revoked now, but 2 more are not"),
        "{refused}"
    );
    let revoked = keys(&store, REVOKED).await;
    assert!(revoked.contains(&"4a02".to_owned()), "the one that would be good for longest");
    assert_eq!(revoked.len(), REVOKED_MAX);
    assert_eq!(barred(&store).await.unwrap().len(), 1, "it renews nothing all the same");
    // Two control planes may write more than a list takes; there is one still.
    put(&store, &certificate("4a04", "fe", now + 90 * MINUTE)).await;
    revoke::late(&store, &certificate("4a04", "fe", now + 90 * MINUTE)).await.unwrap();
    let authority =
        crate::authority::Authority::open(&dir.path().join("ca"), TrustDomain::default(), now).unwrap();
    follow::look(&authority, &store, now).await.unwrap();
    let bundle = authority.bundle();
    assert_eq!(bundle.crl().unwrap().len(), REVOKED_MAX);
    assert!(bundle.revokes("4a04") && bundle.revokes("4a02"));
}

#[tokio::test]
async fn a_reason_that_is_not_known_here_revokes_all_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path());
    let now = SystemTime::now();
    let record = serde_json::json!({
        "id": id("fe").to_string(), "not_after": clock::unix(now + MINUTE), "at": 0, "reason": "aa-compromise", "by": "ana"
    });
    store.commit(Transaction::put(revoked_key("4a01"), record.to_string().into_bytes())).await.unwrap();
    assert_eq!(revoked(&store, now).await.unwrap()["4a01"].reason, Reason::Unspecified);
}

#[tokio::test]
async fn nobody_gets_a_certificate_whose_condition_does_not_hold() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path());
    let now = SystemTime::now();
    put(&store, &certificate("4a01", "fe", now + MINUTE)).await;
    revoke(&store, &Subject::Serial("4a01".to_owned()), Reason::KeyCompromise, "ana", now).await.unwrap();
    let waiting = Waiting::default();
    let next = certificate("4a02", "fe", now + MINUTE);
    let refused = waiting.record(&store, vec![Expect::Absent(revoked_key("4a01"))], next.clone()).await;
    assert!(matches!(refused, Err(CommitError::Conflict { .. })), "{refused:?}");
    assert_eq!(keys(&store, CERTIFICATES).await, ["4a01"]);
    waiting.record(&store, vec![Expect::Absent(barred_key(&next.id))], next).await.unwrap();
    assert_eq!(keys(&store, CERTIFICATES).await, ["4a01", "4a02"]);
}

#[tokio::test]
async fn members_are_told_once_of_each_change() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path());
    let now = SystemTime::now();
    let authority =
        crate::authority::Authority::open(&dir.path().join("ca"), TrustDomain::default(), now).unwrap();
    let mut bundles = authority.bundles();
    follow::look(&authority, &store, now).await.unwrap();
    assert!(bundles.has_changed().unwrap() && bundles.borrow_and_update().crl().unwrap().is_empty());
    let key = PrivateKey::generate().unwrap();
    let csr = key.csr_der(&id("fe")).unwrap();
    let issued = authority.renew(&store, &csr, &id("fe"), &Asker::default(), now, MINUTE).await.unwrap();
    revoke(&store, &Subject::Id(id("fe")), Reason::KeyCompromise, "ana", now).await.unwrap();
    follow::look(&authority, &store, now).await.unwrap();
    assert!(bundles.borrow_and_update().revokes(&issued.serial_hex));
    follow::look(&authority, &store, now).await.unwrap();
    assert!(!bundles.has_changed().unwrap(), "nothing is new");
    let asker = Asker { serial: issued.serial_hex.clone(), from: None };
    let refused = authority.renew(&store, &csr, &id("fe"), &asker, now, MINUTE).await.unwrap_err();
    assert_eq!(refused.label(), "revoked");
    let other = authority.renew(&store, &csr, &id("fe"), &Asker::default(), now, MINUTE).await.unwrap_err();
    assert_eq!(other.label(), "revoked", "by whatever evidence");
    // Off the list when it is over.
    follow::look(&authority, &store, now + 20 * MINUTE).await.unwrap();
    assert!(bundles.borrow_and_update().crl().unwrap().is_empty());
}

/// A store whose disk is full for now.
struct Full {
    store: Embedded,
    is_full: AtomicBool,
}

impl Store for Full {
    fn commit(&self, transaction: Transaction) -> BoxFuture<'_, Result<Revision, CommitError>> {
        match self.is_full.load(Ordering::Relaxed) {
            true => Box::pin(async { Err(CommitError::Full(std::io::ErrorKind::StorageFull.into())) }),
            false => self.store.commit(transaction),
        }
    }

    fn get(&self, key: &Key) -> BoxFuture<'_, Result<Option<Stored>, StoreError>> {
        self.store.get(key)
    }

    fn list(&self, selector: &Selector) -> BoxFuture<'_, Result<(Vec<Stored>, Revision), StoreError>> {
        self.store.list(selector)
    }

    fn watch(&self, from: Option<Revision>, selector: Selector) -> BoxFuture<'_, Result<Watch, StoreError>> {
        self.store.watch(from, selector)
    }

    fn compact(&self, keep_after: Revision) -> BoxFuture<'_, Result<Revision, StoreError>> {
        self.store.compact(keep_after)
    }

    fn revision(&self) -> Revision {
        self.store.revision()
    }
}

#[tokio::test]
async fn members_renew_while_the_disk_is_full_and_are_recorded_later() {
    let dir = tempfile::tempdir().unwrap();
    let store = Full { store: store(dir.path()), is_full: AtomicBool::new(true) };
    let now = SystemTime::now();
    let authority =
        crate::authority::Authority::open(&dir.path().join("ca"), TrustDomain::default(), now).unwrap();
    let csr = PrivateKey::generate().unwrap().csr_der(&id("fe")).unwrap();
    let issued = authority.renew(&store, &csr, &id("fe"), &Asker::default(), now, MINUTE).await.unwrap();
    assert_eq!(certificates(&store, now).await.unwrap(), []);
    authority.waiting().flush(&store).await;
    store.is_full.store(false, Ordering::Relaxed);
    authority.waiting().flush(&store).await;
    let known = certificates(&store, now).await.unwrap();
    assert_eq!(known.len(), 1);
    assert_eq!(
        (known[0].serial.as_str(), known[0].evidence),
        (issued.serial_hex.as_str(), Evidence::Renewal)
    );
}
