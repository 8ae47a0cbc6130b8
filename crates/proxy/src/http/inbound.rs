//! A body that comes in, whatever carries it.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use http_body::{Body, Frame, SizeHint};
use tokio::sync::oneshot;

use super::{
    body::BodyError,
    h1::{client::ResponseBytes, shared::RequestBytes},
    h2::streams::Received,
};
use crate::tcp::tunnel::Tunnel;

pub enum Inbound {
    H2(Received),
    /// No body: a CONNECT's stream becomes this, if its answer says so.
    Tunnel(Option<oneshot::Receiver<Tunnel<()>>>),
    /// A request's, over HTTP/1.
    Server(RequestBytes),
    /// An answer's, over HTTP/1.
    Client(ResponseBytes),
}

impl Body for Inbound {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.get_mut() {
            Inbound::H2(body) => body.poll_frame(cx),
            Inbound::Tunnel(_) => Poll::Ready(None),
            Inbound::Server(body) => body.poll_frame(cx),
            Inbound::Client(body) => body.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Inbound::H2(body) => body.is_end_stream(),
            Inbound::Tunnel(_) => true,
            Inbound::Server(body) => body.is_end_stream(),
            Inbound::Client(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Inbound::H2(body) => body.size_hint(),
            Inbound::Tunnel(_) => SizeHint::with_exact(0),
            Inbound::Server(body) => body.size_hint(),
            Inbound::Client(body) => body.size_hint(),
        }
    }
}

impl Inbound {
    /// Sends a 1xx answer to the client whose request this is, if it is one that takes such.
    pub fn interim(&self, status: StatusCode, headers: &HeaderMap) {
        match self {
            Inbound::H2(body) => body.interim(status, headers),
            Inbound::Server(body) => body.interim(status, headers),
            Inbound::Tunnel(_) | Inbound::Client(_) => {}
        }
    }

    /// Bytes that came and wait to be read, of which the last read knows.
    pub fn held(&self) -> usize {
        match self {
            Inbound::H2(body) => body.held(),
            Inbound::Client(body) => body.held(),
            Inbound::Server(_) | Inbound::Tunnel(_) => 0,
        }
    }

    /// Nobody can take more of an answer just now: what is left of its request goes on.
    pub fn drive(&mut self, cx: &mut Context<'_>) {
        match self {
            Inbound::H2(body) => body.drive(cx),
            Inbound::Client(body) => body.drive(cx),
            Inbound::Server(_) | Inbound::Tunnel(_) => {}
        }
    }
}
