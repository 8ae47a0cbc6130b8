//! A response taken apart: names found, envelopes removed, nonsense named.

use std::collections::BTreeSet;
use std::sync::Arc;

use envoy_types::pb::envoy::service::discovery::v3 as discovery;
use prost::Message;

use crate::{Any, Resource, types, wire};

#[derive(Debug)]
pub(super) struct Received {
    pub resources: Vec<Arc<Resource>>,
    pub removed: Vec<String>,
    pub version: String,
}

/// Type URL and nonce, which the answer needs in any case, and the content or the NACK's text.
pub(super) type Opened = (String, String, Result<Received, String>);

pub(super) fn sotw(response: discovery::DiscoveryResponse) -> Opened {
    let resources = response.resources.into_iter().map(named).collect::<Vec<_>>();
    let received = check(&response.type_url, resources).map(|resources| Received {
        resources,
        removed: Vec::new(),
        version: response.version_info,
    });
    (response.type_url, response.nonce, received)
}

pub(super) fn delta(response: discovery::DeltaDiscoveryResponse) -> Opened {
    let resources = response
        .resources
        .into_iter()
        // A resource without a body only renews a time to live, which we do not ask for.
        .filter(|resource| resource.resource.is_some())
        .map(wrapped)
        .collect::<Vec<_>>();
    let received = check(&response.type_url, resources).map(|resources| Received {
        resources,
        removed: response.removed_resources,
        version: response.system_version_info,
    });
    (response.type_url, response.nonce, received)
}

/// State of the world names a resource by its envelope, or else only in its body.
fn named(body: Any) -> Result<Resource, String> {
    if body.type_url == types::WRAPPER {
        let resource = discovery::Resource::decode(body.value.as_slice())
            .map_err(|error| format!("a resource envelope does not decode: {error}"))?;
        return wrapped(resource);
    }
    match wire::name(&body.value) {
        Some(name) => Ok(Resource::received(name.to_owned(), None, body)),
        None => Err(match wire::name_so_far(&body.value) {
            Some(name) => format!("{name}: does not decode as {}", body.type_url),
            None => format!("a resource of {} does not decode or has no name", body.type_url),
        }),
    }
}

fn wrapped(resource: discovery::Resource) -> Result<Resource, String> {
    let version = Some(resource.version).filter(|version| !version.is_empty());
    match resource.resource {
        Some(body) => Ok(Resource::received(resource.name, version, body)),
        None => Err(format!("{}: the envelope is empty", resource.name)),
    }
}

/// All problems, not the first.
fn check(type_url: &str, resources: Vec<Result<Resource, String>>) -> Result<Vec<Arc<Resource>>, String> {
    let mut problems = Vec::new();
    let mut names = BTreeSet::new();
    let mut good = Vec::with_capacity(resources.len());
    for resource in resources {
        match resource {
            Err(problem) => problems.push(problem),
            Ok(resource) if resource.type_url() != type_url => problems.push(format!(
                "{}: type {} in a response of {type_url}",
                resource.name,
                resource.type_url()
            )),
            Ok(resource) if !names.insert(resource.name.clone()) => {
                problems.push(format!("{}: twice in one response", resource.name));
            }
            Ok(resource) => good.push(Arc::new(resource)),
        }
    }
    if problems.is_empty() { Ok(good) } else { Err(problems.join("; ")) }
}
