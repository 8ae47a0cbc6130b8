//! HTTP: the codecs behind `h1` and `h2`, and `request`, the story of one request.

pub mod attempt;
pub mod body;
pub mod broken;
pub mod forward;
pub mod forwarded;
pub mod grpc;
pub mod h1;
pub mod h2;
pub mod headers;
pub mod inbound;
pub mod interim;
pub mod life;
pub mod quiet;
pub mod reply;
pub mod request;
pub mod runner;
pub mod target;
pub mod timer;
pub mod times;
pub mod tunnel;
pub mod websocket;
