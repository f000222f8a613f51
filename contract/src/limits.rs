//! What one function may use. A deployment's manifest carries its limits; the edge enforces them.

use std::num::NonZeroU32;

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
    /// CPU time to make a fresh instance, milliseconds; it counts as the request's CPU time, too.
    #[serde(default = "startup_ms", skip_serializing_if = "is_startup_ms")]
    pub startup_ms: u64,
    /// Outgoing requests of one request.
    #[serde(default = "subrequests", skip_serializing_if = "is_subrequests")]
    pub subrequests: u32,
    /// Outgoing requests at the same time.
    #[serde(default = "concurrent_subrequests", skip_serializing_if = "is_concurrent_subrequests")]
    pub concurrent_subrequests: u32,
    /// Requests to the function per second; without it, as many as the server can answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests_per_second: Option<u32>,
}

/// Defaults of limits that manifests of the first days do not have: left out where they apply, so
/// that the same limits have the same bytes.
macro_rules! later_limit {
    ($name:ident, $is_name:ident, $type:ty, $default:expr) => {
        const fn $name() -> $type {
            $default
        }

        const fn $is_name(value: &$type) -> bool {
            *value == $default
        }
    };
}

later_limit!(startup_ms, is_startup_ms, u64, 1_000);
later_limit!(subrequests, is_subrequests, u32, 50);
later_limit!(concurrent_subrequests, is_concurrent_subrequests, u32, 6);

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory_bytes: 128 << 20,
            cpu_ms: 50,
            wall_ms: 30_000,
            request_body_bytes: 10 << 20,
            response_body_bytes: 100 << 20,
            log_bytes: 64 << 10,
            startup_ms: startup_ms(),
            subrequests: subrequests(),
            concurrent_subrequests: concurrent_subrequests(),
            requests_per_second: None,
        }
    }
}

/// A function's code, bytes. Checked at deploy and again where it is fetched.
pub const CODE_BYTES: u64 = 50 << 20;

/// Deployments of a function: as many as other platforms keep. Older ones are pruned.
pub const DEPLOYMENTS: u32 = 100;

/// The fewest deployments that a quota can allow a function: what it runs, what a rollback leads to, and one that is tried. With less, nothing
/// could be deployed to it any more.
pub const LEAST_DEPLOYMENTS: u32 = 3;

/// The most of its newest deployments that a function can be told to keep: a tenth of what it may have, where no plan says otherwise.
pub const DEPLOYMENTS_KEPT: u32 = 1_000;

/// The most requests that one instance may answer, one after another.
pub const REUSE: u32 = 10_000;

/// The most requests that one instance may work for at once: they share its memory, and its end.
pub const CONCURRENCY: u32 = 64;

/// The highest rate that a function may be limited to, requests per second: a server does less.
pub const REQUESTS_PER_SECOND: NonZeroU32 = NonZeroU32::new(1_000_000).unwrap();

/// Settings of a function.
pub const SETTINGS: usize = 128;

/// A setting's value, bytes.
pub const SETTING_BYTES: usize = 5 << 10;

/// All names and values of a function's settings, bytes.
pub const SETTINGS_BYTES: usize = 32 << 10;

/// Hosts and stores that a manifest may list, each.
pub const CAPABILITIES: usize = 64;

/// Operations on key-value stores of one request.
pub const STORE_OPERATIONS: u32 = 1_000;

/// A key of a key-value store, bytes.
pub const KEY_BYTES: usize = 512;

/// A value of a key-value store, bytes.
pub const VALUE_BYTES: usize = 1 << 20;

/// Keys of one batch operation.
pub const BATCH: usize = 100;

/// Keys that are listed at once.
pub const KEYS: usize = 1_000;

/// All key-value entries of a project, bytes.
pub const PROJECT_STORE_BYTES: u64 = 256 << 20;

/// All files of a deployment's assets together, bytes: a site with its pictures, not a store of videos.
pub const ASSETS_BYTES: u64 = 100 << 20;

/// Files and directories of a deployment's assets. A large documentation site has some thousands; each is a
/// block that is written and synced when it is deployed.
pub const ASSETS_ENTRIES: usize = 10_000;

/// Directories within directories of a deployment's assets. Real trees have about ten.
pub const ASSETS_DEPTH: usize = 32;

/// A name of a file or directory, bytes: what file systems allow.
pub const ASSETS_NAME_BYTES: usize = 255;

/// All nodes of a deployment's assets together, bytes: 10,000 of the longest names with their links are 3 MiB,
/// twice that when they are sharded.
pub const ASSETS_NODE_BYTES: u64 = 16 << 20;

/// A single block of any DAG, bytes: what IPFS peers exchange.
pub const BLOCK_BYTES: usize = 2 << 20;

/// Blocks that a client may ask for at once, whether it has to send them: 120 KiB of CIDs.
pub const BLOCK_IDS: usize = 2_000;

/// A manifest, bytes.
pub const MANIFEST_BYTES: usize = 256 << 10;

/// Path and query of a request, bytes.
pub const URL_BYTES: usize = 16 << 10;

/// All header names and values of a request, bytes.
pub const HEADER_BYTES: usize = 128 << 10;

/// Number of header lines of a request: as many as Apache takes, and as hyper parses without an allocation.
pub const HEADER_COUNT: usize = 100;

/// Routes of a function's table.
pub const ROUTES: usize = 1_000;

/// A path pattern of a route, bytes.
pub const PATTERN_BYTES: usize = 1_024;

/// A function's route table as JSON, bytes.
pub const ROUTES_BYTES: usize = 256 << 10;

/// Backends of one route.
pub const UPSTREAMS: usize = 16;

/// The longest time that a route may wait for its backend, milliseconds.
pub const ROUTE_TIMEOUT_MS: u32 = 300_000;

/// The body of a response that is written in a route table, bytes.
pub const ROUTE_RESPONSE_BYTES: usize = 16 << 10;

/// Triggers of a function.
pub const TRIGGERS: usize = 16;

/// A cron expression, bytes: each field may list some values.
pub const CRON_BYTES: usize = 128;

/// The path and query that a trigger calls, bytes. With all triggers in it, the URL of a deploy stays short enough.
pub const TRIGGER_PATH_BYTES: usize = 512;

/// Newest deployments of a function that answer at preview hosts.
pub const PREVIEWS: usize = 10;

/// The body of a request that is passed on to a backend, bytes. It is streamed and holds no memory here, so uploads
/// may be ten times as large as a function's; the platforms in this field accept as much.
pub const PROXIED_BODY_BYTES: u64 = 100 << 20;

/// Bytes for which a client may take a second more, over a body that it sends or an answer that it takes: a tenth of what the slowest
/// mobile networks carry. Without it, a client that moves a byte now and then would hold what others wait for.
pub const LEAST_BYTES_PER_SECOND: u32 = 500;
