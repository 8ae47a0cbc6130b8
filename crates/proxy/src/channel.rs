//! Channels to an xDS or link server: TCP, then TLS with whatever credentials are the newest at that moment.

use std::{io, sync::Arc, time::Duration};

use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint};

use crate::{connections, upstream::connect::Stream};

/// TCP and TLS together: a server that accepts and stays silent holds us no longer.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(5);

/// Why there is no channel.
#[derive(Debug, thiserror::Error)]
pub enum ChannelError {
    #[error("{address} is no address of a control plane: HOST:PORT, or https://HOST:PORT")]
    Address { address: String },
    #[error("no connection to the control plane at {address}: {reason}")]
    Connect { address: String, reason: String },
}

/// `https://HOST:PORT`, `HOST:PORT` or `HOST` with the default port, as `HOST:PORT`.
pub fn host_and_port(address: &str) -> Result<String, ChannelError> {
    let plain = address.trim_start_matches("https://").trim_start_matches("http://").trim_end_matches('/');
    let fail = || ChannelError::Address { address: address.to_owned() };
    let authority: http::uri::Authority = plain.parse().map_err(|_| fail())?;
    if authority.host().is_empty() {
        return Err(fail());
    }
    Ok(match authority.port_u16() {
        Some(_) => plain.to_owned(),
        None => format!("{plain}:7701"),
    })
}

/// Connects now. `tls` is `None` for a server in clear (a foreign one on loopback).
pub async fn connect(
    address: &str,
    tls: Option<(Arc<rustls::ClientConfig>, ServerName<'static>)>,
) -> Result<Channel, ChannelError> {
    let address = host_and_port(address)?;
    let scheme = if tls.is_some() { "https" } else { "http" };
    let endpoint = Endpoint::from_shared(format!("{scheme}://{address}"))
        .map_err(|_| ChannelError::Address { address: address.clone() })?
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
        .keep_alive_while_idle(true);
    let target = address.clone();
    let connector = tower::service_fn(move |_: http::Uri| {
        let (target, tls) = (target.clone(), tls.clone());
        async move {
            let tcp = TcpStream::connect(&target).await?;
            tcp.set_nodelay(true)?;
            let listed = connections::opened_by_us(&tcp);
            Ok::<_, io::Error>(TokioIo::new(match tls {
                None => Stream::Plain(tcp, listed),
                Some((config, name)) => {
                    Stream::secured(TlsConnector::from(config).connect(name, tcp).await?, None, listed)
                }
            }))
        }
    });
    endpoint
        .connect_with_connector(connector)
        .await
        .map_err(|error| ChannelError::Connect { address, reason: explain(&error) })
}

fn explain(error: &dyn std::error::Error) -> String {
    let mut last = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        last = error.to_string(); // the innermost says what happened, the outer ones that something did
        cause = error.source();
    }
    last
}

#[cfg(test)]
mod tests {
    use super::host_and_port;

    #[test]
    fn addresses_of_control_planes() {
        for (text, expected) in [
            ("https://10.0.0.1:7701", Some("10.0.0.1:7701")),
            ("control.example", Some("control.example:7701")),
            ("127.0.0.1:9", Some("127.0.0.1:9")),
            ("", None),
            ("a b", None),
        ] {
            assert_eq!(host_and_port(text).ok().as_deref(), expected, "{text}");
        }
    }
}
