//! A body that comes in, whatever carries it.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use super::{
    body::BodyError,
    h1::{client::ResponseBytes, shared::RequestBytes},
};

pub enum Inbound {
    H2(Incoming),
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
            Inbound::H2(body) => {
                Pin::new(body).poll_frame(cx).map(|frame| frame.map(|frame| frame.map_err(Into::into)))
            }
            Inbound::Server(body) => body.poll_frame(cx),
            Inbound::Client(body) => body.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Inbound::H2(body) => body.is_end_stream(),
            Inbound::Server(body) => body.is_end_stream(),
            Inbound::Client(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Inbound::H2(body) => body.size_hint(),
            Inbound::Server(body) => body.size_hint(),
            Inbound::Client(body) => body.size_hint(),
        }
    }
}
