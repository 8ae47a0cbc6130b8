//! Lets hyper spawn its `!Send` tasks on this worker.

use std::future::Future;

/// hyper's executor for this thread's runtime.
#[derive(Debug, Clone, Copy)]
pub struct LocalExec;

impl<F> hyper::rt::Executor<F> for LocalExec
where
    F: Future + 'static,
    F::Output: 'static,
{
    fn execute(&self, future: F) {
        tokio::task::spawn_local(future);
    }
}
