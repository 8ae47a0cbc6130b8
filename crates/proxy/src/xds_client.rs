//! The proxy's xDS stream: our own control plane over mTLS, or a foreign server as a bootstrap names it.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use envoy_types::pb::google::protobuf::{ListValue, Struct, Value, value::Kind};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _};
use tonic::transport::Channel;
use weft_identity::tls::{MinVersion, origination_config};
use weft_xds::{
    CDS, LDS, Node as XdsNode,
    client::{self, Mode, Names, Options, subscriptions},
};

use crate::{
    certificates::{self, Identity},
    channel,
    config::{Control, ForeignTls, ForeignXds, Node, Ports, VERSION, XdsMode},
    config_feed::ConfigFeed,
};

/// For the pause before an attempt and the attempt itself; each ends sooner by itself.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);

/// One aggregated stream.
pub struct Client {
    pub control: Option<Control>,
    pub foreign: Option<ForeignXds>,
    pub identity: Identity,
    pub node: XdsNode,
    pub feed: ConfigFeed,
}

impl Client {
    /// Runs for ever, with reconnects.
    pub async fn run(self) {
        let (subscriber, wishes) = subscriptions([(CDS, Names::All), (LDS, Names::All)]);
        self.feed.set_subscriber(subscriber);
        let mode = match self.foreign.as_ref().map(|foreign| foreign.mode) {
            Some(XdsMode::Delta) => Mode::Delta,
            _ => Mode::Sotw,
        };
        let (control, foreign, identity) =
            (self.control.map(Arc::new), self.foreign.map(Arc::new), self.identity);
        if control.is_some() {
            // The stream needs a certificate; without one a connection attempt would only be noise.
            identity.ready().await;
        }
        let feed = self.feed.clone();
        let connector = move || {
            let (pause, connecting) =
                (feed.pause(), connect(control.clone(), foreign.clone(), identity.clone()));
            async move {
                tokio::time::sleep(pause).await;
                connecting.await
            }
        };
        let options = Options { connect_timeout: CONNECT_TIMEOUT, ..Options::default() };
        client::run(connector, self.node, mode, wishes, self.feed, options).await;
    }
}

async fn connect(
    control: Option<Arc<Control>>,
    foreign: Option<Arc<ForeignXds>>,
    identity: Identity,
) -> Result<Channel, String> {
    if let Some(control) = control {
        let credentials = identity.ready().await;
        return certificates::connect(&control, &credentials).await.map_err(|error| error.to_string());
    }
    let foreign = foreign.ok_or("no xDS server is configured")?;
    let tls = match &foreign.tls {
        Some(tls) => Some(foreign_tls(tls, &foreign.address)?),
        None => None,
    };
    channel::connect(&foreign.address, tls).await.map_err(|error| error.to_string())
}

fn foreign_tls(
    tls: &ForeignTls,
    address: &str,
) -> Result<(Arc<rustls::ClientConfig>, ServerName<'static>), String> {
    let read =
        |path: &std::path::Path| std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()));
    let certificates = |pem: &[u8]| {
        CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>().map_err(|error| error.to_string())
    };
    let roots = match &tls.ca_file {
        Some(file) => certificates(&read(file)?)?,
        None => rustls_native_certs::load_native_certs().certs,
    };
    let client = match (&tls.chain_file, &tls.key_file) {
        (Some(chain), Some(key)) => {
            let key = PrivateKeyDer::from_pem_slice(&read(key)?).map_err(|error| error.to_string())?;
            Some((certificates(&read(chain)?)?, key))
        }
        _ => None,
    };
    let config =
        origination_config(&roots, client, &["h2"], MinVersion::Tls12).map_err(|error| error.to_string())?;
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let name = tls.sni.as_deref().unwrap_or(host).to_owned();
    Ok((config, ServerName::try_from(name).map_err(|error| error.to_string())?))
}

/// The node as the control plane sees it.
pub fn node(node: &Node, workload: &str, ports: &Ports) -> XdsNode {
    if let Some(raw) = &node.raw {
        return XdsNode {
            id: raw.id.clone(),
            cluster: raw.cluster.clone(),
            metadata: Some(Struct {
                fields: raw.metadata.iter().map(|(key, value)| (key.clone(), proto(value))).collect(),
            }),
            user_agent_name: "weft".to_owned(),
            ..XdsNode::default()
        };
    }
    let text = |text: &str| Value { kind: Some(Kind::StringValue(text.to_owned())) };
    let mut fields = BTreeMap::from([
        ("namespace", text(&node.namespace)),
        ("service", text(&node.service)),
        ("kind", text(&node.kind)),
        // Where its listener for other members is, which need not be the address that they use.
        ("address", text(&ports.inbound.map_or(node.address, |inbound| inbound.ip()).to_string())),
        ("app_address", text(&node.app_address.to_string())),
        ("version", text(VERSION)),
        // Private keys come to those only who say that they take them.
        ("secrets", text("ads")),
        // TCP connections to others may come as CONNECT streams, and ours may go so.
        ("tunnels", text("h2")),
        // Listeners may ask for gRPC-Web.
        ("grpc_web", text("filter")),
        // Listeners may say whose PROXY header is believed.
        ("proxy_protocol", text("from")),
    ]);
    if let Some(inbound) = ports.inbound {
        fields.insert("inbound_port", Value { kind: Some(Kind::NumberValue(f64::from(inbound.port()))) });
    }
    if let Some(outbound) = ports.outbound {
        fields.insert("outbound_address", text(&outbound.to_string()));
    }
    if !node.datagrams.is_empty() {
        let values = node.datagrams.iter().map(|one| text(&format!("{}={}", one.at, one.to))).collect();
        fields.insert("udp", Value { kind: Some(Kind::ListValue(ListValue { values })) });
    }
    XdsNode {
        id: format!("{}/{workload}", node.namespace),
        cluster: node.service.clone(),
        metadata: Some(Struct {
            fields: fields.into_iter().map(|(key, value)| (key.to_owned(), value)).collect(),
        }),
        user_agent_name: "weft".to_owned(),
        ..XdsNode::default()
    }
}

/// JSON as protobuf has it.
fn proto(value: &serde_json::Value) -> Value {
    let kind = match value {
        serde_json::Value::Null => Kind::NullValue(0),
        serde_json::Value::Bool(truth) => Kind::BoolValue(*truth),
        serde_json::Value::Number(number) => Kind::NumberValue(number.as_f64().unwrap_or(0.0)),
        serde_json::Value::String(text) => Kind::StringValue(text.clone()),
        serde_json::Value::Array(values) => {
            Kind::ListValue(ListValue { values: values.iter().map(proto).collect() })
        }
        serde_json::Value::Object(fields) => Kind::StructValue(Struct {
            fields: fields.iter().map(|(key, value)| (key.clone(), proto(value))).collect(),
        }),
    };
    Value { kind: Some(kind) }
}
