//! OPA Rego: policies are compiled, judged and limited. Text and a request in, a decision out.
//!
//! [`compile`] is the door: modules and data become a [`Compiled`] policy, or every reason why not, with
//! module, line and column. A [`Worker`] judges [`Request`]s with it and gives [`Decision`]s; what is not
//! clearly an allow is a deny with a [`Reason`]. [`Reads`] tells what of a request a policy can see: nothing
//! else is built for it, and a [`DecisionCache`] keeps decisions by exactly that.
//!
//! The engine is regorus. Around it stand three things of ours: checks of the text and its tree before the
//! engine may run it ([`text`], [`calls`], [`recursion`]), the document that Envoy's `ext_authz` would show
//! ([`input`]), and the builtins that can fail, grow, or that the engine has not ([`builtins`]).
//!
//! Nothing here knows xDS, objects, sockets or clocks: the time that a policy sees is an argument, chance is
//! refused. Only the engine's limit of time reads the monotonic clock, by itself.

mod body;
mod builtins;
mod cache;
mod calls;
mod compile;
mod decision;
mod input;
mod json;
mod problem;
mod reads;
mod recursion;
mod syntax;
mod text;
mod url;
mod worker;

pub use cache::DecisionCache;
pub use compile::{Compiled, Limits, Module, RegoVersion, Settings, compile};
pub use decision::{DENIED, Decision, Reason, UNREADABLE};
pub use input::{Body, Peer, Request};
pub use problem::{Problem, Problems};
pub use reads::Reads;
pub use worker::Worker;
