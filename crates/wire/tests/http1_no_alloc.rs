//! Parsing and writing the common request and response allocates nothing once the objects are warm.
//!
//! The allocator of this test binary counts; a guard shows that it would see an allocation.
#![expect(unsafe_code, reason = "a global allocator cannot be written without it")]
#![expect(clippy::expect_used, clippy::panic, reason = "a failed assertion is the answer")]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
};

use weft_wire::{
    Progress,
    http1::{
        Asked, Body, CHUNK_END, ChunkHead, ClientTurn, Edit, FieldId, HeadWriter, Hop, Limits, Part,
        RequestHead, ResponseHead, ServerTurn,
    },
};

thread_local! {
    // Const, so that its first use does not allocate.
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: every call goes to the system's allocator as it came; the count is a cell of this thread.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller's promise, handed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise, handed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const GET: &[u8] = b"GET /api/v1/items?page=2 HTTP/1.1\r\nHost: be1.default.mesh.internal\r\n\
    User-Agent: curl/8.5.0\r\nAccept: */*\r\nAccept-Encoding: gzip, br\r\nX-Request-Id: 7f0a3c\r\n\
    Cookie: session=0123456789abcdef\r\nAuthorization: Bearer abcdefghijklmnopqrstuvwxyz\r\n\
    Connection: keep-alive\r\nX-Team: shop\r\nCache-Control: no-cache\r\n\r\n";
const POST: &[u8] =
    b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nSum: 1\r\n\r\n";
const RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 13\r\n\
    Date: Sun, 06 Nov 1994 08:49:37 GMT\r\nServer: app\r\n\r\n{\"ok\": true}\n";

#[derive(Default)]
struct Worker {
    request: RequestHead,
    response: ResponseHead,
    body: Body,
    out: Vec<u8>,
}

impl Worker {
    fn forward(&mut self, bytes: &[u8], limits: &Limits) {
        self.request.restart();
        self.out.clear();
        let Ok(Progress::Done(used)) = self.request.read(bytes, limits) else { panic!("not a whole head") };
        let head = &self.request;
        let path = head.path(bytes);
        let (method, authority) = (head.method_span().of(bytes), head.authority_span().of(bytes));
        let mut writer = HeadWriter::request(&mut self.out, method, &path, authority).expect("a start line");
        let edit = |line: weft_wire::http1::Line<'_>| match line.id() {
            FieldId::XRequestId => Edit::Value(b"ours"),
            FieldId::XForwardedClientCert => Edit::Drop,
            _ => Edit::Keep,
        };
        writer.copy(head.fields(), bytes, head.announce(), edit).expect("lines");
        writer.field(b"x-forwarded-proto", b"http").expect("a line");
        writer.hop(Hop { trailers: head.takes_trailers(), ..Hop::default() }).expect("a hop");
        writer.finish();
        self.body.restart(self.request.framing());
        self.carry(&bytes[used..], limits);
    }

    fn carry(&mut self, mut rest: &[u8], limits: &Limits) {
        loop {
            match self.body.next(rest, limits).expect("a body") {
                Part::Data(range) => {
                    if let Some(chunk) = ChunkHead::new(range.len()) {
                        self.out.extend_from_slice(chunk.as_bytes());
                        self.out.extend_from_slice(&rest[range.clone()]);
                        self.out.extend_from_slice(CHUNK_END);
                    }
                    rest = &rest[range.end..];
                }
                Part::More(used) => {
                    assert!(used > 0, "the body is whole");
                    rest = &rest[used..];
                }
                Part::End(used) => {
                    assert_eq!(used, rest.len());
                    return;
                }
            }
        }
    }

    fn answer(&mut self, bytes: &[u8], limits: &Limits) {
        self.response.restart();
        self.out.clear();
        let mut client = ClientTurn::new(Asked::default(), limits);
        let read = self.response.read(bytes, client.asked(), limits);
        let Ok(Progress::Done(used)) = read else { panic!("not a whole head") };
        client.head(&self.response).expect("a final response");
        let mut server = ServerTurn::new(&self.request);
        let answer = server.answer(self.response.framing(), self.response.announce(), false);
        let reason = self.response.reason_span().of(bytes);
        let mut writer =
            HeadWriter::response(&mut self.out, self.response.status(), reason).expect("a status line");
        writer.copy(self.response.fields(), bytes, answer.announce, |_| Edit::Keep).expect("lines");
        writer.hop(Hop { persist: answer.persist, ..Hop::default() }).expect("a hop");
        writer.finish();
        self.body.restart(self.response.framing());
        self.carry(&bytes[used..], limits);
    }
}

fn allocations(run: impl FnOnce()) -> usize {
    let before = ALLOCATIONS.get();
    run();
    ALLOCATIONS.get() - before
}

#[test]
fn a_warm_worker_allocates_nothing() {
    let limits = Limits::default();
    let mut worker = Worker::default();
    let round = |worker: &mut Worker| {
        worker.forward(GET, &limits);
        worker.answer(RESPONSE, &limits);
        worker.forward(POST, &limits);
    };
    let cold = allocations(|| round(&mut worker));
    assert!(cold > 0, "the allocator does not count");
    let warm = allocations(|| (0..100).for_each(|_| round(&mut worker)));
    assert_eq!(warm, 0);
}
