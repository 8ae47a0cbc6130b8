//! Which endpoint takes the next request.
//!
//! The state (a cursor, a [`Roster`]) belongs to one worker and one cluster; load and random numbers
//! come from the caller. The lowest priority number with healthy endpoints counts; below the panic
//! threshold all its endpoints are used, since then health says little.
//!
//! A pick costs the same with ten endpoints and with ten thousand, but for the few steps that halve a
//! longer line.

use smallvec::SmallVec;

use crate::types::BalancePolicy;

mod line;
mod roster;
#[cfg(test)]
mod tests;

use line::Line;
use roster::{Lines, Tier};
pub use roster::{Roster, Standing};

/// One worker's state for one cluster.
#[derive(Debug, Clone, Default)]
pub struct Balancer {
    cursor: u64,
    /// A line's length, and the step through it.
    stride: (u64, u64),
}

/// What the caller knows about the endpoints now; indices are of `Endpoints::all`.
pub struct Situation<'a> {
    /// Requests under way to an endpoint.
    pub active: &'a dyn Fn(usize) -> u32,
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
        roster: &Roster,
        situation: &Situation<'_>,
        random: u64,
    ) -> Option<Pick> {
        let mut fallback = None;
        for tier in &roster.tiers {
            let (good, total) = (tier.usable.all.members(), tier.members.all.members());
            if total == 0 {
                continue;
            }
            #[expect(clippy::cast_precision_loss, reason = "numbers of endpoints are small")]
            let share = good as f64 * 100.0 / total as f64;
            if good > 0 && share >= situation.panic_threshold_percent {
                let index = self.among(policy, tier, &tier.usable, situation, random)?;
                return Some(Pick { index, panic: false });
            }
            fallback.get_or_insert(tier);
        }
        // No priority is in good health: all endpoints of the first one, but those that are leaving.
        // A threshold of 0 switches panic off: then only what is healthy, if anything is.
        let tier = fallback?;
        if situation.panic_threshold_percent <= 0.0 {
            return None;
        }
        let index = self.among(policy, tier, &tier.members, situation, random)?;
        Some(Pick { index, panic: true })
    }

    fn among(
        &mut self,
        policy: BalancePolicy,
        tier: &Tier,
        lines: &Lines,
        situation: &Situation<'_>,
        random: u64,
    ) -> Option<usize> {
        let mut tried: SmallVec<[usize; 8]> =
            situation.tried.iter().filter_map(|index| tier.place(*index)).collect();
        tried.sort_unstable();
        tried.dedup();
        // One that refused a moment ago is better than one that this request has tried.
        let choices = [(&lines.calm, &*tried), (&lines.all, &*tried), (&lines.all, &[])];
        let choice = choices
            .into_iter()
            .map(|(line, tried)| Choice::new(line, tried))
            .find(|choice| choice.total > 0)?;
        let total = choice.total;
        let at = |point: u64| choice.holder(point).map(|place| tier.index(place));
        match policy {
            BalancePolicy::RoundRobin => {
                let point = self.cursor % total;
                self.cursor = self.cursor.wrapping_add(self.stride(total));
                at(point)
            }
            BalancePolicy::Random | BalancePolicy::ClusterProvided => at(random % total),
            BalancePolicy::LeastRequest { choices } => {
                let mut best: Option<(u64, usize)> = None;
                let mut random = random;
                for _ in 0..choices.clamp(1, 16) {
                    let index = at(random % total)?;
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

    fn stride(&mut self, total: u64) -> u64 {
        if self.stride.0 != total {
            self.stride = (total, stride(total));
        }
        self.stride.1
    }
}

/// A line less some of its places.
struct Choice<'a> {
    line: &'a Line,
    /// Where they begin and how long they are, in their order.
    gaps: SmallVec<[(u64, u64); 8]>,
    total: u64,
}

impl Choice<'_> {
    /// `without`: in order, each once.
    fn new<'a>(line: &'a Line, without: &[usize]) -> Choice<'a> {
        let gaps: SmallVec<[(u64, u64); 8]> = without.iter().map(|place| line.share(*place)).collect();
        let total = line.total() - gaps.iter().map(|(_, length)| length).sum::<u64>();
        Choice { line, gaps, total }
    }

    fn holder(&self, mut point: u64) -> Option<usize> {
        for (start, length) in &self.gaps {
            if point >= *start {
                point += length;
            }
        }
        self.line.holder(point)
    }
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
