//! What is said in the end: to a person, to a script, to an auditor.

use std::{collections::BTreeMap, net::SocketAddr};

use serde::Serialize;

/// How the capture itself went.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Capture {
    pub packets: u64,
    /// What the kernel saw and had no room to give us, of packets that the filter lets pass.
    pub dropped_packets: u64,
    /// Bytes of connections beyond the limit of those that are followed.
    pub untracked_bytes: u64,
}

/// The verdict, and what it rests on.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Report {
    pub ok: bool,
    /// Why it is not; a sentence each.
    pub because: Vec<String>,
    /// Connections between members that carried something.
    pub flows: u64,
    /// What they carried, as captured: headers of TCP and IP are not counted.
    pub bytes: u64,
    pub tls_bytes: u64,
    pub plaintext_bytes: u64,
    /// Of connections that began before the capture, and of which it can't be said what they are.
    pub unproven_bytes: u64,
    /// The rest of the record in which such a connection was joined; no more than one a direction.
    pub skipped_bytes: u64,
    /// On a connection, and not in the capture.
    pub lost_bytes: u64,
    /// Connections that no proxy lists.
    pub unlisted_flows: u64,
    /// Connections that only one of the two ends lists.
    pub one_sided_flows: u64,
    /// Connections by version. Which of them were read from the wire, `observed` says.
    pub versions: BTreeMap<String, u64>,
    pub ciphers: BTreeMap<String, u64>,
    pub groups: BTreeMap<String, u64>,
    /// Connections whose handshake was seen.
    pub observed: u64,
    /// Connections that began before the capture: their version and cipher are a proxy's word.
    pub as_reported: u64,
    pub pairs: Vec<Pair>,
    /// Every connection that is not as it must be.
    pub failures: Vec<Shown>,
    /// Connections that one end lists, the other end being one that gives no list, or not of this connection.
    pub one_sided: Vec<Shown>,
    /// Members of whom no connection was seen here.
    pub unseen_members: Vec<String>,
    /// Proxies that were asked for their connections and did not answer.
    pub silent_proxies: Vec<String>,
    pub capture: Capture,
}

/// Who calls whom.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Pair {
    pub from: String,
    pub to: String,
    pub flows: u64,
    pub bytes: u64,
    pub tls_bytes: u64,
    pub plaintext_bytes: u64,
    pub versions: BTreeMap<String, u64>,
    pub ciphers: BTreeMap<String, u64>,
    pub groups: BTreeMap<String, u64>,
    pub observed: u64,
    pub as_reported: u64,
    pub one_sided: u64,
    /// Who the two ends are to each other, by their certificates.
    pub identities: Vec<String>,
}

/// One connection.
#[derive(Debug, Clone, Serialize)]
pub struct Shown {
    pub from: String,
    pub to: String,
    pub client: SocketAddr,
    pub server: SocketAddr,
    pub bytes: u64,
    pub plaintext_bytes: u64,
    /// What the plaintext is, when it is known.
    pub protocol: Option<&'static str>,
    pub listed_by: Vec<String>,
    pub because: Vec<String>,
}
