//! From a write to a snapshot, over a real store.

use serde_json::json;
use std::time::SystemTime;
use weft_model::Kind;

use super::*;
use crate::seed;

async fn follow(store: Arc<dyn Store>) -> watch::Receiver<Arc<Snapshot>> {
    let (sender, mut receiver) = watch::channel(Arc::new(Snapshot::default()));
    tokio::spawn(run(store, World::new("mesh.internal", "mesh.internal"), sender));
    receiver.changed().await.unwrap();
    receiver
}

fn service(name: &str) -> Transaction {
    let spec = json!({"ports": [{"port": 80}]});
    let object = seed::object(Kind::Service, "default", name, spec, SystemTime::now());
    Transaction::create(seed::key(Kind::Service, "default", name), object.to_string().into_bytes())
}

#[tokio::test]
async fn writes_become_few_snapshots_soon_and_addresses_are_noted_in_the_store() {
    let dir = tempfile::tempdir().unwrap();
    let store = weft_store::open(dir.path().join("store.redb").to_str().unwrap()).unwrap();
    let mut snapshots = follow(store.clone()).await;
    let began = Instant::now();
    for i in 0..20 {
        store.commit(service(&format!("s{i:02}"))).await.unwrap();
    }
    let mut seen = 0;
    while snapshots.borrow_and_update().services.len() < 20 {
        timeout(Duration::from_secs(5), snapshots.changed()).await.unwrap().unwrap();
        seen += 1;
    }
    // Commits wait for the disk, so how many snapshots it takes is the disk's matter; never one each.
    assert!(seen <= 20 && began.elapsed() < Duration::from_secs(5), "{seen} in {:?}", began.elapsed());
    let key = seed::key(Kind::Service, "default", "s00");
    for _ in 0..500 {
        let stored = store.get(&key).await.unwrap().unwrap();
        let object: serde_json::Value = serde_json::from_slice(&stored.value).unwrap();
        if let Some(vip) = object["metadata"]["annotations"][vip::ANNOTATION].as_str() {
            let known = snapshots.borrow().services.values().next().unwrap().vip;
            assert_eq!(known.map(|vip| vip.to_string()).as_deref(), Some(vip));
            return;
        }
        sleep(Duration::from_millis(10)).await;
    }
    unreachable!("no address was noted");
}
