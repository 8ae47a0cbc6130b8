//! Many futures in one task, of which each is polled only when it was woken itself.
//!
//! A connection and its streams run in one task, so that what a stream writes leaves in the same turn. Everyone has a
//! [`Bell`]; the task polls those that rang, until nobody rings. Bells that ring while the task is at it anyway don't
//! wake it, so a stream that hands frames to its connection costs no other turn of the runtime's.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Wake, Waker},
};

/// So that others get a turn; also the runtime lets nobody read on who has read enough in one turn.
const ROUNDS_MAX: u32 = 8;

/// The bells of one task.
pub struct Bells {
    rung: Arc<Mutex<Rung>>,
    bells: Vec<(Arc<Bell>, Waker)>,
    /// Those to be polled in this round, the next one last.
    round: Vec<usize>,
    rounds: u32,
}

#[derive(Default)]
struct Rung {
    list: Vec<usize>,
    /// The task will look at the list by itself.
    awake: bool,
    task: Option<Waker>,
}

struct Bell {
    index: usize,
    rung: AtomicBool,
    shared: Arc<Mutex<Rung>>,
}

fn lock(rung: &Mutex<Rung>) -> MutexGuard<'_, Rung> {
    rung.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Wake for Bell {
    fn wake(self: Arc<Bell>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Bell>) {
        if self.rung.swap(true, Ordering::AcqRel) {
            return;
        }
        let mut rung = lock(&self.shared);
        rung.list.push(self.index);
        if !rung.awake
            && let Some(task) = &rung.task
        {
            task.wake_by_ref();
        }
    }
}

impl Bells {
    /// This many bells, which ring.
    pub fn new(count: usize) -> Bells {
        let mut bells = Bells { rung: Arc::default(), bells: Vec::new(), round: Vec::new(), rounds: 0 };
        for _ in 0..count {
            bells.add();
        }
        bells
    }

    /// One bell more, which rings.
    pub fn add(&mut self) -> usize {
        let index = self.bells.len();
        let bell = Arc::new(Bell { index, rung: AtomicBool::new(false), shared: Arc::clone(&self.rung) });
        let waker = Waker::from(Arc::clone(&bell));
        self.bells.push((bell, waker));
        self.ring(index);
        index
    }

    pub fn ring(&self, index: usize) {
        if let Some((_, waker)) = self.bells.get(index) {
            waker.wake_by_ref();
        }
    }

    /// The task's turn begins.
    pub fn begin(&mut self, cx: &Context<'_>) {
        let mut rung = lock(&self.rung);
        rung.awake = true;
        if !rung.task.as_ref().is_some_and(|task| task.will_wake(cx.waker())) {
            rung.task = Some(cx.waker().clone());
        }
        self.rounds = 0;
    }

    /// Who is to be polled next, and with what; `None`: the turn is over.
    pub fn next_rung(&mut self) -> Option<(usize, Waker)> {
        if self.round.is_empty() {
            let mut rung = lock(&self.rung);
            self.rounds += 1;
            if rung.list.is_empty() || self.rounds > ROUNDS_MAX {
                rung.awake = false;
                if !rung.list.is_empty()
                    && let Some(task) = &rung.task
                {
                    task.wake_by_ref();
                }
                return None;
            }
            std::mem::swap(&mut rung.list, &mut self.round);
            drop(rung);
            self.round.reverse();
        }
        let (bell, waker) = self.bells.get(self.round.pop()?)?;
        bell.rung.store(false, Ordering::Release);
        Some((bell.index, waker.clone()))
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
        assert_eq!(turn(&mut bells), [2, 0]);
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
}
