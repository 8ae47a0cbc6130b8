//! One request and its responses on one connection: what is told of the connection, and what it is good for afterwards.
//!
//! Both sides are small notes that the owner of the connection keeps while a request is open. Their rule: a connection
//! goes on only if both messages ended, both sides agreed, and nothing went wrong.

use super::{
    framing::{Announce, Asked, Framing},
    limits::Limits,
    refusal::Refusal,
    request::{Method, RequestHead, Version},
    response::ResponseHead,
    write::Persist,
};

/// The server's side of one exchange.
#[derive(Debug, Clone, Copy)]
pub struct ServerTurn {
    http11: bool,
    asked_head: bool,
    keeps_alive: bool,
    request_ended: bool,
    response_ended: bool,
    tunnel: bool,
}

/// How a response is written to the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer {
    /// How its body is written.
    pub framing: Framing,
    /// What its head says of the length.
    pub announce: Announce,
    pub persist: Persist,
}

/// What becomes of the client's connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// The exchange is not over.
    Wait,
    /// The response is out, but the rest of the request's body is not in. Read it away within a bound, or close.
    Drain,
    /// Read the next request; bytes left in the buffer are its beginning.
    Next,
    Close,
    /// Bytes left in the buffer are the tunnel's first.
    Tunnel,
}

impl ServerTurn {
    pub fn new(head: &RequestHead) -> ServerTurn {
        ServerTurn {
            http11: head.version() == Version::Http11,
            asked_head: head.method() == Method::Head,
            keeps_alive: head.keeps_alive(),
            request_ended: head.framing().is_empty(),
            response_ended: false,
            tunnel: false,
        }
    }

    /// The client may be sent informational responses (RFC 9110 section 15.2).
    pub fn takes_interim(&self) -> bool {
        self.http11
    }

    /// How to write a response that has this framing and announces this; `close` if we want the connection to end. A
    /// client of HTTP/1.0 gets no chunks; one of HTTP/1.1 gets chunks instead of an end by close.
    ///
    /// For a response to HEAD or a 304 take framing `None` and the announcement as received. An interim response is
    /// written as it is, without this.
    pub fn answer(&mut self, framing: Framing, announce: Announce, close: bool) -> Answer {
        let (framing, announce) = match framing {
            Framing::Tunnel => {
                self.tunnel = true;
                return Answer { framing, announce: Announce::Nothing, persist: Persist::Silent };
            }
            Framing::UntilClose if self.http11 => (Framing::Chunked, Announce::Chunked),
            Framing::Chunked if !self.http11 => (Framing::UntilClose, Announce::Nothing),
            Framing::None if !self.http11 && announce == Announce::Chunked => (framing, Announce::Nothing),
            framing => (framing, announce),
        };
        self.keeps_alive &= !close && framing != Framing::UntilClose;
        let persist = match (self.keeps_alive, self.http11) {
            (false, _) => Persist::Close,
            (true, true) => Persist::Silent,
            (true, false) => Persist::KeepAlive,
        };
        let framing = if self.asked_head { Framing::None } else { framing };
        Answer { framing, announce, persist }
    }

    /// The request's body has been read to its end.
    pub fn request_ended(&mut self) {
        self.request_ended = true;
    }

    /// The response has been written to its end, an interim one not counted.
    pub fn response_ended(&mut self) {
        self.response_ended = true;
    }

    /// The request was refused, or the response was cut: after what is written now the connection ends.
    pub fn fail(&mut self) {
        self.keeps_alive = false;
    }

    pub fn then(&self) -> Then {
        match (self.response_ended, self.request_ended) {
            (false, _) => Then::Wait,
            _ if self.tunnel => Then::Tunnel,
            _ if !self.keeps_alive => Then::Close,
            (true, false) => Then::Drain,
            (true, true) => Then::Next,
        }
    }
}

/// The client's side of one exchange.
#[derive(Debug, Clone, Copy)]
pub struct ClientTurn {
    asked: Asked,
    interims_left: u32,
    /// Of their heads.
    interim_bytes_left: u32,
    keeps_alive: bool,
    request_ended: bool,
    response_ended: bool,
}

impl ClientTurn {
    pub fn new(asked: Asked, limits: &Limits) -> ClientTurn {
        ClientTurn {
            asked,
            interims_left: limits.interim_max,
            interim_bytes_left: limits.head_bytes_max,
            keeps_alive: false,
            request_ended: false,
            response_ended: false,
        }
    }

    /// For [`ResponseHead::read`].
    pub fn asked(&self) -> Asked {
        self.asked
    }

    /// Takes a head that was read. An interim one is counted; another head follows it.
    pub fn head(&mut self, head: &ResponseHead) -> Result<(), Refusal> {
        if head.is_interim() {
            self.interims_left = self.interims_left.checked_sub(1).ok_or(Refusal::ManyInterim)?;
            let bytes = u32::try_from(head.bytes()).unwrap_or(u32::MAX);
            self.interim_bytes_left =
                self.interim_bytes_left.checked_sub(bytes).ok_or(Refusal::ManyInterim)?;
            return Ok(());
        }
        self.keeps_alive = head.keeps_alive();
        self.response_ended = head.framing().is_empty();
        Ok(())
    }

    /// The request was written to its end.
    pub fn request_ended(&mut self) {
        self.request_ended = true;
    }

    /// The response's body was read to its end.
    pub fn response_ended(&mut self) {
        self.response_ended = true;
    }

    /// Something was refused, cut or given up.
    pub fn fail(&mut self) {
        self.keeps_alive = false;
    }

    /// Another request may go out on this connection. `bytes_left`: what was received behind the response, which
    /// nobody asked for.
    pub fn may_reuse(&self, bytes_left: usize) -> bool {
        self.keeps_alive && self.request_ended && self.response_ended && bytes_left == 0
    }
}
