//! Which endpoint is picked.

use std::sync::Arc;

use super::{Balancer, Pick, Roster, Situation, Standing};
use crate::types::{Address, BalancePolicy, Endpoint, Endpoints, Health};

mod walk;

const WELL: Standing = Standing { healthy: true, calm: true };

/// Per priority: (weight, health) of its endpoints.
fn endpoints(priorities: &[&[(u32, Health)]]) -> Roster {
    Roster::new(Arc::new(listed(priorities)), |_| WELL)
}

fn listed(priorities: &[&[(u32, Health)]]) -> Endpoints {
    let mut found = Endpoints::default();
    for (priority, members) in (0u32..).zip(priorities) {
        let start = found.all.len();
        for (weight, health) in *members {
            found.all.push(Arc::new(Endpoint {
                address: Address::Pipe("x".into()),
                hostname: None,
                weight: *weight,
                health: *health,
                priority,
                locality: None,
                health_check_port: None,
                labels: Vec::new(),
            }));
        }
        found.priorities.push(start..found.all.len());
    }
    found
}

fn calm<'a>() -> Situation<'a> {
    Situation { active: &|_| 0, tried: &[], panic_threshold_percent: 50.0 }
}

fn counts(policy: BalancePolicy, roster: &Roster, situation: &Situation<'_>, picks: u64) -> Vec<usize> {
    let mut balancer = Balancer::default();
    let mut counts = vec![0; roster.endpoints().all.len()];
    for round in 0..picks {
        if let Some(pick) = balancer.pick(policy, roster, situation, super::mix(round)) {
            counts[pick.index] += 1;
        }
    }
    counts
}

const UP: (u32, Health) = (1, Health::Healthy);
const DOWN: (u32, Health) = (1, Health::Unhealthy);
const LEAVING: (u32, Health) = (1, Health::Draining);

#[test]
fn round_robin_is_exact() {
    assert_eq!(
        counts(BalancePolicy::RoundRobin, &endpoints(&[&[UP, UP, UP]]), &calm(), 300),
        [100, 100, 100]
    );
    let weighted = endpoints(&[&[(1, Health::Healthy), (3, Health::Healthy)]]);
    assert_eq!(counts(BalancePolicy::RoundRobin, &weighted, &calm(), 400), [100, 300]);
}

#[test]
fn heavy_endpoints_do_not_take_all_their_turns_in_a_row() {
    let mut balancer = Balancer::default();
    let weighted = endpoints(&[&[(10, Health::Healthy), (10, Health::Healthy)]]);
    let picks: Vec<usize> = (0..20)
        .filter_map(|_| balancer.pick(BalancePolicy::RoundRobin, &weighted, &calm(), 0))
        .map(|pick| pick.index)
        .collect();
    let longest = picks.chunk_by(|a, b| a == b).map(<[usize]>::len).max();
    assert!(longest <= Some(3), "{picks:?}");
}

#[test]
fn random_follows_weights() {
    let found = counts(
        BalancePolicy::Random,
        &endpoints(&[&[(1, Health::Healthy), (9, Health::Healthy)]]),
        &calm(),
        10_000,
    );
    assert!((800..1200).contains(&found[0]), "{found:?}");
}

#[test]
fn least_request_avoids_the_busy_one() {
    let situation = Situation { active: &|index| if index == 0 { 100 } else { 1 }, ..calm() };
    let found =
        counts(BalancePolicy::LeastRequest { choices: 2 }, &endpoints(&[&[UP, UP, UP]]), &situation, 3000);
    // Only when both choices fall on it: 1 in 9.
    assert!(found[0] < 450, "{found:?}");
}

#[test]
fn unhealthy_draining_and_ejected_endpoints_get_nothing() {
    let mut members = endpoints(&[&[UP, DOWN, UP, LEAVING, UP]]);
    let found = counts(BalancePolicy::RoundRobin, &members, &calm(), 300);
    assert_eq!((found[1], found[3]), (0, 0));
    members.set(0, Standing { healthy: false, calm: true });
    let found = counts(BalancePolicy::Random, &members, &calm(), 300);
    assert_eq!((found[0], found[1], found[3]), (0, 0, 0));
}

#[test]
fn too_few_healthy_means_all_but_the_leaving() {
    let members = endpoints(&[&[UP, DOWN, DOWN, LEAVING]]);
    let mut balancer = Balancer::default();
    let pick = balancer.pick(BalancePolicy::RoundRobin, &members, &calm(), 0);
    assert!(matches!(pick, Some(Pick { panic: true, .. })), "{pick:?}");
    let found = counts(BalancePolicy::RoundRobin, &members, &calm(), 300);
    assert_eq!(found, [100, 100, 100, 0]);
}

#[test]
fn without_panic_an_unhealthy_cluster_has_no_endpoint() {
    let members = endpoints(&[&[DOWN, DOWN]]);
    let strict = Situation { panic_threshold_percent: 0.0, ..calm() };
    assert_eq!(Balancer::default().pick(BalancePolicy::Random, &members, &strict, 1), None);
    let one = endpoints(&[&[UP, DOWN, DOWN]]);
    assert_eq!(counts(BalancePolicy::Random, &one, &strict, 10), [10, 0, 0]);
}

#[test]
fn the_next_priority_takes_over() {
    let members = endpoints(&[&[DOWN, DOWN], &[UP, UP]]);
    assert_eq!(counts(BalancePolicy::RoundRobin, &members, &calm(), 10), [0, 0, 5, 5]);
    let first = endpoints(&[&[UP, UP], &[UP, UP]]);
    assert_eq!(counts(BalancePolicy::RoundRobin, &first, &calm(), 10), [5, 5, 0, 0]);
    let empty = endpoints(&[&[], &[UP]]);
    assert_eq!(counts(BalancePolicy::RoundRobin, &empty, &calm(), 10), [10]);
}

#[test]
fn tried_endpoints_come_last() {
    let members = endpoints(&[&[UP, UP]]);
    let situation = Situation { tried: &[0], ..calm() };
    assert_eq!(counts(BalancePolicy::Random, &members, &situation, 10), [0, 10]);
    let all = Situation { tried: &[0, 1], ..calm() };
    assert_eq!(counts(BalancePolicy::RoundRobin, &members, &all, 10), [5, 5]);
}

#[test]
fn those_that_refused_come_after_the_others_and_before_the_tried() {
    let mut members = endpoints(&[&[UP, UP, UP]]);
    members.set(1, Standing { healthy: true, calm: false });
    let found =
        |tried: &[usize]| counts(BalancePolicy::RoundRobin, &members, &Situation { tried, ..calm() }, 12);
    assert_eq!(found(&[]), [6, 0, 6]);
    assert_eq!(found(&[0]), [0, 0, 12]);
    assert_eq!(found(&[2, 0]), [0, 12, 0]);
    assert_eq!(found(&[1, 0, 2]), [4, 4, 4]);
}

#[test]
fn no_endpoints_no_pick() {
    for policy in
        [BalancePolicy::RoundRobin, BalancePolicy::Random, BalancePolicy::LeastRequest { choices: 2 }]
    {
        assert_eq!(Balancer::default().pick(policy, &Roster::default(), &calm(), 1), None);
        assert_eq!(Balancer::default().pick(policy, &endpoints(&[&[LEAVING]]), &calm(), 1), None);
    }
}
