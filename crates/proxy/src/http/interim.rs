//! 1xx answers on their way to the client (RFC 9110 section 15.2): they pass, as the RFC wants it, where Envoy lets one
//! pass if it is told to and drops the others.
//!
//! An upstream's 100 is the exception, in which we deviate: who expects one gets it from us when the body is first wanted
//! ([`super::h1::shared`], `weft_wire::http2`), and so from every upstream, also from those that know no 100. Nor do 1xx
//! answers to upgrades and CONNECTs pass, nor those for which there is no room, since their client does not read. None
//! of them is the answer: a request may be tried again after one, and its time goes on.
//!
//! Nothing is kept for those that never come: whoever waits for an answer's head hands what comes before it to
//! [`Outgoing::pass_interim`], which finds the client by the request's body.

use std::net::SocketAddr;

use http::{Response, StatusCode, header::CONTENT_LENGTH};

use super::{body::RequestBody, forward::Outgoing, h1::heads};
use crate::record::RequestRecord;

/// Hears of the heads before the final one.
pub type OnInterim<'a> = &'a mut dyn FnMut(Response<()>);

impl Outgoing<'_> {
    /// Gives the client a 1xx answer, with the fields that the final one would have.
    #[cold]
    pub fn pass_interim(
        &self,
        head: Response<()>,
        body: &RequestBody,
        upstream: SocketAddr,
        record: &RequestRecord,
    ) {
        let (mut parts, ()) = head.into_parts();
        if parts.status != StatusCode::CONTINUE {
            parts.headers.remove(CONTENT_LENGTH); // RFC 9110 section 8.6
            self.edit_response(&mut parts.headers, upstream, record);
            body.interim(self.bodiless, parts.status, &parts.headers);
        }
        heads::give_back_map(parts.headers);
    }
}
