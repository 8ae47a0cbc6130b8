//! A packet in, a packet out, or silence. No packet panics and no answer is answered.

use std::net::IpAddr;
use std::sync::Arc;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{DNSClass, RecordType};
use tokio::sync::watch;

use super::upstream::{Found, Upstream};
use super::zone::{self, Answer};
use crate::snapshot::Snapshot;

/// Our UDP payload: what fits a path of any sane MTU (DNS flag day 2020).
pub(crate) const UDP_BYTES_MAX: u16 = 1232;
/// A client without EDNS takes this much.
const PLAIN_UDP_BYTES_MAX: u16 = 512;
const HEADER_BYTES: usize = 12;

/// How the question came, which bounds the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    Udp,
    Tcp,
}

pub(crate) struct Answerer {
    pub(crate) snapshot: watch::Receiver<Arc<Snapshot>>,
    pub(crate) upstream: Upstream,
}

/// What to do with a packet.
pub(crate) enum Step {
    /// Not a question; an answer could start a loop.
    Silence,
    Reply(Vec<u8>),
    /// Outside the mesh: ask upstream, which takes a while.
    Ask(Box<Pending>),
}

/// A question that waits for upstream.
pub(crate) struct Pending {
    reply: Message,
    query: Query,
    bytes_max: usize,
}

impl Answerer {
    /// Answers what the mesh knows at once.
    pub(crate) fn step(&self, packet: &[u8], peer: IpAddr, transport: Transport) -> Step {
        let request = match Message::from_vec(packet) {
            Ok(request) => request,
            Err(_) => return malformed(packet),
        };
        if request.metadata.message_type != MessageType::Query {
            return Step::Silence;
        }
        let mut reply = Message::response(request.metadata.id, request.metadata.op_code);
        reply.metadata.recursion_desired = request.metadata.recursion_desired;
        reply.metadata.recursion_available = true;
        reply.add_queries(request.queries.iter().cloned());
        let mut bytes_max = match transport {
            Transport::Udp => PLAIN_UDP_BYTES_MAX,
            Transport::Tcp => u16::MAX,
        };
        if let Some(edns) = &request.edns {
            let mut ours = Edns::new();
            ours.set_max_payload(UDP_BYTES_MAX);
            reply.set_edns(ours);
            if transport == Transport::Udp {
                bytes_max = edns.max_payload().clamp(PLAIN_UDP_BYTES_MAX, UDP_BYTES_MAX);
            }
        }
        let bytes_max = usize::from(bytes_max);
        let refuse = |mut reply: Message, code| {
            reply.metadata.response_code = code;
            packed(&reply, bytes_max)
        };
        if request.metadata.op_code != OpCode::Query {
            return refuse(reply, ResponseCode::NotImp);
        }
        if request.edns.as_ref().is_some_and(|edns| edns.version() > 0) {
            return refuse(reply, ResponseCode::BADVERS);
        }
        let [query] = request.queries.as_slice() else {
            return refuse(reply, ResponseCode::FormErr);
        };
        let transfer = matches!(query.query_type(), RecordType::AXFR | RecordType::IXFR);
        if query.query_class() != DNSClass::IN || transfer {
            return refuse(reply, ResponseCode::Refused);
        }
        let snapshot = self.snapshot.borrow().clone();
        let turn = usize::from(fastrand::u16(..));
        reply.metadata.authoritative = true;
        match zone::answer(&snapshot, query.name(), query.query_type(), turn) {
            Answer::Records { answers, additionals } => {
                reply.add_answers(answers).add_additionals(additionals);
            }
            Answer::Empty { soa } => {
                reply.add_authority(*soa);
            }
            Answer::NoSuchName { soa } => {
                reply.metadata.response_code = ResponseCode::NXDomain;
                reply.add_authority(*soa);
            }
            Answer::NotOurs => {
                reply.metadata.authoritative = false;
                if !may_recurse(peer) || !request.metadata.recursion_desired {
                    return refuse(reply, ResponseCode::Refused);
                }
                let query = query.clone();
                return Step::Ask(Box::new(Pending { reply, query, bytes_max }));
            }
        }
        packed(&reply, bytes_max)
    }

    /// Completes an answer with what upstream says.
    pub(crate) async fn ask(&self, pending: Pending) -> Option<Vec<u8>> {
        let Pending { mut reply, query, bytes_max } = pending;
        let Found { code, answers, authorities } =
            self.upstream.lookup(query.name(), query.query_type()).await;
        reply.metadata.response_code = code;
        reply.add_answers(answers).add_authorities(authorities);
        match packed(&reply, bytes_max) {
            Step::Reply(bytes) => Some(bytes),
            Step::Silence | Step::Ask(_) => None,
        }
    }
}

/// Only callers of private networks may have names of the world resolved: a resolver that is open to
/// the internet multiplies attacks on others.
fn may_recurse(peer: IpAddr) -> bool {
    match peer.to_canonical() {
        IpAddr::V4(ip) => {
            let shared = ip.octets()[0] == 100 && (64..128).contains(&ip.octets()[1]);
            ip.is_loopback() || ip.is_private() || ip.is_link_local() || shared
        }
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local(),
    }
}

/// A question that can't be read gets FORMERR, if it has a header that says it is a question.
fn malformed(packet: &[u8]) -> Step {
    let is_question = packet.len() >= HEADER_BYTES && packet[2] & 0x80 == 0;
    if !is_question {
        return Step::Silence;
    }
    let id = u16::from_be_bytes([packet[0], packet[1]]);
    packed(&Message::error_msg(id, OpCode::Query, ResponseCode::FormErr), usize::from(PLAIN_UDP_BYTES_MAX))
}

/// The bytes of an answer. One that is too long is sent without its records: the client asks by TCP.
fn packed(reply: &Message, bytes_max: usize) -> Step {
    match reply.to_vec() {
        Ok(bytes) if bytes.len() <= bytes_max => Step::Reply(bytes),
        _ => match reply.truncate().to_vec() {
            Ok(bytes) => Step::Reply(bytes),
            Err(error) => {
                tracing::debug!(%error, "a DNS answer can't be written");
                Step::Silence
            }
        },
    }
}
