//! What is kept from event to event is what a look at each endpoint would find.

use std::time::Duration;

use weft_routing::{Address, Endpoint, Health, OutlierDetection};

use super::*;
use crate::upstream::outlier::Memory;

fn settings() -> OutlierDetection {
    OutlierDetection {
        consecutive_5xx: 3,
        consecutive_gateway_failure: 0,
        consecutive_local_origin_failure: 0,
        split_local_origin: false,
        interval: Duration::from_secs(10),
        base_ejection: Duration::from_millis(300),
        max_ejection: Duration::from_secs(1),
        max_ejection_percent: 50,
        enforcing_consecutive_5xx_percent: 100,
        enforcing_consecutive_gateway_failure_percent: 0,
    }
}

fn endpoint(at: usize) -> Arc<Endpoint> {
    Arc::new(Endpoint {
        address: Address::Ip(SocketAddr::from(([127, 0, 0, 1], 1000 + at as u16 / 2))), // each address twice
        hostname: None,
        weight: 1 + at as u32 % 3,
        health: Health::Healthy,
        priority: 0,
        locality: None,
        health_check_port: None,
        labels: Vec::new(),
    })
}

fn members(count: usize) -> Members {
    let all: Vec<Arc<Endpoint>> = (0..count).map(endpoint).collect();
    let states = all
        .iter()
        .enumerate()
        .map(|(at, endpoint)| match endpoint.address {
            Address::Ip(address) if at % 7 != 6 => {
                Some(Rc::new(EndpointState::new(Arc::clone(endpoint), address)))
            }
            _ => None, // a name that is not resolved
        })
        .collect();
    let endpoints =
        Endpoints { priorities: std::iter::once(0..count).collect(), all, ..Endpoints::default() };
    Members::new(Arc::new(endpoints), states)
}

#[test]
fn any_course_of_events_leaves_the_roster_of_a_fresh_look() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let (mut away, mut looks) = (0, 0);
    for _ in 0..200 {
        let mut kept = members(random.usize(1..40));
        let states = Rc::clone(kept.states());
        let mut now = Instant::now();
        for _ in 0..200 {
            now += Duration::from_millis(random.u64(..200));
            kept.settle_at(now);
            if let Some(state) = &states[random.usize(..states.len())] {
                match random.u8(..5) {
                    0 => state.memory.eject(&settings(), now),
                    1 => drop(state.quarantine.refuse(now)),
                    2 => drop(state.quarantine.probe(|| now)),
                    3 => drop(state.quarantine.reached()),
                    _ => state.healthy.set(random.bool()),
                }
                kept.refresh(state, now);
            }
            let fresh = Roster::new(Arc::clone(kept.endpoints()), |at| match &states[at] {
                Some(state) => standing(state, now),
                None => Standing { healthy: false, calm: true },
            });
            assert_eq!(kept.roster, fresh, "seed {seed}");
            let ejected = |memory: &Memory| memory.is_ejected(|| now);
            let ejected = states.iter().flatten().filter(|state| ejected(&state.memory)).count();
            assert_eq!(kept.ejected(), ejected, "seed {seed}");
            away += usize::from(!kept.ends.is_empty());
            looks += 1;
        }
        // A short quarantine in a long ejection leaves the latter's end there twice; all are gone when it is over.
        assert!(kept.ends.len() <= 64 * states.len(), "seed {seed}: {} ends", kept.ends.len());
        let far = now + Duration::from_secs(60);
        kept.settle_at(far);
        assert!(kept.ends.is_empty() && kept.ejected() == 0, "seed {seed}: all ends come");
    }
    assert!(away > looks / 2, "{away} of {looks}");
}

#[test]
fn addresses_find_all_that_have_them() {
    let members = members(40);
    for at in 0..40 {
        let found = members.places(SocketAddr::from(([127, 0, 0, 1], 1000 + at as u16 / 2)));
        let states = members.states();
        let wanted: Vec<usize> = [at & !1, at | 1].into_iter().filter(|at| states[*at].is_some()).collect();
        assert_eq!(found.collect::<Vec<_>>(), wanted);
    }
    assert_eq!(members.at(SocketAddr::from(([127, 0, 0, 2], 1000))).len(), 0);
}
