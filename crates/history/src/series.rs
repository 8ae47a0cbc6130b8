//! What a measurement is about.

/// The key of a measurement cell. Services and callers are `NAMESPACE/NAME`.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Series {
    /// Empty: unknown.
    pub caller: String,
    pub service: String,
    pub version: String,
    pub route: String,
    /// The HTTP status; 0 for a TCP connection.
    pub code: u32,
    /// -1 for none.
    pub grpc_status: i32,
    /// `mtls`, `tls` or `none`.
    pub tls: String,
    /// `inbound`, or `external` when counted at the caller: to a service outside the mesh, or to a member that
    /// it could not reach.
    pub direction: String,
}

/// The direction of what the callee counted.
pub(crate) const INBOUND: &str = "inbound";

/// What stands for names that found no room.
pub const FOLDED: &str = "(other)";

impl Series {
    /// The series that takes this one's counts when there is no room for it: the service, the code and
    /// the encryption stay true.
    pub(crate) fn folded(&self) -> Self {
        Self {
            caller: FOLDED.to_owned(),
            version: FOLDED.to_owned(),
            route: FOLDED.to_owned(),
            ..self.clone()
        }
    }
}
