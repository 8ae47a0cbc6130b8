//! Which endpoint takes the next request.
//!
//! The state (a cursor) belongs to one worker and one cluster; load, health by check or ejection,
//! and random numbers come from the caller. The lowest priority number with healthy endpoints
//! counts; below the panic threshold all its endpoints are used, since then health says little.

use crate::types::{BalancePolicy, Endpoint, Endpoints};

#[cfg(test)]
mod tests;

/// One worker's state for one cluster.
#[derive(Debug, Clone, Default)]
pub struct Balancer {
    cursor: u64,
}

/// What the caller knows about the endpoints now; indices are of `Endpoints::all`.
pub struct Situation<'a> {
    /// Requests under way to an endpoint.
    pub active: &'a dyn Fn(usize) -> u32,
    /// False: it failed its health checks or is ejected. The control plane's word is added here.
    pub healthy: &'a dyn Fn(usize) -> bool,
    /// Endpoints to avoid, since they were tried; used only if no others are left.
    pub tried: &'a [usize],
    pub panic_threshold_percent: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pick {
    pub index: usize,
    /// Chosen although too few endpoints are healthy.
    pub panic: bool,
}

impl Balancer {
    /// None: there is no endpoint to try (503, flag UH).
    pub fn pick(
        &mut self,
        policy: BalancePolicy,
        endpoints: &Endpoints,
        situation: &Situation<'_>,
        random: u64,
    ) -> Option<Pick> {
        let usable = |index: usize| {
            endpoints.all.get(index).is_some_and(|endpoint| endpoint.health.usable() && endpoint.weight > 0)
                && (situation.healthy)(index)
        };
        let mut fallback = None;
        for range in &endpoints.priorities {
            let total = range.clone().filter(|index| counted(endpoints, *index)).count();
            if total == 0 {
                continue;
            }
            let good = range.clone().filter(|index| usable(*index)).count();
            #[expect(clippy::cast_precision_loss, reason = "numbers of endpoints are small")]
            let share = good as f64 * 100.0 / total as f64;
            if good > 0 && share >= situation.panic_threshold_percent {
                return self
                    .among(policy, endpoints, range.clone(), &usable, situation, random)
                    .map(|index| Pick { index, panic: false });
            }
            fallback.get_or_insert(range);
        }
        // No priority is in good health: all endpoints of the first one, but those that are leaving.
        // A threshold of 0 switches panic off: then only what is healthy, if anything is.
        let range = fallback?.clone();
        if situation.panic_threshold_percent <= 0.0 {
            return None;
        }
        self.among(policy, endpoints, range, &|index| counted(endpoints, index), situation, random)
            .map(|index| Pick { index, panic: true })
    }

    fn among(
        &mut self,
        policy: BalancePolicy,
        endpoints: &Endpoints,
        range: std::ops::Range<usize>,
        usable: &dyn Fn(usize) -> bool,
        situation: &Situation<'_>,
        random: u64,
    ) -> Option<usize> {
        let fresh = |index: usize| usable(index) && !situation.tried.contains(&index);
        let total = weight(endpoints, range.clone(), &fresh);
        let (total, allowed): (u64, &dyn Fn(usize) -> bool) = match total {
            0 => (weight(endpoints, range.clone(), usable), usable),
            total => (total, &fresh),
        };
        let at = |point: u64| nth(endpoints, range.clone(), allowed, point);
        match policy {
            BalancePolicy::RoundRobin => {
                let point = self.cursor.checked_rem(total)?;
                self.cursor = self.cursor.wrapping_add(stride(total));
                at(point)
            }
            BalancePolicy::Random | BalancePolicy::ClusterProvided => at(random.checked_rem(total)?),
            BalancePolicy::LeastRequest { choices } => {
                let mut best: Option<(u64, usize)> = None;
                let mut random = random;
                for _ in 0..choices.clamp(1, 16) {
                    let index = at(random.checked_rem(total)?)?;
                    let load = u64::from((situation.active)(index));
                    if best.is_none_or(|(least, _)| load < least) {
                        best = Some((load, index));
                    }
                    random = mix(random);
                }
                best.map(|(_, index)| index)
            }
        }
    }
}

/// Endpoints that are leaving are not counted as members.
fn counted(endpoints: &Endpoints, index: usize) -> bool {
    endpoints
        .all
        .get(index)
        .is_some_and(|endpoint| endpoint.health != crate::types::Health::Draining && endpoint.weight > 0)
}

fn weight(endpoints: &Endpoints, range: std::ops::Range<usize>, allowed: &dyn Fn(usize) -> bool) -> u64 {
    members(endpoints, range, allowed).map(|(_, endpoint)| share(endpoint)).sum()
}

/// The endpoint whose share of the line holds `point`.
fn nth(
    endpoints: &Endpoints,
    range: std::ops::Range<usize>,
    allowed: &dyn Fn(usize) -> bool,
    mut point: u64,
) -> Option<usize> {
    for (index, endpoint) in members(endpoints, range, allowed) {
        match point.checked_sub(share(endpoint)) {
            None => return Some(index),
            Some(rest) => point = rest,
        }
    }
    None
}

fn members<'a>(
    endpoints: &'a Endpoints,
    range: std::ops::Range<usize>,
    allowed: &'a dyn Fn(usize) -> bool,
) -> impl Iterator<Item = (usize, &'a Endpoint)> {
    range
        .filter(move |index| allowed(*index))
        .filter_map(|index| endpoints.all.get(index).map(|endpoint| (index, &**endpoint)))
}

fn share(endpoint: &Endpoint) -> u64 {
    u64::from(endpoint.weight)
}

/// Steps through the weighted line so that a heavy endpoint's turns do not come in a row: about
/// 0.618 of the line, made coprime with it so that each point is met once a round.
fn stride(total: u64) -> u64 {
    if total < 3 {
        return 1;
    }
    let mut step = total / 1000 * 618 + total % 1000 * 618 / 1000;
    step = step.max(1);
    while gcd(step, total) != 1 {
        step += 1;
    }
    step
}

fn gcd(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

/// splitmix64: the next choice from the same random number.
fn mix(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
