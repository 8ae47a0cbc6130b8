//! Who speaks: the owner over the Unix socket, the admin by the token in the state directory, and the
//! users that an admin has made, by their token or their client certificate.
//!
//! The `Host` of a TCP request must be one of our own names, token or not: a web page that a browser
//! was lured to may reach loopback, but it names its own host (DNS rebinding).

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::SystemTime;

use anyhow::Context as _;
use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::rand;
use http::uri::Authority;
use http::{HeaderMap, Request, header};

use super::access::Caller;
use super::users::{ClientCertificate, Proof, Users, fingerprint};
use crate::files;

/// The file in the state directory that holds the administrator's token.
pub(crate) const TOKEN_FILE: &str = "admin.token";
const TOKEN_BYTES: usize = 32;

/// Where a request came from.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Peer {
    /// The Unix socket in the state directory, which only its owner may open.
    Owner,
    Tcp {
        remote: SocketAddr,
        local: SocketAddr,
        /// What it presented in the TLS handshake; its key was proven there.
        certificate: Option<ClientCertificate>,
    },
}

impl Peer {
    pub(crate) fn label(self) -> String {
        match self {
            Peer::Owner => "unix".to_owned(),
            Peer::Tcp { remote, .. } => remote.to_string(),
        }
    }

    /// The address of whoever shows a secret; the owner shows none.
    pub(crate) fn shows(self, headers: &HeaderMap) -> Option<IpAddr> {
        match self {
            Peer::Tcp { remote, certificate, .. }
                if certificate.is_some() || headers.contains_key(header::AUTHORIZATION) =>
            {
                Some(remote.ip())
            }
            _ => None,
        }
    }
}

/// The names and secrets that requests are held against.
pub(crate) struct Auth {
    token: String,
    /// Our own names besides loopback's, in lower case.
    names: Vec<String>,
}

impl Auth {
    /// Reads the token, or makes one on the first start.
    pub(crate) fn load(state: &Path, names: Vec<String>) -> anyhow::Result<Auth> {
        let path = state.join(TOKEN_FILE);
        let token = match files::read(&path)? {
            Some(text) if text.trim().len() >= TOKEN_BYTES => {
                files::private_file(&path)?;
                text.trim().to_owned()
            }
            Some(_) => {
                anyhow::bail!("{} is too short to be a token: delete it and start again", path.display())
            }
            None => {
                let token = random_token()?;
                files::replace(&path, token.as_bytes())?;
                token
            }
        };
        Ok(Auth { token, names })
    }

    pub(crate) fn token(&self) -> &str {
        &self.token
    }

    /// Who it is, or why nobody. A token counts before a certificate.
    pub(crate) async fn who(
        &self,
        peer: Peer,
        headers: &HeaderMap,
        users: &Users,
        now: SystemTime,
    ) -> Result<Caller, &'static str> {
        let Peer::Tcp { certificate, .. } = peer else { return Ok(Caller::admin("owner")) };
        if let Some(value) = headers.get(header::AUTHORIZATION) {
            let presented = value
                .to_str()
                .ok()
                .and_then(|text| text.split_once(' '))
                .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
                .map_or("", |(_, token)| token.trim());
            if verify_slices_are_equal(presented.as_bytes(), self.token.as_bytes()).is_ok() {
                return Ok(Caller::admin("admin"));
            }
            let found = users.find(Proof::Token, &fingerprint(presented.as_bytes()), now).await;
            return found.ok_or("the token is not valid here");
        }
        match certificate {
            Some(certificate) if !certificate.is_valid(now) => {
                Err("the client certificate is out of its time")
            }
            Some(certificate) => {
                let found = users.find(Proof::Certificate, &certificate.print, now).await;
                found.ok_or("the client certificate is no user's here")
            }
            None => Err(
                "a token is needed: send the content of STATE/admin.token, or a user's, as \"Authorization: Bearer TOKEN\"",
            ),
        }
    }

    /// The foreign host that a request names, if it does.
    pub(crate) fn foreign_host<B>(&self, peer: Peer, request: &Request<B>) -> Option<String> {
        let Peer::Tcp { local, .. } = peer else { return None };
        let mut named = 0;
        let in_headers = request.headers().get_all(header::HOST).iter();
        let in_headers = in_headers.map(|value| value.to_str().unwrap_or_default().to_owned());
        let in_uri = request.uri().authority().map(|authority| authority.as_str().to_owned());
        for host in in_headers.chain(in_uri) {
            named += 1;
            if !self.is_own(&host, local) {
                return Some(host);
            }
        }
        (named == 0).then(String::new)
    }

    fn is_own(&self, host: &str, local: SocketAddr) -> bool {
        let Ok(authority) = host.parse::<Authority>() else { return false };
        if authority.as_str().contains('@') {
            return false;
        }
        let name = authority.host().trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
        if name == "localhost" || self.names.contains(&name) {
            return true;
        }
        match name.parse::<IpAddr>() {
            Ok(ip) => {
                let ip = ip.to_canonical();
                ip == IpAddr::from([127, 0, 0, 1])
                    || ip == IpAddr::from(std::net::Ipv6Addr::LOCALHOST)
                    || ip == local.ip().to_canonical()
            }
            Err(_) => false,
        }
    }
}

/// A secret that nobody guesses.
pub(crate) fn random_token() -> anyhow::Result<String> {
    use base64::Engine as _;
    let mut bytes = [0_u8; TOKEN_BYTES];
    rand::fill(&mut bytes).ok().context("the system gives no random bytes for a token")?;
    Ok(base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test's failure is its message")]
    use super::*;

    fn auth() -> Auth {
        Auth { token: "secret".repeat(8), names: vec!["mesh.example".to_owned()] }
    }

    fn tcp() -> Peer {
        Peer::Tcp {
            remote: "127.0.0.1:9".parse().unwrap(),
            local: "10.0.0.7:7700".parse().unwrap(),
            certificate: None,
        }
    }

    #[test]
    fn only_our_own_hosts_are_ours() {
        let auth = auth();
        let foreign = |host: &str| {
            let request = Request::get("/").header("host", host).body(()).unwrap();
            auth.foreign_host(tcp(), &request).is_some()
        };
        for own in
            ["localhost", "LOCALHOST:7700", "127.0.0.1:7700", "[::1]:7700", "10.0.0.7", "mesh.example:443"]
        {
            assert!(!foreign(own), "{own}");
        }
        for other in
            ["evil.example", "127.0.0.1.evil.example", "127.0.0.2", "10.0.0.8", "localhost@evil", "a b", ""]
        {
            assert!(foreign(other), "{other}");
        }
        let two = Request::get("/").header("host", "localhost").header("host", "evil").body(()).unwrap();
        assert!(auth.foreign_host(tcp(), &two).is_some());
        let none = Request::get("/").body(()).unwrap();
        assert!(auth.foreign_host(tcp(), &none).is_some());
        assert!(auth.foreign_host(Peer::Owner, &none).is_none());
    }

    #[tokio::test]
    async fn the_owner_needs_no_token_and_others_the_right_one() {
        let auth = auth();
        let dir = tempfile::tempdir().unwrap();
        let users = Users { store: weft_store::open(dir.path().join("s").to_str().unwrap()).unwrap() };
        let who = async |peer, value: &str| {
            let mut headers = HeaderMap::new();
            if !value.is_empty() {
                headers.insert(header::AUTHORIZATION, value.parse().unwrap());
            }
            auth.who(peer, &headers, &users, SystemTime::now()).await.map(|caller| caller.name)
        };
        assert_eq!(who(Peer::Owner, "").await.as_deref(), Ok("owner"));
        for wrong in ["", "Bearer wrong", "Bearer ", &format!("Basic {}", auth.token)] {
            assert!(who(tcp(), wrong).await.is_err(), "{wrong}");
        }
        assert_eq!(who(tcp(), &format!("bearer {}", auth.token)).await.as_deref(), Ok("admin"));
    }

    #[test]
    fn a_token_is_made_once() {
        let dir = tempfile::tempdir().unwrap();
        let first = Auth::load(dir.path(), Vec::new()).unwrap();
        let second = Auth::load(dir.path(), Vec::new()).unwrap();
        assert_eq!(first.token(), second.token());
        assert_eq!(first.token().len(), 43);
        std::fs::write(dir.path().join(TOKEN_FILE), "short").unwrap();
        assert!(Auth::load(dir.path(), Vec::new()).is_err());
    }
}
