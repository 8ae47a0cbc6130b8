//! Names outside the mesh, asked of the machine's own resolvers (`/etc/resolv.conf`).

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::{Name, Record, RecordType};
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::{ResolverBuilder, TokioResolver};
use tokio::sync::Semaphore;
use tokio::time::{Duration, timeout};

/// Questions on their way to upstream at one time; more are answered SERVFAIL.
const LOOKUPS_MAX: usize = 512;
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(8);

pub(crate) struct Upstream {
    resolver: Option<TokioResolver>,
    places: Semaphore,
}

/// What upstream said.
pub(crate) struct Found {
    pub(crate) code: ResponseCode,
    pub(crate) answers: Vec<Record>,
    pub(crate) authorities: Vec<Record>,
}

impl Found {
    fn failed() -> Found {
        Found { code: ResponseCode::ServFail, answers: Vec::new(), authorities: Vec::new() }
    }
}

impl Upstream {
    /// A machine without resolvers still has its mesh; other names then fail.
    pub(crate) fn system() -> Upstream {
        let resolver = TokioResolver::builder_tokio().and_then(ResolverBuilder::build);
        if let Err(error) = &resolver {
            tracing::warn!(%error, "no upstream DNS: names outside the mesh are answered SERVFAIL");
        }
        Upstream { resolver: resolver.ok(), places: Semaphore::new(LOOKUPS_MAX) }
    }

    #[cfg(test)]
    pub(crate) fn none() -> Upstream {
        Upstream { resolver: None, places: Semaphore::new(LOOKUPS_MAX) }
    }

    pub(crate) async fn lookup(&self, name: &Name, kind: RecordType) -> Found {
        let (Some(resolver), Ok(_place)) = (&self.resolver, self.places.try_acquire()) else {
            return Found::failed();
        };
        // Fully qualified, so that the machine's search list is not tried on it.
        let mut name = name.clone();
        name.set_fqdn(true);
        match timeout(LOOKUP_TIMEOUT, resolver.lookup(name, kind)).await {
            Ok(Ok(lookup)) => Found {
                code: ResponseCode::NoError,
                answers: lookup.answers().to_vec(),
                authorities: Vec::new(),
            },
            Ok(Err(NetError::Dns(DnsError::NoRecordsFound(none)))) => Found {
                code: none.response_code,
                answers: Vec::new(),
                authorities: none.soa.map(|soa| vec![soa.into_record_of_rdata()]).unwrap_or_default(),
            },
            Ok(Err(error)) => {
                tracing::debug!(%error, "upstream DNS failed");
                Found::failed()
            }
            Err(_) => Found::failed(),
        }
    }
}
