//! How much of a message is read before it is refused.

/// The bounds of one message. Positions decide, not arrival: a message is refused at the same byte however it is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The request target; longer answers 414.
    pub uri_bytes_max: u32,
    /// The head with its start line and blank line; longer answers 431. The caller's buffer must hold that much.
    pub head_bytes_max: u32,
    /// Field lines of a head; more answer 431.
    pub fields_max: u32,
    /// The trailer section with its blank line. The caller's buffer must hold that much.
    pub trailer_bytes_max: u32,
    pub trailer_fields_max: u32,
    /// The extensions of one chunk.
    pub chunk_extension_bytes_max: u32,
    /// By how much all extensions of a body may outweigh its data.
    pub chunk_overhead_bytes_max: u32,
    /// Informational responses before the final one. Their heads together are held to `head_bytes_max`.
    pub interim_max: u32,
}

impl Limits {
    pub const DEFAULT: Limits = Limits {
        uri_bytes_max: 8 * 1024,
        head_bytes_max: 60 * 1024,
        fields_max: 100,
        trailer_bytes_max: 8 * 1024,
        trailer_fields_max: 32,
        chunk_extension_bytes_max: 1024,
        chunk_overhead_bytes_max: 16 * 1024,
        interim_max: 100,
    };
}

impl Default for Limits {
    fn default() -> Limits {
        Limits::DEFAULT
    }
}

/// A method longer than this is none that anybody implements (RFC 9112 section 3: answer 501).
pub const METHOD_BYTES_MAX: usize = 32;
/// A longer field name answers 431.
pub const NAME_BYTES_MAX: usize = 1024;
/// How many field names `Connection` may list; more is an attack on whoever reads them.
pub const LISTED_MAX: usize = 16;
