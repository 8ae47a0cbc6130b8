//! Deadlines of one request after the other, on one timer that is seldom touched.
//!
//! Most deadlines are 15 seconds away and never met. A timer for each would be put into the runtime's wheel and taken
//! out again for every request; this one stays where an earlier request put it, and moves on when it rings too early.

use std::{pin::Pin, task::Context};

use tokio::time::{Instant, Sleep, sleep_until};

/// One timer, made when it is first needed.
#[derive(Default)]
pub struct Timer {
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Timer {
    /// Whether `end` has passed; else the task is woken then, or earlier.
    pub fn is_over(&mut self, end: Instant, cx: &mut Context<'_>) -> bool {
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(sleep_until(end)));
        if sleep.deadline() > end {
            sleep.as_mut().reset(end);
        }
        while sleep.as_mut().poll(cx).is_ready() {
            if end <= Instant::now() {
                return true;
            }
            sleep.as_mut().reset(end);
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::{pending, poll_fn},
        pin::pin,
        task::Poll,
        time::Duration,
    };

    use super::*;

    /// Waits for `work` until then.
    async fn until<F: Future + Unpin>(timer: &mut Timer, end: Instant, mut work: F) -> Option<F::Output> {
        poll_fn(|cx| match Pin::new(&mut work).poll(cx) {
            Poll::Ready(done) => Poll::Ready(Some(done)),
            Poll::Pending if timer.is_over(end, cx) => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        })
        .await
    }

    #[tokio::test]
    async fn one_timer_serves_deadlines_that_come_nearer_and_go_further() {
        let mut timer = Timer::default();
        for limit in [40, 5, 60, 3, 3, 30].map(Duration::from_millis) {
            let start = Instant::now();
            assert_eq!(until(&mut timer, start + limit, pin!(pending::<()>())).await, None);
            assert!(start.elapsed() >= limit, "{limit:?}");
            // Work that is done in time moves nothing.
            let work = pin!(tokio::time::sleep(Duration::from_millis(1)));
            assert_eq!(until(&mut timer, Instant::now() + limit * 100, work).await, Some(()));
        }
    }
}
