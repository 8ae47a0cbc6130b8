//! The field names that the codec or a proxy has to know, recognised while a head is read.
//!
//! What a name means for forwarding hangs on its id, so nobody compares text again.

/// A field name that is known here. Compare ids instead of names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum FieldId {
    /// Any name not listed below.
    Other,
    // Framing and the connection: these the codec reads itself.
    Host,
    ContentLength,
    TransferEncoding,
    Connection,
    Expect,
    Upgrade,
    Te,
    // Of one hop, but without meaning for the codec.
    KeepAlive,
    ProxyConnection,
    Http2Settings,
    // End to end, known for the rules of `Connection` and of trailers, and for the proxy's sake.
    Trailer,
    ProxyAuthorization,
    ProxyAuthenticate,
    Authorization,
    Cookie,
    SetCookie,
    ContentType,
    ContentEncoding,
    ContentRange,
    CacheControl,
    Range,
    Location,
    Date,
    Server,
    Via,
    Accept,
    UserAgent,
    Forwarded,
    XForwardedFor,
    XForwardedHost,
    XForwardedProto,
    XForwardedClientCert,
    XRequestId,
    Traceparent,
    Tracestate,
    GrpcStatus,
    GrpcTimeout,
}

impl FieldId {
    /// Recognises a name in any case.
    #[inline]
    pub fn of(name: &[u8]) -> FieldId {
        use FieldId::*;
        let Some(first) = name.first() else { return Other };
        // Length and first letter leave one candidate, seldom two. `| 0x20` lowers a letter and keeps digit and dash.
        let hit = |id: FieldId, same: bool| if same { id } else { Other };
        match (name.len(), first | 0x20) {
            (2, b't') => hit(Te, same(name, b"te")),
            (3, b'v') => hit(Via, same(name, b"via")),
            (4, b'h') => hit(Host, same(name, b"host")),
            (4, b'd') => hit(Date, same(name, b"date")),
            (5, b'r') => hit(Range, same(name, b"range")),
            (6, b'a') => hit(Accept, same(name, b"accept")),
            (6, b'c') => hit(Cookie, same(name, b"cookie")),
            (6, b'e') => hit(Expect, same(name, b"expect")),
            (6, b's') => hit(Server, same(name, b"server")),
            (7, b't') => hit(Trailer, same(name, b"trailer")),
            (7, b'u') => hit(Upgrade, same(name, b"upgrade")),
            (8, b'l') => hit(Location, same(name, b"location")),
            (9, b'f') => hit(Forwarded, same(name, b"forwarded")),
            (10, b'c') => hit(Connection, same(name, b"connection")),
            (10, b'k') => hit(KeepAlive, same(name, b"keep-alive")),
            (10, b's') => hit(SetCookie, same(name, b"set-cookie")),
            (10, b't') => hit(Tracestate, same(name, b"tracestate")),
            (10, b'u') => hit(UserAgent, same(name, b"user-agent")),
            (11, b'g') => hit(GrpcStatus, same(name, b"grpc-status")),
            (11, b't') => hit(Traceparent, same(name, b"traceparent")),
            (12, b'c') => hit(ContentType, same(name, b"content-type")),
            (12, b'g') => hit(GrpcTimeout, same(name, b"grpc-timeout")),
            (12, b'x') => hit(XRequestId, same(name, b"x-request-id")),
            (13, b'a') => hit(Authorization, same(name, b"authorization")),
            (13, b'c') if same(name, b"cache-control") => CacheControl,
            (13, b'c') => hit(ContentRange, same(name, b"content-range")),
            (14, b'c') => hit(ContentLength, same(name, b"content-length")),
            (14, b'h') => hit(Http2Settings, same(name, b"http2-settings")),
            (15, b'x') => hit(XForwardedFor, same(name, b"x-forwarded-for")),
            (16, b'c') => hit(ContentEncoding, same(name, b"content-encoding")),
            (16, b'p') => hit(ProxyConnection, same(name, b"proxy-connection")),
            (16, b'x') => hit(XForwardedHost, same(name, b"x-forwarded-host")),
            (17, b't') => hit(TransferEncoding, same(name, b"transfer-encoding")),
            (17, b'x') => hit(XForwardedProto, same(name, b"x-forwarded-proto")),
            (18, b'p') => hit(ProxyAuthenticate, same(name, b"proxy-authenticate")),
            (19, b'p') => hit(ProxyAuthorization, same(name, b"proxy-authorization")),
            (23, b'x') => hit(XForwardedClientCert, same(name, b"x-forwarded-client-cert")),
            _ => Other,
        }
    }

    /// The field has a meaning for framing, connection or routing that the codec itself takes from it.
    #[inline]
    pub(super) fn is_read(self) -> bool {
        (self as u8) >= FieldId::Host as u8 && (self as u8) <= FieldId::Te as u8
    }

    /// The field belongs to one connection and is never copied to the next (RFC 9110 section 7.6.1).
    #[inline]
    pub fn is_hop_by_hop(self) -> bool {
        use FieldId::*;
        matches!(
            self,
            TransferEncoding | Connection | Upgrade | Te | KeepAlive | ProxyConnection | Http2Settings
        )
    }

    /// `Connection` may not name it: it is for all recipients, and who could take it away could change what they see.
    pub(super) fn is_end_to_end(self) -> bool {
        use FieldId::*;
        matches!(
            self,
            Host | ContentLength
                | TransferEncoding
                | Expect
                | Authorization
                | Cookie
                | SetCookie
                | ContentType
                | ContentEncoding
                | ContentRange
                | CacheControl
                | Range
                | Location
                | Date
        )
    }

    /// Trailers may not carry it (RFC 9110 section 6.5.1): framing, routing, authentication, who called, and what must
    /// be known before the body.
    pub fn is_barred_from_trailers(self) -> bool {
        use FieldId::*;
        self.is_hop_by_hop()
            || self.is_end_to_end()
            || matches!(
                self,
                Trailer
                    | ProxyAuthorization
                    | ProxyAuthenticate
                    | Forwarded
                    | XForwardedFor
                    | XForwardedHost
                    | XForwardedProto
                    | XForwardedClientCert
                    | XRequestId
                    | Traceparent
                    | Tracestate
                    | GrpcTimeout
            )
    }
}

/// Whether a token equals a lower-case word of letters, digits and dashes, in any case.
#[inline]
pub(super) fn same<const N: usize>(text: &[u8], lower: &[u8; N]) -> bool {
    // Of fixed length, so that the compiler makes vector steps of it.
    let Ok(text) = <&[u8; N]>::try_from(text) else { return false };
    let mut different = 0;
    for at in 0..N {
        different |= (text[at] | 0x20) ^ lower[at];
    }
    different == 0
}

/// The id of a name whose underscores an application behind CGI or WSGI would read as dashes.
#[cold]
pub(super) fn disguised(name: &[u8]) -> FieldId {
    let mut dashed = [0; 32];
    let Some(dashed) = dashed.get_mut(..name.len()) else { return FieldId::Other };
    for (to, from) in dashed.iter_mut().zip(name) {
        *to = if *from == b'_' { b'-' } else { *from };
    }
    FieldId::of(dashed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_known_in_any_case_and_only_whole() {
        for (name, id) in [
            (&b"Host"[..], FieldId::Host),
            (b"HOST", FieldId::Host),
            (b"tRANSFER-eNCODING", FieldId::TransferEncoding),
            (b"content-length", FieldId::ContentLength),
            (b"Cache-Control", FieldId::CacheControl),
            (b"Content-Range", FieldId::ContentRange),
            (b"HTTP2-Settings", FieldId::Http2Settings),
            (b"X-Forwarded-Client-Cert", FieldId::XForwardedClientCert),
            (b"hosts", FieldId::Other),
            (b"content_length", FieldId::Other),
            (b"xontent-length", FieldId::Other),
            (b"", FieldId::Other),
        ] {
            assert_eq!(FieldId::of(name), id, "{}", String::from_utf8_lossy(name));
        }
        assert_eq!(disguised(b"Content_Length"), FieldId::ContentLength);
        assert_eq!(disguised(b"transfer_encoding"), FieldId::TransferEncoding);
        assert_eq!(disguised(b"some_thing"), FieldId::Other);
    }
}
