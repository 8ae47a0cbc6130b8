//! Moves bytes between a socket and its [`Mux`].

use std::{
    io::{self, IoSlice},
    pin::Pin,
    rc::Rc,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker, ready},
    time::Duration,
};

use bytes::Bytes;
use http::HeaderMap;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::{Instant, Sleep},
};
use weft_wire::http2::{Fault, Source};

use super::mux::Mux;
use crate::http::h1::{
    heads,
    io::{Input, give_back_flat},
};

/// Parts of one write.
const SLICES_MAX: usize = 16;
/// What is read away after our last words.
const LINGER_BYTES_MAX: usize = 2 * 1024 * 1024;

/// For how long the other side is listened to after our last words.
#[derive(Debug, Clone, Copy)]
pub struct Linger {
    /// While nothing comes.
    quiet: Duration,
    whole: Duration,
}

impl Linger {
    pub const FAULT: Linger = Linger { quiet: Duration::from_millis(500), whole: Duration::from_millis(500) };

    /// Of a client that may have so much to read.
    pub fn of_leaving(unproven: u64) -> Linger {
        const READ_AT_ONCE_BYTES: u64 = 16 * 1024;
        let quiet = Duration::from_millis(if unproven > READ_AT_ONCE_BYTES { 5000 } else { 500 });
        Linger { quiet, whole: Duration::from_secs(30) }
    }
}

/// All is said but what stands in the output.
struct LastWords {
    quiet: Duration,
    timer: Pin<Box<Sleep>>,
    end: Instant,
    is_shut: bool,
    read: usize,
}

/// Why nothing comes in any more.
#[derive(Debug, thiserror::Error)]
pub enum Over {
    #[error("the other side has closed the connection")]
    Closed,
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Fault(#[from] Fault),
}

impl Source for Input {
    fn as_slice(&self) -> &[u8] {
        Input::as_slice(self)
    }

    fn skip(&mut self, count: usize) {
        Input::skip(self, count);
    }

    fn take(&mut self, count: usize) -> Bytes {
        Input::take(self, count)
    }

    fn map(&mut self) -> HeaderMap {
        heads::map()
    }
}

/// Whether the socket has called since it had nothing to read. Most of a connection's turns are for its streams' sake,
/// and a look into TLS for nothing costs a thousand instructions.
#[derive(Default)]
struct Calls {
    called: AtomicBool,
    task: Mutex<Option<Waker>>,
}

impl Wake for Calls {
    fn wake(self: Arc<Calls>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Calls>) {
        self.called.store(true, Ordering::SeqCst);
        if let Some(task) = &*self.task.lock().unwrap_or_else(PoisonError::into_inner) {
            task.wake_by_ref();
        }
    }
}

/// The socket's side of a connection.
pub struct Driver<T> {
    io: T,
    input: Input,
    mux: Rc<Mux>,
    calls: Arc<Calls>,
    /// Makes the call.
    caller: Waker,
    /// Whom it wakes.
    task: Option<Waker>,
    /// The last read found nothing.
    is_quiet: bool,
    /// Something was written that the layer below may still hold.
    flushing: bool,
    last_words: Option<LastWords>,
}

impl<T: AsyncRead + AsyncWrite + Unpin> Driver<T> {
    pub fn new(io: T, mux: Rc<Mux>) -> Driver<T> {
        let calls = Arc::<Calls>::default();
        Driver {
            io,
            input: Input::default(),
            mux,
            caller: Waker::from(Arc::clone(&calls)),
            calls,
            task: None,
            is_quiet: false,
            flushing: false,
            last_words: None,
        }
    }

    /// Has the socket's calls wake this task.
    fn answer_calls(&mut self, cx: &Context<'_>) {
        if !self.task.as_ref().is_some_and(|task| task.will_wake(cx.waker())) {
            self.task = Some(cx.waker().clone());
            *self.calls.task.lock().unwrap_or_else(PoisonError::into_inner) = Some(cx.waker().clone());
        }
    }

    /// Reads once, and lets the connection see it. Pending: there is no more just now.
    pub fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Over>> {
        self.answer_calls(cx);
        if !self.calls.called.swap(false, Ordering::SeqCst) && self.is_quiet {
            return Poll::Pending;
        }
        let polled = self.input.poll_fill(&mut self.io, &mut Context::from_waker(&self.caller));
        self.is_quiet = polled.is_pending();
        let count = match polled {
            Poll::Ready(Ok(count)) => count,
            Poll::Ready(Err(error)) => {
                self.mux.connection().close();
                return Poll::Ready(Err(error.into()));
            }
            Poll::Pending => {
                self.input.keep();
                return Poll::Pending;
            }
        };
        if count == 0 {
            self.mux.connection().close();
            return Poll::Ready(Err(Over::Closed));
        }
        Poll::Ready(self.mux.connection().receive(&mut self.input).map_err(Over::Fault))
    }

    /// Writes all that there is.
    pub fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut connection = self.mux.connection();
        if connection.output().is_empty() && !self.flushing {
            return Poll::Ready(Ok(()));
        }
        loop {
            let output = connection.output();
            let mut slices = [IoSlice::new(&[]); SLICES_MAX];
            let used = output.slices(&mut slices);
            let io = Pin::new(&mut self.io);
            let written = match slices.get(..used).unwrap_or_default() {
                [] => break,
                [one] => ready!(io.poll_write(cx, one))?,
                many => ready!(io.poll_write_vectored(cx, many))?,
            };
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            connection.written(written);
            self.flushing = true;
        }
        if let Some(memory) = connection.output().take_back() {
            give_back_flat(memory);
        }
        drop(connection);
        if self.flushing {
            // TLS keeps records that the socket had no room for.
            ready!(Pin::new(&mut self.io).poll_flush(cx))?;
            self.flushing = false;
        }
        Poll::Ready(Ok(()))
    }

    pub fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    pub fn mux(&self) -> &Rc<Mux> {
        &self.mux
    }

    fn passed(&self) -> u64 {
        self.mux.connection().output().passed()
    }

    /// Writes what is left, says that it was all, and reads away what the other side still sends: closing on unread
    /// bytes would take our last words from it. Ready when it has closed, or had its time.
    pub fn poll_last_words(&mut self, cx: &mut Context<'_>, linger: Linger) -> Poll<()> {
        let mut words = self.last_words.take().unwrap_or_else(|| LastWords {
            quiet: linger.quiet,
            timer: Box::pin(tokio::time::sleep(linger.quiet)),
            end: Instant::now() + linger.whole,
            is_shut: false,
            read: 0,
        });
        let before = self.passed() + words.read as u64;
        if self.poll_words(cx, &mut words).is_ready() {
            return Poll::Ready(());
        }
        if self.passed() + words.read as u64 > before {
            words.timer.as_mut().reset(words.end.min(Instant::now() + words.quiet));
        }
        let over = words.timer.as_mut().poll(cx);
        self.last_words = Some(words);
        over
    }

    fn poll_words(&mut self, cx: &mut Context<'_>, words: &mut LastWords) -> Poll<()> {
        if ready!(self.poll_send(cx)).is_err() {
            return Poll::Ready(());
        }
        if !words.is_shut {
            if ready!(self.poll_shutdown(cx)).is_err() {
                return Poll::Ready(());
            }
            words.is_shut = true;
        }
        while words.read < LINGER_BYTES_MAX {
            let count = ready!(self.input.poll_fill(&mut self.io, cx));
            self.input = Input::default();
            match count {
                Ok(count) if count > 0 => words.read += count,
                _ => break,
            }
        }
        Poll::Ready(())
    }
}

/// However the task ends, nobody waits for a connection that nobody moves.
impl<T> Drop for Driver<T> {
    fn drop(&mut self) {
        self.mux.close();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::{cell::Cell, task::Waker};

    use http::Method;
    use tokio::io::ReadBuf;
    use weft_wire::http2::{Config, RequestHead, Role, StreamError};

    use super::*;

    /// Takes all at once and is slow to pass it on, as TLS over a full socket.
    #[derive(Default)]
    struct Slow {
        refusals: usize,
        flushed: Rc<Cell<bool>>,
    }

    impl AsyncRead for Slow {
        fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            Poll::Pending
        }
    }

    impl AsyncWrite for Slow {
        fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            Poll::Ready(Ok(bytes.len()))
        }

        fn poll_flush(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            if self.refusals > 0 {
                self.refusals -= 1;
                return Poll::Pending;
            }
            self.flushed.set(true);
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[test]
    fn what_the_layer_below_holds_is_not_forgotten() {
        let cx = &mut Context::from_waker(Waker::noop());
        let flushed = Rc::new(Cell::new(false));
        let io = Slow { refusals: 2, flushed: Rc::clone(&flushed) };
        let mut driver = Driver::new(io, Mux::new(Config::new(Role::Client)));
        assert!(driver.poll_send(cx).is_pending() && driver.poll_send(cx).is_pending());
        assert!(driver.poll_send(cx).is_ready() && flushed.get());
    }

    /// Has nothing to read, counts who looks, and calls when told to.
    #[derive(Default)]
    struct Counting {
        looks: Rc<Cell<usize>>,
        reader: Rc<Cell<Option<Waker>>>,
    }

    impl AsyncRead for Counting {
        fn poll_read(
            self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            _: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            self.looks.set(self.looks.get() + 1);
            self.reader.set(Some(cx.waker().clone()));
            Poll::Pending
        }
    }

    impl AsyncWrite for Counting {
        fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            Poll::Ready(Ok(bytes.len()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[derive(Default)]
    struct Woken(AtomicBool);

    impl Wake for Woken {
        fn wake(self: Arc<Woken>) {
            self.0.store(true, Ordering::SeqCst);
        }
    }

    #[test]
    fn a_socket_that_has_not_called_is_not_read() {
        let (first, second) = (Arc::<Woken>::default(), Arc::<Woken>::default());
        let (looks, reader) = (Rc::<Cell<usize>>::default(), Rc::default());
        let io = Counting { looks: Rc::clone(&looks), reader: Rc::clone(&reader) };
        let mut driver = Driver::new(io, Mux::new(Config::new(Role::Client)));
        let mut turn = |woken: &Arc<Woken>| {
            let waker = Waker::from(Arc::clone(woken));
            assert!(driver.poll_receive(&mut Context::from_waker(&waker)).is_pending());
            looks.get()
        };
        assert_eq!((turn(&first), turn(&first), turn(&second)), (1, 1, 1));
        reader.take().unwrap().wake();
        assert!(second.0.load(Ordering::SeqCst), "the call wakes the task that asked last");
        assert!(!first.0.load(Ordering::SeqCst));
        assert_eq!((turn(&second), turn(&second)), (2, 2));
    }

    #[test]
    fn nobody_waits_for_a_connection_that_nobody_moves() {
        let cx = &mut Context::from_waker(Waker::noop());
        let mux = Mux::new(Config::new(Role::Client));
        let driver = Driver::new(Slow::default(), Rc::clone(&mux));
        let headers = HeaderMap::new();
        let (method, authority) = (&Method::GET, Some(&b"a"[..]));
        let head =
            RequestHead { method, scheme: "http", authority, path: "/", protocol: None, headers: &headers };
        let (mut answer, _sending) = mux.open(head, true).unwrap();
        assert!(answer.poll_response(cx).is_pending());
        drop(driver);
        assert!(matches!(answer.poll_response(cx), Poll::Ready(Err(StreamError::Closed))));
        assert!(mux.open(head, true).is_err());
    }
}
