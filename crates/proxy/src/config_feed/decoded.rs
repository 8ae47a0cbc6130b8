//! Resources of one type, read by `weft-routing`: all of them or the text of a NACK.

use std::sync::Arc;

use weft_routing::{Cluster, Endpoints, Listener, Problem, RouteConfig, Secret, Strictness, Warning};
use weft_xds::Resource;

use crate::upstream::tls;

/// Problems in one NACK; more would not be read.
const PROBLEMS_SHOWN_MAX: usize = 20;

/// An update's resources after reading.
pub enum Decoded {
    Clusters(Vec<Arc<Cluster>>),
    Endpoints(Vec<Arc<Endpoints>>),
    Listeners(Vec<Arc<Listener>>),
    Routes(Vec<Arc<RouteConfig>>),
    Secrets(Vec<Arc<Secret>>),
}

impl Decoded {
    /// All problems of all resources, as the text of a NACK.
    pub fn of(kind: &str, resources: &[&Arc<Resource>], strictness: Strictness) -> Result<Decoded, String> {
        Ok(match kind {
            weft_xds::CDS => Decoded::Clusters(all(
                resources,
                |any| weft_routing::cluster(any, strictness),
                |found| &found.name,
            )?),
            weft_xds::EDS => Decoded::Endpoints(all(
                resources,
                |any| weft_routing::load_assignment(any, strictness),
                |found| &found.name,
            )?),
            weft_xds::LDS => Decoded::Listeners(all(
                resources,
                |any| weft_routing::listener(any, strictness),
                |found| &found.name,
            )?),
            weft_xds::SDS => {
                Decoded::Secrets(all(resources, |any| secret(any, strictness), |found| &found.name)?)
            }
            _ => Decoded::Routes(all(
                resources,
                |any| weft_routing::route_config(any, strictness),
                |found| &found.name,
            )?),
        })
    }
}

/// Also looked into: a key that does not fit must not take the place of one that does.
fn secret(
    any: &weft_xds::Any,
    strictness: Strictness,
) -> Result<weft_routing::Decoded<Secret>, Vec<Problem>> {
    let decoded = weft_routing::secret(any, strictness)?;
    match tls::client_certificate(&decoded.value.certificate) {
        Ok(_) => Ok(decoded),
        Err(reason) => Err(vec![Problem {
            resource: decoded.value.name.to_string(),
            path: "tls_certificate".to_owned(),
            message: reason,
        }]),
    }
}

fn all<T>(
    resources: &[&Arc<Resource>],
    decode: impl Fn(&weft_xds::Any) -> Result<weft_routing::Decoded<T>, Vec<Problem>>,
    name: impl Fn(&T) -> &str,
) -> Result<Vec<Arc<T>>, String> {
    let mut values = Vec::with_capacity(resources.len());
    let mut problems = Vec::new();
    for resource in resources {
        match decode(&resource.body) {
            // Under another name it would take the place of a resource that nobody meant to change.
            Ok(decoded) if name(&decoded.value) != resource.name => problems.push(Problem {
                resource: resource.name.clone(),
                path: String::new(),
                message: format!("its body has another name, {:?}", name(&decoded.value)),
            }),
            Ok(decoded) => {
                decoded.warnings.iter().for_each(warn);
                values.push(Arc::new(decoded.value));
            }
            Err(found) => {
                problems.extend(found.into_iter().map(|problem| match problem.resource.is_empty() {
                    // Bytes that don't decode have no name of their own.
                    true => Problem { resource: resource.name.clone(), ..problem },
                    false => problem,
                }))
            }
        }
    }
    if problems.is_empty() { Ok(values) } else { Err(nack(&problems)) }
}

fn warn(warning: &Warning) {
    tracing::warn!(%warning, "a field of the configuration is passed over");
}

/// `resource: path: message`, a line each.
pub fn nack(problems: &[Problem]) -> String {
    let mut lines: Vec<String> = problems.iter().take(PROBLEMS_SHOWN_MAX).map(Problem::to_string).collect();
    if problems.len() > PROBLEMS_SHOWN_MAX {
        lines.push(format!("and {} more", problems.len() - PROBLEMS_SHOWN_MAX));
    }
    lines.join("\n")
}
