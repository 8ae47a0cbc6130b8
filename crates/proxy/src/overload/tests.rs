use super::*;

#[test]
fn levels_begin_at_once_and_end_a_little_later() {
    use Level::{Drain, Normal, Refuse, Shrink};
    for (before, per_mille, after) in [
        (Normal, 849, Normal),
        (Normal, 850, Shrink),
        (Normal, 1200, Refuse),
        (Shrink, 830, Shrink),
        (Shrink, 819, Normal),
        (Shrink, 919, Shrink),
        (Shrink, 920, Drain),
        (Drain, 895, Drain),
        (Drain, 889, Shrink),
        (Refuse, 930, Refuse),
        (Refuse, 919, Drain),
        (Refuse, 885, Shrink),
        (Refuse, 10, Normal),
    ] {
        assert_eq!(before.after(per_mille), after, "{before} at {per_mille}");
    }
}

#[test]
fn each_resource_asks_for_what_helps_it() {
    for (resource, per_mille, shrinks, ends, closed, refuses) in [
        (Resource::Memory, 860, true, false, false, false),
        (Resource::Memory, 930, true, true, true, false),
        (Resource::Memory, 960, true, true, true, true),
        (Resource::Descriptors, 1000, true, true, false, false),
        (Resource::Cpu, 940, false, false, false, false),
        (Resource::Cpu, 1000, false, false, false, true),
    ] {
        let overload = Overload::new(&Limits::default(), 1);
        overload.note(resource, per_mille);
        let now = overload.actions();
        let found = (now.shrinks(), now.ends_connections(), now.closed(), now.refuses());
        assert_eq!(found, (shrinks, ends, closed, refuses), "{} at {per_mille}", resource.name());
        // Another resource that is well does not end it.
        for other in Resource::ALL.iter().filter(|other| **other != resource) {
            overload.note(*other, 0);
        }
        assert_eq!(overload.actions(), now);
        overload.note(resource, 0);
        assert_eq!(overload.actions(), Actions::default());
    }
}

#[test]
fn who_comes_while_it_is_closed_is_not_counted() {
    let overload = Overload::new(&Limits::default(), 1);
    let listener = overload.listener(([127, 0, 0, 1], 80).into());
    let source = ([127, 0, 0, 1], 9).into();
    overload.note(Resource::Memory, 930);
    assert_eq!(overload.admit(Role::Outbound, &listener, source).err(), Some(Refused::Overload));
    overload.note(Resource::Memory, 100);
    assert!(overload.admit(Role::Outbound, &listener, source).is_ok());
}

#[test]
fn a_late_beat_is_seen_once_it_is_over_and_while_it_lasts() {
    let overload = Overload::new(&Limits::default(), 2);
    assert_eq!(overload.latest(), Duration::ZERO, "nobody has begun");
    overload.beat(0);
    overload.beat(0);
    assert_eq!(overload.latest(), Duration::ZERO);
    overload.beats[1].late.fetch_max(3_000_000, Ordering::Relaxed);
    assert_eq!(overload.latest(), Duration::from_secs(3));
    assert_eq!(overload.latest(), Duration::ZERO, "told once");
}
