//! The TLS handshake with a client, and who the client turned out to be.

use std::{rc::Rc, time::Duration};

use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::TlsAcceptor;
use weft_identity::tls::Refusal;
use weft_routing::{ClientCertificate, DownstreamTls, FilterChain, Listener, SanKind};

use super::Stream;
use crate::{members::Tied, meters, net::Prefixed, overload::crowd::Place, peer::Peer, worker::Worker};

/// Unless the chain says otherwise.
const TLS_TIMEOUT: Duration = Duration::from_secs(5);

/// The TLS handshake, and what its ALPN said of HTTP/2. `None` when the connection is over.
pub(super) async fn shake(
    worker: &Worker,
    listener: &Listener,
    chain: &FilterChain,
    wanted: &DownstreamTls,
    peer: &mut Peer,
    stream: Prefixed<TcpStream>,
    mut handshake: Option<Place>,
) -> Option<(Stream, Option<bool>)> {
    let (drain, remote) = (Rc::clone(&peer.drain), peer.remote());
    let credentials = worker.credentials();
    let config = match worker.server_configs.get(wanted, credentials.as_ref()) {
        Ok(config) => config,
        Err(error) => {
            tracing::warn!(%remote, %error, "a connection is refused");
            tls_failed(worker, listener, "no_identity");
            return None;
        }
    };
    let handshake_timeout =
        chain.transport_socket_connect_timeout.filter(|limit| !limit.is_zero()).unwrap_or(TLS_TIMEOUT);
    let shaken = tokio::select! {
        shaken = timeout(handshake_timeout, TlsAcceptor::from(config).accept(stream)) => shaken,
        () = drain.out_of_patience() => return None,
        () = pushed_out(&mut handshake) => {
            tls_failed(worker, listener, "pushed_out");
            return None;
        }
    };
    drop(handshake);
    let tls = match shaken {
        Ok(Ok(tls)) => tls,
        Ok(Err(error)) => {
            let reason = Refusal::of_io(&error).map_or("connection", |refusal| refusal.label());
            tls_failed(worker, listener, reason);
            tracing::info!(%remote, %error, reason, "a TLS handshake failed");
            return None;
        }
        Err(_) => {
            tls_failed(worker, listener, "timeout");
            tracing::info!(%remote, "no TLS handshake in time");
            return None;
        }
    };
    let session = tls.get_ref().1;
    peer.on_tls(session);
    if let Some(listed) = &peer.listed {
        listed.secured(session);
    }
    if !expected(&wanted.client, peer.principal.as_deref()) {
        tls_failed(worker, listener, "other_id");
        tracing::info!(%remote, principal = peer.principal, "the chain takes other identities");
        return None;
    }
    let h2 = session.alpn_protocol().map(|name| name == b"h2");
    let mut tie = None;
    if let Some(credentials) = credentials.filter(|_| peer.principal.is_some()) {
        match credentials.members.tie(session.peer_certificates()) {
            Ok(tied) => {
                peer.expires = tied.expires();
                tie = Some(tied);
            }
            Err(refusal) => {
                tls_failed(worker, listener, refusal.label());
                tracing::info!(%remote, principal = peer.principal, %refusal, "a connection is refused");
                return None;
            }
        }
    }
    Some((Box::new(Tied::new(tls, tie)), h2))
}

pub(super) async fn pushed_out(handshake: &mut Option<Place>) {
    match handshake {
        Some(place) => place.pushed_out().await,
        None => std::future::pending().await,
    }
}

#[cold]
pub(super) fn tls_failed(worker: &Worker, listener: &Listener, reason: &'static str) {
    let counter = meters::tls_failures(&worker.settings.registry, &listener.name, reason);
    worker.shard.borrow_mut().add(counter, 1);
}

/// Whether the chain takes this identity, which is already known to be of our trust roots.
fn expected(client: &ClientCertificate, principal: Option<&str>) -> bool {
    let (ClientCertificate::Required(validation) | ClientCertificate::Optional(validation), Some(id)) =
        (client, principal)
    else {
        return true;
    };
    validation.names.is_empty() || validation.names.iter().any(|name| name.fits(SanKind::Uri, id))
}
