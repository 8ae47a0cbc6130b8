//! What the tests of whole processes share: starting them, waiting for them, ending them by pid, and
//! finding the real peers. It sees neither plane: only processes, ports and files.
//!
//! A test here never sleeps to be lucky: it waits for a fact, with a limit, and says what it waited for.

pub mod http;
pub mod mesh;
pub mod netns;
pub mod peers;
pub mod process;
pub mod wait;

pub use mesh::{Joined, Mesh};
pub use process::{Process, run};
pub use wait::{eventually, free_port, own_loopback, pause};
