//! The sums answer what a walk over all endpoints answers, whatever changed before.

use std::ops::Range;
use std::sync::Arc;

use super::super::{Balancer, Pick, Roster, Situation, Standing, mix, stride};
use super::{WELL, listed};
use crate::types::{BalancePolicy, Endpoint, Endpoints, Health};

/// The same choice, with each endpoint looked at for each pick.
#[derive(Default)]
struct Walker {
    cursor: u64,
}

type Allowed<'a> = &'a dyn Fn(usize) -> bool;

impl Walker {
    fn pick(
        &mut self,
        policy: BalancePolicy,
        endpoints: &Endpoints,
        standings: &[Standing],
        situation: &Situation<'_>,
        random: u64,
    ) -> Option<Pick> {
        let is = |index: usize, test: &dyn Fn(&Endpoint) -> bool| test(&endpoints.all[index]);
        let counted =
            |at: usize| is(at, &|endpoint| endpoint.health != Health::Draining && endpoint.weight > 0);
        let usable = |at: usize| {
            is(at, &|endpoint| endpoint.health.usable() && endpoint.weight > 0) && standings[at].healthy
        };
        let calm = |at: usize| standings[at].calm;
        let mut fallback = None;
        for range in &endpoints.priorities {
            let total = range.clone().filter(|at| counted(*at)).count();
            let good = range.clone().filter(|at| usable(*at)).count();
            if total == 0 {
                continue;
            }
            if good > 0 && good as f64 * 100.0 / total as f64 >= situation.panic_threshold_percent {
                let index = self.among(policy, endpoints, range, (&usable, &calm), situation, random)?;
                return Some(Pick { index, panic: false });
            }
            fallback.get_or_insert(range);
        }
        let range = fallback?;
        if situation.panic_threshold_percent <= 0.0 {
            return None;
        }
        let index = self.among(policy, endpoints, range, (&counted, &calm), situation, random)?;
        Some(Pick { index, panic: true })
    }

    fn among(
        &mut self,
        policy: BalancePolicy,
        endpoints: &Endpoints,
        range: &Range<usize>,
        (may, calm): (Allowed<'_>, Allowed<'_>),
        situation: &Situation<'_>,
        random: u64,
    ) -> Option<usize> {
        let fresh = |at: usize| may(at) && !situation.tried.contains(&at);
        let best = |at: usize| fresh(at) && calm(at);
        let line = |allowed: Allowed<'_>| -> Vec<usize> {
            let repeated = |at: usize| std::iter::repeat_n(at, endpoints.all[at].weight as usize);
            range.clone().filter(|at| allowed(*at)).flat_map(repeated).collect()
        };
        let line = [&best as Allowed<'_>, &fresh, may].map(line).into_iter().find(|line| !line.is_empty())?;
        let at = |point: u64| line[(point % line.len() as u64) as usize];
        match policy {
            BalancePolicy::RoundRobin => {
                let picked = at(self.cursor);
                self.cursor += stride(line.len() as u64);
                Some(picked)
            }
            BalancePolicy::Random | BalancePolicy::ClusterProvided => Some(at(random)),
            BalancePolicy::LeastRequest { choices } => {
                let randoms = std::iter::successors(Some(random), |random| Some(mix(*random)));
                let places = randoms.take(choices.clamp(1, 16) as usize).map(at);
                places.min_by_key(|at| (situation.active)(*at)) // the first of equals, as it should be
            }
        }
    }
}

#[test]
fn any_list_in_any_state_gives_the_pick_of_a_walk() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let healths = [Health::Unknown, Health::Healthy, Health::Unhealthy, Health::Draining, Health::Degraded];
    let policies =
        [BalancePolicy::RoundRobin, BalancePolicy::Random, BalancePolicy::LeastRequest { choices: 3 }];
    let (mut picks, mut panics, mut nothing) = (0, 0, 0);
    for _ in 0..2_000 {
        let mut priority = || -> Vec<(u32, Health)> {
            let ill = random.bool();
            let heavy = random.bool();
            let member = |random: &mut fastrand::Rng| {
                let health = if ill { random.choice(healths).unwrap_or_default() } else { Health::Healthy };
                (if heavy { random.u32(..5) } else { 1 }, health)
            };
            (0..random.usize(..20)).map(|_| member(&mut random)).collect()
        };
        let priorities = [priority(), priority(), priority()];
        let priorities: Vec<&[(u32, Health)]> = priorities.iter().map(Vec::as_slice).collect();
        let endpoints = Arc::new(listed(&priorities[..random.usize(..=3)]));
        let count = endpoints.all.len();
        let mut standings = vec![WELL; count];
        let mut roster = Roster::new(Arc::clone(&endpoints), |_| WELL);
        let (mut balancer, mut walker) = (Balancer::default(), Walker::default());
        let (policy, threshold) = (policies[random.usize(..3)], [0.0, 50.0, 100.0][random.usize(..3)]);
        for step in 0..30 {
            if count > 0 && random.bool() {
                let at = random.usize(..count);
                standings[at] = Standing { healthy: random.bool(), calm: random.bool() };
                roster.set(at, standings[at]);
            }
            if step == 15 {
                // Made anew of the same, as after a new list.
                roster = Roster::new(Arc::clone(&endpoints), |at| standings[at]);
            }
            let tried: Vec<usize> = (0..random.usize(..4)).map(|_| random.usize(..count + 1)).collect();
            let loads: Vec<u32> = (0..count).map(|_| random.u32(..4)).collect();
            let situation =
                Situation { active: &|at| loads[at], tried: &tried, panic_threshold_percent: threshold };
            let number = random.u64(..);
            let pick = balancer.pick(policy, &roster, &situation, number);
            let walked = walker.pick(policy, &endpoints, &standings, &situation, number);
            assert_eq!(pick, walked, "seed {seed}: {policy:?} {endpoints:#?} {standings:?} {tried:?}");
            match pick {
                None => nothing += 1,
                Some(Pick { panic: true, .. }) => panics += 1,
                Some(_) => picks += 1,
            }
        }
    }
    assert!(picks > 10_000 && panics > 1_000 && nothing > 1_000, "{picks}, {panics}, {nothing}");
}
