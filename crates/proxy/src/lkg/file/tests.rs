//! What is believed, and what is not (F-CP-04, F-ST-04, Z22).

use std::os::unix::fs::PermissionsExt as _;

use super::*;
use crate::lkg::{CURRENT, Keeper, PREVIOUS};

const WEEK: Duration = Duration::from_secs(7 * 86_400);

fn key(seed: u8) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, &[seed; 64])
}

fn owner(service: &str) -> Owner {
    Owner {
        identity: format!("spiffe://mesh.internal/ns/default/sa/{service}"),
        node: format!("default/{service}-1"),
    }
}

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds)
}

fn kept(resources: usize) -> Kept {
    let resource = |n: usize| {
        let body =
            Any { type_url: weft_xds::CDS.to_owned(), value: vec![u8::try_from(n % 251).unwrap(); 40] };
        Arc::new(Resource::received(format!("cluster-{n:04}"), Some(n.to_string()), body))
    };
    Kept {
        good: Good {
            confirmed: at(1_000_000),
            versions: BTreeMap::from([("CDS".to_owned(), "7".to_owned())]),
            resources: (0..resources).map(resource).collect(),
        },
        places: Places { outbound: Some("127.0.0.1:15001".parse().unwrap()), inbound: None },
    }
}

fn reopen(bytes: &[u8]) -> Result<Kept, Refused> {
    open(&key(1), &owner("be"), bytes, at(1_000_100), WEEK)
}

fn scratch() -> std::path::PathBuf {
    let dir = std::env::temp_dir().join(format!("weft-lkg-{:x}", fastrand::u64(..)));
    fs::create_dir_all(&dir).unwrap();
    dir
}

#[test]
fn what_was_sealed_comes_back() {
    for resources in [0, 1, 200] {
        assert_eq!(reopen(&seal(&key(1), &owner("be"), &kept(resources))).unwrap(), kept(resources));
    }
}

/// F-CP-04: no flipped bit anywhere in the file is overlooked.
#[test]
fn every_flipped_byte_is_refused() {
    let good = seal(&key(1), &owner("be"), &kept(20));
    reopen(&good).unwrap();
    for offset in 0..good.len() {
        let mut bad = good.clone();
        bad[offset] ^= 1 << (offset % 8);
        let refused = reopen(&bad).expect_err(&format!("byte {offset} flipped"));
        let named = match offset {
            0..8 => matches!(refused, Refused::Shape),
            8..12 => matches!(refused, Refused::Newer { .. } | Refused::Mac),
            _ => matches!(refused, Refused::Mac),
        };
        assert!(named, "byte {offset}: {refused}");
    }
}

/// F-CP-04: nor any cut, at each 4 KiB boundary and 200 places by chance; nor bytes added.
#[test]
fn every_truncation_is_refused() {
    let good = seal(&key(1), &owner("be"), &kept(500));
    assert!(good.len() > 5 * 4096, "{} bytes", good.len());
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let mut cuts: Vec<usize> = (0..good.len()).step_by(4096).collect();
    cuts.extend((0..60).chain(std::iter::repeat_with(|| random.usize(..good.len())).take(200)));
    for cut in cuts {
        reopen(&good[..cut]).expect_err(&format!("cut at {cut}"));
    }
    let mut longer = good;
    longer.push(0);
    assert!(matches!(reopen(&longer), Err(Refused::Mac)));
}

/// F-CP-04: bound to one identity, one workload and one key.
#[test]
fn anothers_file_is_refused() {
    let others_key = seal(&key(2), &owner("be"), &kept(3));
    assert!(matches!(reopen(&others_key), Err(Refused::Mac)));
    // Somebody who has the key too, such as a state directory that was given to another service.
    let other_service = seal(&key(1), &owner("fe"), &kept(3));
    assert!(matches!(reopen(&other_service), Err(Refused::Owner { .. })));
    let second = Owner { node: "default/be-2".to_owned(), ..owner("be") };
    assert!(matches!(reopen(&seal(&key(1), &second, &kept(3))), Err(Refused::Owner { .. })));
}

/// F-CP-04: older than allowed.
#[test]
fn age_is_bounded() {
    let good = seal(&key(1), &owner("be"), &kept(1));
    let opened = |now| open(&key(1), &owner("be"), &good, now, WEEK);
    opened(at(1_000_000) + WEEK).unwrap();
    assert!(matches!(opened(at(1_000_001) + WEEK), Err(Refused::Old { .. })));
    opened(at(5)).unwrap(); // a clock that was set back
}

#[test]
fn newer_format_names_what_helps() {
    let mut bytes = seal(&key(1), &owner("be"), &kept(1));
    bytes[8..12].copy_from_slice(&(FORMAT + 1).to_be_bytes());
    let refused = reopen(&bytes).unwrap_err();
    assert!(refused.to_string().contains("start the newer weft"), "{refused}");
}

/// F-CP-04: a file that others may touch, a link, a directory.
#[test]
fn files_that_are_not_ours_alone_are_refused() {
    let dir = scratch();
    let path = dir.join("file");
    replace(&dir, b"x", true).unwrap();
    fs::rename(dir.join(CURRENT), &path).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    read(&path).unwrap();
    for mode in [0o666, 0o640, 0o604, 0o602] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        assert!(matches!(read(&path), Err(Refused::Mode { .. })), "mode {mode:o}");
    }
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    std::os::unix::fs::symlink(&path, dir.join("link")).unwrap();
    read(&dir.join("link")).unwrap_err();
    assert!(matches!(read(&dir), Err(Refused::Size)));
    fs::remove_dir_all(&dir).unwrap();
}

/// Two generations; a damaged one gives way to the one before, both damaged to none.
#[test]
fn previous_generation_takes_over() {
    let state = scratch();
    let keeper = Keeper::open(&state, owner("be")).unwrap();
    let dir = state.join("lkg");
    let now = at(1_000_100);
    let sealed = |resources| seal(&keeper.key, &owner("be"), &kept(resources));
    let loaded = |keeper: &Keeper| {
        let (found, refused) = keeper.load(now, WEEK);
        (found.iter().map(|kept| kept.good.resources.len()).collect::<Vec<_>>(), refused)
    };
    assert_eq!(loaded(&keeper), (vec![], 0));
    replace(&dir, &sealed(1), true).unwrap();
    replace(&dir, &sealed(2), true).unwrap();
    replace(&dir, &sealed(3), true).unwrap();
    assert_eq!(loaded(&keeper), (vec![3, 2], 0));
    // The age was renewed: the generation before stays.
    replace(&dir, &sealed(3), false).unwrap();
    assert_eq!(loaded(&keeper), (vec![3, 2], 0));
    // The same proxy, started again.
    assert_eq!(loaded(&Keeper::open(&state, owner("be")).unwrap()), (vec![3, 2], 0));
    fs::OpenOptions::new().write(true).open(dir.join(CURRENT)).unwrap().set_len(100).unwrap();
    assert_eq!(loaded(&keeper), (vec![2], 1));
    fs::set_permissions(dir.join(PREVIOUS), fs::Permissions::from_mode(0o666)).unwrap();
    assert_eq!(loaded(&keeper), (vec![], 2));
    fs::set_permissions(dir.join(PREVIOUS), fs::Permissions::from_mode(0o600)).unwrap();
    // F-ID-06: with the identity its key is gone, and what that key vouched for.
    fs::remove_dir_all(state.join("identity")).unwrap();
    assert_eq!(loaded(&Keeper::open(&state, owner("be")).unwrap()), (vec![], 2));
    assert_eq!(fs::metadata(state.join("identity/lkg.key")).unwrap().mode() & 0o777, 0o600);
    assert_eq!(fs::metadata(state.join("identity")).unwrap().mode() & 0o777, 0o700);
    fs::remove_dir_all(&state).unwrap();
}

/// F-ST-04: a write that fails changes nothing, and the next one that may succeeds.
#[test]
fn failed_write_keeps_the_old_file() {
    let dir = scratch();
    replace(&dir, b"old", true).unwrap();
    // Cannot be removed as a file: the temporary one cannot be made, for root neither.
    fs::create_dir(dir.join("next")).unwrap();
    replace(&dir, b"new", true).unwrap_err();
    assert_eq!(fs::read(dir.join(CURRENT)).unwrap(), b"old");
    assert!(!dir.join(PREVIOUS).exists());
    fs::remove_dir(dir.join("next")).unwrap();
    replace(&dir, b"new", true).unwrap();
    assert_eq!(fs::read(dir.join(CURRENT)).unwrap(), b"new");
    assert_eq!(fs::read(dir.join(PREVIOUS)).unwrap(), b"old");
    fs::remove_dir_all(&dir).unwrap();
}
