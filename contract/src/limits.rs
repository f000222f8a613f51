//! What one function may use. A deployment's manifest carries its limits; the edge enforces them.

use serde::{Deserialize, Serialize};

/// Bounds of one request to a function. Every value is enforced by the edge, none is a hint.
///
/// The defaults are the free plan's; they lie where the platforms in this field converge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// All linear memories and tables of an instance together, bytes.
    pub memory_bytes: u64,
    /// CPU time inside the sandbox, milliseconds.
    pub cpu_ms: u64,
    /// From the request's arrival to the last byte of the response, milliseconds.
    pub wall_ms: u64,
    /// Request body, bytes.
    pub request_body_bytes: u64,
    /// Response body, bytes.
    pub response_body_bytes: u64,
    /// Standard output and error of one request together, bytes; what exceeds it is dropped and said.
    pub log_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory_bytes: 128 << 20,
            cpu_ms: 50,
            wall_ms: 30_000,
            request_body_bytes: 10 << 20,
            response_body_bytes: 100 << 20,
            log_bytes: 64 << 10,
        }
    }
}

/// A function's code, bytes. Checked at deploy and again where it is fetched.
pub const CODE_BYTES: u64 = 50 << 20;

/// A single block of any DAG, bytes: what IPFS peers exchange.
pub const BLOCK_BYTES: usize = 2 << 20;

/// A manifest, bytes.
pub const MANIFEST_BYTES: usize = 256 << 10;

/// Path and query of a request, bytes.
pub const URL_BYTES: usize = 16 << 10;

/// All header names and values of a request, bytes.
pub const HEADER_BYTES: usize = 128 << 10;

/// Number of header lines of a request.
pub const HEADER_COUNT: usize = 128;
