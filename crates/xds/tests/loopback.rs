//! Both ends over real gRPC on the loopback, in both variants: updates, a NACK, a lost
//! connection, and the secret service.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use envoy_types::pb::envoy::config::cluster::v3::Cluster;
use envoy_types::pb::envoy::config::endpoint::v3::ClusterLoadAssignment;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::Secret;
use envoy_types::pb::envoy::service::discovery::v3::DiscoveryRequest;
use envoy_types::pb::envoy::service::secret::v3::secret_discovery_service_client::SecretDiscoveryServiceClient;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, watch};
use tokio_stream::StreamExt;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::Status;
use tonic::transport::{Endpoint, Server};
use weft_xds::client::{self, Event, Handler, Mode, Names, Options, Subscriber, Update};
use weft_xds::server::{self, Peer, Report, Source, Subscription};
use weft_xds::{CDS, EDS, Node, Resources, SDS};

const PATIENCE: Duration = Duration::from_secs(20);

struct Origin {
    resources: watch::Receiver<Arc<Resources>>,
    reports: mpsc::UnboundedSender<Report>,
    seen: Mutex<Vec<(Peer, String)>>,
}

impl Source for Origin {
    fn subscribe(&self, peer: &Peer, node: &Node) -> Result<Subscription, Status> {
        if node.id == "default/intruder" {
            return Err(Status::permission_denied("not a member"));
        }
        self.seen.lock().unwrap().push((peer.clone(), node.id.clone()));
        let reports = self.reports.clone();
        Ok(Subscription {
            resources: self.resources.clone(),
            report: Box::new(move |report| {
                let _ = reports.send(report);
            }),
        })
    }
}

/// Clusters and their endpoints, by the same name; `alt` tells contents apart.
fn snapshot(names: &[&str], alt: &str) -> Arc<Resources> {
    let mut builder = Resources::builder();
    for name in names {
        let cluster =
            Cluster { name: (*name).to_owned(), alt_stat_name: alt.to_owned(), ..Default::default() };
        let endpoints = ClusterLoadAssignment { cluster_name: (*name).to_owned(), ..Default::default() };
        builder.message(*name, &cluster).message(*name, &endpoints);
    }
    let secret = Secret { name: "default".to_owned(), ..Default::default() };
    builder.message("default", &secret);
    Arc::new(builder.build(alt))
}

/// On a runtime of its own: shutting that down cuts the connections too, as a crash would.
fn serve(address: SocketAddr, origin: Arc<Origin>) -> (SocketAddr, Runtime) {
    let listener = std::net::TcpListener::bind(address).unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    let identify = |mut request: tonic::Request<()>| {
        let peer = Peer(Some("spiffe://mesh.internal/ns/default/sa/fe".to_owned()));
        request.extensions_mut().insert(peer);
        Ok(request)
    };
    let routes = Server::builder()
        .layer(tonic::service::InterceptorLayer::new(identify))
        .add_service(server::service(origin.clone()))
        .add_service(server::secret_service(origin));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.spawn(async move {
        let listener = TcpListener::from_std(listener).unwrap();
        routes.serve_with_incoming(TcpListenerStream::new(listener)).await.unwrap();
    });
    (address, runtime)
}

/// Asks for the endpoints of each cluster it hears of, and tells the test all that it holds.
struct Proxy {
    subscriber: Subscriber,
    held: BTreeMap<String, BTreeMap<String, String>>,
    told: watch::Sender<BTreeMap<String, BTreeMap<String, String>>>,
    events: mpsc::UnboundedSender<Event>,
}

impl Handler for Proxy {
    fn apply(&mut self, type_url: &str, update: Update) -> Result<(), String> {
        if let Some(bad) = update.added.iter().find(|resource| resource.name == "bad") {
            return Err(format!("{}: not so", bad.name));
        }
        let held = self.held.entry(type_url.to_owned()).or_default();
        held.retain(|name, _| !update.full && !update.removed.contains(name));
        for resource in &update.added {
            held.insert(resource.name.clone(), resource.version.clone());
        }
        if type_url == CDS {
            let names = Names::only(held.keys().cloned());
            if let Some(endpoints) = self.held.get_mut(EDS) {
                endpoints.retain(|name, _| names.contain(name));
            }
            self.subscriber.set(EDS, names);
        }
        self.told.send_replace(self.held.clone());
        Ok(())
    }

    fn event(&mut self, event: Event) {
        let _ = self.events.send(event);
    }
}

fn versions(resources: &Resources) -> BTreeMap<String, BTreeMap<String, String>> {
    let of_type = |type_url: &str| {
        let by_name = &resources.of_type(type_url).unwrap().by_name;
        let versions = by_name.iter().map(|(name, resource)| (name.clone(), resource.version.clone()));
        (type_url.to_owned(), versions.collect())
    };
    [CDS, EDS].map(of_type).into_iter().collect()
}

async fn both_ends(mode: Mode) {
    let (publish, resources) = watch::channel(snapshot(&["a", "b"], "1"));
    let (reports, mut heard) = mpsc::unbounded_channel();
    let origin = Arc::new(Origin { resources, reports, seen: Mutex::default() });
    let (address, serving) = serve("127.0.0.1:0".parse().unwrap(), origin.clone());

    let (subscriber, subscriptions) = client::subscriptions([(CDS, Names::All)]);
    let (told, mut holds) = watch::channel(BTreeMap::new());
    let (events, mut happened) = mpsc::unbounded_channel();
    let proxy = Proxy { subscriber, held: BTreeMap::new(), told, events };
    let node = Node { id: "default/fe-1".to_owned(), ..Default::default() };
    // A server that comes back does so elsewhere: its old port may be taken.
    let (moved, at) = watch::channel(address);
    let connector = move || {
        let address = *at.borrow();
        async move { Endpoint::from_shared(format!("http://{address}")).unwrap().connect().await }
    };
    let running = tokio::spawn(client::run(connector, node, mode, subscriptions, proxy, Options::default()));

    let mut until_held = async |expected: Arc<Resources>| {
        let expected = versions(&expected);
        holds.wait_for(|held| *held == expected).await.unwrap();
    };
    until_held(snapshot(&["a", "b"], "1")).await;
    assert_eq!(happened.recv().await, Some(Event::Connected));
    let peer = Peer(Some("spiffe://mesh.internal/ns/default/sa/fe".to_owned()));
    assert_eq!(*origin.seen.lock().unwrap(), [(peer, "default/fe-1".to_owned())]);

    publish.send_replace(snapshot(&["b", "c"], "2"));
    until_held(snapshot(&["b", "c"], "2")).await;

    publish.send_replace(snapshot(&["b", "bad"], "3"));
    loop {
        if let Report::Nack { resources, message, .. } = heard.recv().await.unwrap() {
            assert_eq!((resources, message.as_str()), (vec!["bad".to_owned()], "bad: not so"));
            break;
        }
    }

    // The server dies, the world moves on, the server comes back.
    serving.shutdown_background();
    publish.send_replace(snapshot(&["b", "d"], "4"));
    while !matches!(happened.recv().await.unwrap(), Event::Disconnected { .. }) {}
    while heard.recv().await.unwrap() != Report::Closed {}
    let (address, serving) = serve("127.0.0.1:0".parse().unwrap(), origin.clone());
    moved.send_replace(address);
    until_held(snapshot(&["b", "d"], "4")).await;
    running.abort();
    while heard.recv().await.unwrap() != Report::Closed {}
    serving.shutdown_background();
}

#[tokio::test]
async fn state_of_the_world() {
    tokio::time::timeout(PATIENCE, both_ends(Mode::Sotw)).await.unwrap();
}

#[tokio::test]
async fn delta() {
    tokio::time::timeout(PATIENCE, both_ends(Mode::Delta)).await.unwrap();
}

#[tokio::test]
async fn secrets_and_refusals() {
    let test = async {
        let (publish, resources) = watch::channel(snapshot(&[], "1"));
        let (reports, _heard) = mpsc::unbounded_channel();
        let origin = Arc::new(Origin { resources, reports, seen: Mutex::default() });
        let (address, serving) = serve("127.0.0.1:0".parse().unwrap(), origin);
        let channel = Endpoint::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap();
        let mut secrets = SecretDiscoveryServiceClient::new(channel);
        let ask = |name: &str, id: &str| DiscoveryRequest {
            resource_names: vec![name.to_owned()],
            node: Some(Node { id: id.to_owned(), ..Default::default() }),
            ..Default::default()
        };
        let fetched = secrets.fetch_secrets(ask("default", "default/fe")).await.unwrap().into_inner();
        assert_eq!((fetched.resources.len(), fetched.type_url.as_str()), (1, SDS));
        let none = secrets.fetch_secrets(ask("other", "default/fe")).await.unwrap_err();
        assert_eq!(none.code(), tonic::Code::NotFound);

        let requests = tokio_stream::once(ask("default", "default/fe")).chain(tokio_stream::pending());
        let mut stream = secrets.stream_secrets(requests).await.unwrap().into_inner();
        assert_eq!(stream.message().await.unwrap().unwrap().resources.len(), 1);
        // The source lets go: the client is told to come back.
        drop(publish);
        assert_eq!(stream.message().await.unwrap_err().code(), tonic::Code::Unavailable);

        let requests = tokio_stream::once(ask("default", "default/intruder")).chain(tokio_stream::pending());
        let mut stream = secrets.stream_secrets(requests).await.unwrap().into_inner();
        assert_eq!(stream.message().await.unwrap_err().code(), tonic::Code::PermissionDenied);
        serving.shutdown_background();
    };
    tokio::time::timeout(PATIENCE, test).await.unwrap();
}
