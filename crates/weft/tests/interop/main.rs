//! Real peers under our control plane: kubectl, Envoy, a gRPC client, and tshark on the wire.
//!
//! A missing peer is a failed test, unless `cargo xtask test --offline-peers` left them out aloud.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a failed test panics; that is its answer"
)]

mod capture;
mod envoy;
mod grpc;
mod kubectl;
#[cfg(feature = "autobahn")]
mod websocket;

/// The binary under test.
pub const WEFT: &str = env!("CARGO_BIN_EXE_weft");

/// A service `be5` whose only endpoint is another member's: its proxy at `inbound`, its app's port `app`, said to
/// have the identity of `identity`. A caller that verifies whom it reached calls it only if that is true.
fn imposter(mesh: &weft_testkit::Mesh, identity: &str, inbound: u16, app: u16, protocol: &str) {
    let objects = format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: be5}}\nspec: {{selector: {{app: be5}}, ports: [{{port: 80, targetPort: {app}, appProtocol: {protocol}}}]}}\n---\napiVersion: weft.dev/v1\nkind: Workload\nmetadata: {{name: be5-1, labels: {{app: be5}}}}\nspec: {{service: be5, address: 127.0.0.1, ports: [{{port: {app}}}], inboundPort: {inbound}, identity: \"spiffe://mesh.internal/ns/default/sa/{identity}\", proxy: {{kind: weft}}}}\n"
    );
    mesh.apply(&objects).unwrap();
}
