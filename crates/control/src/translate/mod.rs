//! A snapshot and a proxy's view in, its xDS resources out. Pure: the same two give the same bytes.
//!
//! [`reach`] decides which services the proxy may hear of; [`clusters`], [`endpoints`], [`listeners`]
//! and [`routes`] say how to get there; [`policies`] says who may come in; [`names`] is the contract
//! of what it is all called. What a kind of proxy can't enforce is left out, so that the port refuses,
//! and becomes a finding: never a route without its policy.

pub mod actions;
pub mod clusters;
pub mod datagrams;
pub mod endpoints;
pub mod external;
pub mod grants;
pub mod grpc;
pub mod headers;
pub mod inbound;
pub mod listeners;
pub mod manager;
pub mod names;
pub mod policies;
pub mod proto;
pub mod reach;
pub mod routes;
pub mod rules;
pub mod shared;
pub mod tls;
pub mod traffic;
pub mod view;

use std::sync::Arc;

use weft_model::{Finding, Severity};
use weft_xds::Resources;
use weft_xds::resources::Builder;

use crate::snapshot::Snapshot;
use reach::Reach;
use shared::{Part, Shared};
use view::{ProxyKind, ProxyView};

/// What a view gets, and what its operator should know.
#[derive(Clone, Debug)]
pub struct Translation {
    /// Everything the proxy may ask for.
    pub resources: Resources,
    /// What could not be carried out as wished.
    pub findings: Vec<Finding>,
}

/// The resources of one view.
pub fn for_view(snapshot: &Snapshot, view: &ProxyView) -> Translation {
    for_view_after(snapshot, view, Resources::builder())
}

/// The same, into a builder that knows the resources before, to share what did not change.
pub fn for_view_after(snapshot: &Snapshot, view: &ProxyView, builder: Builder) -> Translation {
    translate(snapshot, view, builder, |reach| Arc::new(shared::part(snapshot, view, reach)))
}

/// The same, with what other views of the snapshot have made already.
pub fn for_view_shared(shared: &Shared, view: &ProxyView, builder: Builder) -> Translation {
    translate(&shared.snapshot, view, builder, |reach| shared.part(view, reach))
}

fn translate(
    snapshot: &Snapshot,
    view: &ProxyView,
    builder: Builder,
    part: impl FnOnce(&Reach) -> Arc<Part>,
) -> Translation {
    let mut made = Made { snapshot, view, builder, findings: Vec::new() };
    let reach = Reach::of(snapshot, view);
    if view.kind == ProxyKind::Grpc {
        grpc::build(&mut made, &reach);
    } else {
        let part = part(&reach);
        for resource in &part.resources {
            made.builder.put(Arc::clone(resource));
        }
        made.findings.extend(part.findings.iter().cloned());
        listeners::outbound_at(&mut made, &part.outbound);
        datagrams::build(&mut made, &reach);
        inbound::build(&mut made);
    }
    let resources = made.builder.build(&snapshot.revision.to_string());
    let mut findings = made.findings;
    findings.sort_by(|a, b| (&a.object, a.code, &a.message).cmp(&(&b.object, b.code, &b.message)));
    findings.dedup_by(|a, b| (&a.object, a.code, &a.message) == (&b.object, b.code, &b.message));
    Translation { resources, findings }
}

/// What is being made, and of what.
pub struct Made<'a> {
    /// The wishes.
    pub snapshot: &'a Snapshot,
    /// Whom it is for.
    pub view: &'a ProxyView,
    /// The resources so far.
    pub builder: Builder,
    /// The findings so far.
    pub findings: Vec<Finding>,
}

impl Made<'_> {
    /// Notes what was not carried out.
    pub fn found(
        &mut self,
        code: &'static str,
        severity: Severity,
        object: String,
        message: String,
        hint: &str,
    ) {
        self.findings.push(Finding { code, severity, object, message, hint: hint.to_owned() });
    }
}

#[cfg(test)]
mod tests;
