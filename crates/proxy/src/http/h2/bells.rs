//! Many futures in one task, of which each is polled only when it was woken itself.
//!
//! A connection and its streams run in one task, so that what a stream writes leaves in the same turn. Everyone has a
//! [`Bell`]; the task polls those that rang, until nobody rings. Bells that ring while the task is at it anyway don't
//! wake it, so a stream that hands frames to its connection costs no other turn of the runtime's.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Wake, Waker},
};

/// So that others get a turn; also the runtime lets nobody read on who has read enough in one turn.
const ROUNDS_MAX: u32 = 8;
const WORDS: usize = 4;
const WORD_BITS: usize = u64::BITS as usize;
/// Bells of which each has a bit; those beyond share one, and are polled with each other.
const BITS: usize = WORDS * WORD_BITS;

/// The bells of one task.
pub struct Bells {
    rung: Arc<Rung>,
    bells: Vec<Waker>,
    /// Whom `rung` wakes.
    task: Option<Waker>,
    /// Those to be polled in this round.
    round: [u64; WORDS],
    /// The bell polled last, if others share its bit.
    shared: Option<usize>,
    rounds: u32,
}

#[derive(Default)]
struct Rung {
    bits: [AtomicU64; WORDS],
    /// The task will look at the bits by itself.
    awake: AtomicBool,
    task: Mutex<Option<Waker>>,
}

impl Rung {
    fn is_empty(&self) -> bool {
        self.bits.iter().all(|bits| bits.load(Ordering::SeqCst) == 0)
    }

    fn wake(&self) {
        if let Some(task) = &*self.task.lock().unwrap_or_else(PoisonError::into_inner) {
            task.wake_by_ref();
        }
    }
}

struct Bell {
    index: usize,
    rung: Arc<Rung>,
}

impl Wake for Bell {
    fn wake(self: Arc<Bell>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Bell>) {
        let (word, bit) = (self.index / WORD_BITS % WORDS, self.index % WORD_BITS);
        let Some(bits) = self.rung.bits.get(word) else { return };
        if bits.fetch_or(1 << bit, Ordering::SeqCst) & 1 << bit == 0
            && !self.rung.awake.load(Ordering::SeqCst)
        {
            self.rung.wake();
        }
    }
}

impl Bells {
    /// This many bells, which ring.
    pub fn new(count: usize) -> Bells {
        let mut bells = Bells {
            rung: Arc::default(),
            bells: Vec::new(),
            task: None,
            round: [0; WORDS],
            shared: None,
            rounds: 0,
        };
        for _ in 0..count {
            bells.add();
        }
        bells
    }

    /// One bell more, which rings.
    pub fn add(&mut self) -> usize {
        let index = self.bells.len();
        self.bells.push(Waker::from(Arc::new(Bell { index, rung: Arc::clone(&self.rung) })));
        self.ring(index);
        index
    }

    pub fn ring(&self, index: usize) {
        if let Some(bell) = self.bells.get(index) {
            bell.wake_by_ref();
        }
    }

    /// The task's turn begins.
    pub fn begin(&mut self, cx: &Context<'_>) {
        self.rung.awake.store(true, Ordering::SeqCst);
        if !self.task.as_ref().is_some_and(|task| task.will_wake(cx.waker())) {
            self.task = Some(cx.waker().clone());
            *self.rung.task.lock().unwrap_or_else(PoisonError::into_inner) = Some(cx.waker().clone());
        }
        self.rounds = 0;
    }

    /// Who is to be polled next, and with what; `None`: the turn is over.
    pub fn next_rung(&mut self) -> Option<(usize, Waker)> {
        if let Some(index) = self.shared.take().map(|index| index + BITS)
            && let Some(bell) = self.bells.get(index)
        {
            self.shared = Some(index);
            return Some((index, bell.clone()));
        }
        loop {
            for (word, bits) in self.round.iter_mut().enumerate() {
                if *bits == 0 {
                    continue;
                }
                let index = word * WORD_BITS + bits.trailing_zeros() as usize;
                *bits &= *bits - 1;
                if let Some(bell) = self.bells.get(index) {
                    self.shared = (self.bells.len() > BITS).then_some(index);
                    return Some((index, bell.clone()));
                }
            }
            if self.rounds == ROUNDS_MAX || self.rung.is_empty() {
                self.rung.awake.store(false, Ordering::SeqCst);
                // Somebody may have rung in between.
                if !self.rung.is_empty() {
                    self.rung.wake();
                }
                return None;
            }
            self.rounds += 1;
            for (round, bits) in self.round.iter_mut().zip(&self.rung.bits) {
                *round = bits.swap(0, Ordering::SeqCst);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turn(bells: &mut Bells) -> Vec<usize> {
        bells.begin(&Context::from_waker(Waker::noop()));
        std::iter::from_fn(|| bells.next_rung().map(|(index, _)| index)).collect()
    }

    #[test]
    fn those_that_rang_are_polled_once_and_in_order() {
        let mut bells = Bells::new(3);
        assert_eq!(turn(&mut bells), [0, 1, 2]);
        assert!(turn(&mut bells).is_empty());
        for index in [2, 0, 2, 2] {
            bells.ring(index);
        }
        assert_eq!(turn(&mut bells), [0, 2]);
    }

    #[test]
    fn who_rings_always_does_not_keep_the_task() {
        let mut bells = Bells::new(1);
        bells.begin(&Context::from_waker(Waker::noop()));
        let mut polls = 0;
        while let Some((_, waker)) = bells.next_rung() {
            waker.wake_by_ref();
            polls += 1;
        }
        assert_eq!(polls, ROUNDS_MAX);
        bells.begin(&Context::from_waker(Waker::noop()));
        assert_eq!(bells.next_rung().map(|(index, _)| index), Some(0), "it is not forgotten");
    }

    #[test]
    fn more_bells_than_bits_are_all_heard() {
        let mut bells = Bells::new(2 * BITS + 3);
        assert_eq!(turn(&mut bells).len(), 2 * BITS + 3);
        bells.ring(BITS + 1);
        assert_eq!(turn(&mut bells), [1, BITS + 1, 2 * BITS + 1]);
        bells.ring(2 * BITS - 1);
        assert_eq!(turn(&mut bells), [BITS - 1, 2 * BITS - 1]);
    }
}
