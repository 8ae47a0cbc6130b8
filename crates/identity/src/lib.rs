//! Who is who in the mesh.
//!
//! A member's identity is a SPIFFE id in an X.509 certificate (an SVID): [`SpiffeId`], [`PrivateKey`] and its
//! CSR, [`csr::check`] and [`Issuer`] on the CA's side, [`Bundle`] for what is trusted and [`Crl`] for what is no
//! longer, [`Svid`] for what one is, [`rotation`] for when to renew, [`tls`] for the rustls configurations that follow from all that, and
//! [`JoinToken`] for the first contact.
//!
//! This crate does no network I/O and reads no clock: times come in as arguments, except for rustls's own
//! check of a peer's validity during a handshake. It decides who a peer is, never what the peer may do: that
//! is authorization.

pub mod bundle;
pub mod certificate;
pub mod csr;
pub mod describe;
pub mod files;
pub mod issuer;
pub mod key;
pub mod pem;
pub mod random;
pub mod revocation;
pub mod rotation;
pub mod spiffe;
pub mod svid;
pub mod tls;
pub mod token;

pub use bundle::{Bundle, BundleError};
pub use csr::CsrRefusal;
pub use describe::{DescribeError, Description, describe_pem};
pub use issuer::{IssueError, Issued, Issuer, IssuerError, IssuerPem};
pub use key::{KeyError, PrivateKey};
pub use revocation::{Crl, CrlError, Revoked, SignedList};
pub use spiffe::{SpiffeId, SpiffeIdError, TrustDomain};
pub use svid::{Svid, SvidError};
pub use tls::{IdentityMatch, Refusal};
pub use token::{JoinToken, TokenError, TokenHash, TokenSecret};
