//! The zone of the mesh, read from a snapshot. Pure: a name and a type in, records out.
//!
//! | name | A | SRV |
//! |---|---|---|
//! | `NAME.NS.zone` | the virtual address; of a headless service its instances | all ports |
//! | `_PORT._tcp.NAME.NS.zone` | | that port; a port without a name is called by its protocol |
//! | `INSTANCE.NAME.NS.zone` | one instance of a headless service | |
//!
//! A name that exists without such records is an empty answer, every other name of the zone NXDOMAIN;
//! both carry the SOA, so that "no" is remembered for a few seconds only.

use std::net::{IpAddr, Ipv4Addr};

use hickory_proto::rr::rdata::{A, AAAA, NS, SOA, SRV};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use weft_model::{Body, ExternalProtocol, Kind, Protocol};

use crate::snapshot::{Instance, Port, ServiceId, ServiceView, Snapshot, Target};
use crate::translate::endpoints;

/// How long an answer may be remembered: members come and go.
pub(crate) const TTL_SECONDS: u32 = 5;
/// Records of one answer; a headless service of more instances shows some of them.
const RECORDS_MAX: usize = 256;

/// What the zone says to a question.
#[derive(Debug, PartialEq)]
pub(crate) enum Answer {
    /// The name is outside the zone.
    NotOurs,
    Records {
        answers: Vec<Record>,
        additionals: Vec<Record>,
    },
    /// The name exists, but not with records of this type.
    Empty {
        soa: Box<Record>,
    },
    NoSuchName {
        soa: Box<Record>,
    },
}

/// Answers one question. `turn` rotates lists, so that callers who take the first differ.
pub(crate) fn answer(snapshot: &Snapshot, name: &Name, kind: RecordType, turn: usize) -> Answer {
    let Ok(zone) = Name::from_ascii(format!("{}.", snapshot.zone)) else { return Answer::NotOurs };
    let mut asked = name.clone();
    asked.set_fqdn(true);
    if !zone.zone_of(&asked) {
        return Answer::NotOurs;
    }
    let inside = usize::from(asked.num_labels() - zone.num_labels());
    let labels: Vec<String> =
        asked.iter().take(inside).map(|label| String::from_utf8_lossy(label).to_ascii_lowercase()).collect();
    let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
    let question = Question { snapshot, zone: &zone, name, kind, turn };
    let found = match labels.as_slice() {
        [] => question.apex(),
        [namespace] => question.has_namespace(namespace).then(Vec::new),
        [service, namespace] => question.service(namespace, service),
        [proto, service, namespace] if proto.starts_with('_') => {
            (*proto == "_tcp" && question.exists(namespace, service)).then(Vec::new)
        }
        [instance, service, namespace] => question.instance(namespace, service, instance),
        [port, "_tcp", service, namespace] => question.port(namespace, service, port),
        _ => None,
    };
    match found {
        None => Answer::NoSuchName { soa: Box::new(question.soa()) },
        Some(answers) if answers.is_empty() => Answer::Empty { soa: Box::new(question.soa()) },
        Some(answers) => {
            let additionals = question.targets_of(&answers);
            Answer::Records { answers, additionals }
        }
    }
}

struct Question<'a> {
    snapshot: &'a Snapshot,
    zone: &'a Name,
    /// As asked, so that its upper and lower case comes back.
    name: &'a Name,
    kind: RecordType,
    turn: usize,
}

/// A port with what it is called in SRV names.
struct NamedPort {
    name: String,
    port: Port,
}

/// `None`: no such name. An empty list: it exists, but has nothing of this type.
type Found = Option<Vec<Record>>;

impl Question<'_> {
    fn apex(&self) -> Found {
        Some(match self.kind {
            RecordType::SOA | RecordType::ANY => vec![self.soa()],
            RecordType::NS => vec![self.record(RData::NS(NS(self.zone.clone())))],
            _ => Vec::new(),
        })
    }

    fn service(&self, namespace: &str, name: &str) -> Found {
        if !self.exists(namespace, name) {
            return None;
        }
        Some(match self.kind {
            RecordType::A | RecordType::ANY | RecordType::AAAA => {
                self.addresses(namespace, name, self.name, self.kind)
            }
            RecordType::SRV => self
                .ports(namespace, name)
                .iter()
                .flat_map(|port| self.locations(namespace, name, &port.port))
                .take(RECORDS_MAX)
                .collect(),
            _ => Vec::new(),
        })
    }

    fn port(&self, namespace: &str, service: &str, label: &str) -> Found {
        let wanted = label.strip_prefix('_')?;
        let ports = self.ports(namespace, service);
        let named: Vec<&NamedPort> = ports.iter().filter(|port| port.name == wanted).collect();
        if named.is_empty() {
            return None;
        }
        Some(match self.kind {
            RecordType::SRV | RecordType::ANY => named
                .into_iter()
                .flat_map(|port| self.locations(namespace, service, &port.port))
                .take(RECORDS_MAX)
                .collect(),
            _ => Vec::new(),
        })
    }

    fn instance(&self, namespace: &str, service: &str, instance: &str) -> Found {
        let view = self.view(namespace, service).filter(|view| view.vip.is_none())?;
        let found = view.instances.iter().find(|found| found.name == instance)?;
        Some(address_record(self.name, found.address, self.kind).into_iter().collect())
    }

    /// Address records of a service: its virtual address, or its serving instances.
    fn addresses(&self, namespace: &str, service: &str, owner: &Name, kind: RecordType) -> Vec<Record> {
        match self.vip(namespace, service) {
            Some(vip) => address_record(owner, IpAddr::V4(vip), kind).into_iter().collect(),
            None => self
                .serving(namespace, service)
                .filter_map(|instance| address_record(owner, instance.address, kind))
                .take(RECORDS_MAX)
                .collect(),
        }
    }

    /// Where a port of a service is: at the service's name, or at each instance of a headless one.
    fn locations(&self, namespace: &str, service: &str, port: &Port) -> Vec<Record> {
        let at = |labels: &[&str], number: u16| {
            let target = self.name_in_zone(labels)?;
            Some(self.record(RData::SRV(SRV::new(0, 100, number, target))))
        };
        match self.vip(namespace, service) {
            Some(_) => at(&[service, namespace], port.port).into_iter().collect(),
            None => self
                .serving(namespace, service)
                .filter_map(|instance| {
                    at(&[&instance.name, service, namespace], instance.port(&port.target)?)
                })
                .collect(),
        }
    }

    /// The addresses of SRV targets, so that the caller need not ask again.
    fn targets_of(&self, answers: &[Record]) -> Vec<Record> {
        let mut seen: Vec<&Name> = Vec::new();
        let mut additionals = Vec::new();
        for answer in answers {
            let RData::SRV(srv) = &answer.data else { continue };
            if seen.contains(&&srv.target) || additionals.len() >= RECORDS_MAX / 4 {
                continue;
            }
            seen.push(&srv.target);
            if let self::Answer::Records { answers, .. } =
                self::answer(self.snapshot, &srv.target, RecordType::A, self.turn)
            {
                additionals.extend(answers);
            }
        }
        additionals
    }

    fn exists(&self, namespace: &str, name: &str) -> bool {
        self.view(namespace, name).is_some()
            || self.snapshot.object(Kind::ExternalService, namespace, name).is_some()
    }

    fn has_namespace(&self, namespace: &str) -> bool {
        self.snapshot.services.keys().any(|id| id.namespace == namespace)
            || self.snapshot.of_kind(Kind::ExternalService).any(|(id, _)| id.namespace == namespace)
    }

    fn view(&self, namespace: &str, name: &str) -> Option<&ServiceView> {
        self.snapshot.services.get(&ServiceId::new(namespace, name)).map(AsRef::as_ref)
    }

    fn vip(&self, namespace: &str, name: &str) -> Option<Ipv4Addr> {
        match self.view(namespace, name) {
            Some(view) => view.vip,
            None => self.snapshot.external_vips.get(&ServiceId::new(namespace, name)).copied(),
        }
    }

    /// The instances that may be sent work, beginning with another one each time. The rule is that of the endpoints:
    /// the healthy and those not known to be ill; when there are none of these, all that can be reached.
    fn serving(&self, namespace: &str, name: &str) -> impl Iterator<Item = &Instance> {
        let (instances, ports) =
            self.view(namespace, name).map_or((&[][..], &[][..]), |view| (&view.instances, &view.ports));
        let start = self.turn.checked_rem(instances.len()).unwrap_or(0);
        let (before, after) = instances.split_at(start);
        let all_ill = !instances.iter().any(|instance| instance.serves());
        let reached = |instance: &Instance| {
            ports.iter().any(|port| endpoints::address(self.snapshot, instance, port).is_some())
        };
        after
            .iter()
            .chain(before)
            .map(AsRef::as_ref)
            .filter(move |instance| if all_ill { reached(instance) } else { instance.serves() })
    }

    fn ports(&self, namespace: &str, name: &str) -> Vec<NamedPort> {
        let named = |name: &Option<String>, port: Port| {
            let name = name.clone().unwrap_or_else(|| protocol_name(port.protocol).to_owned());
            NamedPort { name: name.to_ascii_lowercase(), port }
        };
        if let Some(view) = self.view(namespace, name) {
            return view.ports.iter().map(|port| named(&port.name, port.clone())).collect();
        }
        let Some(stamped) = self.snapshot.object(Kind::ExternalService, namespace, name) else {
            return Vec::new();
        };
        let Body::ExternalService(external) = &stamped.object.body else { return Vec::new() };
        external
            .ports
            .iter()
            // The virtual address takes no datagrams.
            .filter(|port| !port.protocol.is_udp())
            .map(|port| {
                let called = port.name.clone().or_else(|| Some(external_name(port.protocol).to_owned()));
                let number = port.port;
                let port = Port {
                    name: None,
                    port: number,
                    target: Target::Number(number),
                    protocol: Protocol::Tcp,
                };
                named(&called, port)
            })
            .collect()
    }

    fn name_in_zone(&self, labels: &[&str]) -> Option<Name> {
        Name::from_labels(labels.iter().map(|label| label.as_bytes())).ok()?.append_domain(self.zone).ok()
    }

    fn record(&self, data: RData) -> Record {
        Record::from_rdata(self.name.clone(), TTL_SECONDS, data)
    }

    fn soa(&self) -> Record {
        let contact = self.name_in_zone(&["hostmaster"]).unwrap_or_else(|| self.zone.clone());
        // Serial numbers wrap (RFC 1982); nobody transfers this zone.
        let serial = (self.snapshot.revision & u64::from(u32::MAX)) as u32;
        let soa = SOA::new(self.zone.clone(), contact, serial, 3600, 600, 86_400, TTL_SECONDS);
        Record::from_rdata(self.zone.clone(), TTL_SECONDS, RData::SOA(soa))
    }
}

/// The address, if it is of the family that was asked for. ANY is answered with A (RFC 8482).
fn address_record(owner: &Name, address: IpAddr, kind: RecordType) -> Option<Record> {
    let data = match (address, kind) {
        (IpAddr::V4(address), RecordType::A | RecordType::ANY) => RData::A(A(address)),
        (IpAddr::V6(address), RecordType::AAAA | RecordType::ANY) => RData::AAAA(AAAA(address)),
        _ => return None,
    };
    Some(Record::from_rdata(owner.clone(), TTL_SECONDS, data))
}

fn protocol_name(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Http => "http",
        Protocol::Http2 => "http2",
        Protocol::Https => "https",
        Protocol::Tls => "tls",
        Protocol::Tcp => "tcp",
    }
}

fn external_name(protocol: ExternalProtocol) -> &'static str {
    match protocol {
        ExternalProtocol::Http => "http",
        ExternalProtocol::Http2 => "http2",
        ExternalProtocol::Https => "https",
        ExternalProtocol::Tls => "tls",
        ExternalProtocol::Tcp => "tcp",
        ExternalProtocol::Udp => "udp",
    }
}
