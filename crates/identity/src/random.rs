//! Randomness fit for secrets and serial numbers, for the callers of those functions that want it as an argument.

/// The system's source of randomness failed: nothing that needs a secret can go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the system's source of randomness failed")]
pub struct NoRandomness;

/// `N` bytes that nobody can predict. (A generator made for speed, such as `fastrand`, can be predicted.)
pub fn secure<const N: usize>() -> Result<[u8; N], NoRandomness> {
    let mut bytes = [0; N];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| NoRandomness)?;
    Ok(bytes)
}
