//! The options of servers: all of it on one machine, or one of the roles.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;

use af_control_api::{Database, RedisUrl};
use af_runtime::host::egress::IpNet;
use af_runtime::http::AccessLogTarget;
use clap::Args as Options;
use url::Url;

#[cfg(feature = "bitswap")]
use super::bitswap;
use super::values::{count, deployments, rate, whole};
use super::{content, domains, gateway, master_key, sessions, storage, tls};

/// `af up`
#[derive(Debug, Options)]
pub struct Up {
    #[command(flatten)]
    pub node: Node,
    #[command(flatten)]
    pub serving: Serving,
    #[command(flatten)]
    pub controlling: Controlling,
}

/// `af control`
#[derive(Debug, Options)]
pub struct Control {
    /// Where functions answer at the edges, with {slug} in it [default: https://{slug}.DOMAIN]
    #[arg(long, value_name = "URL")]
    pub functions_url: Option<String>,
    #[command(flatten)]
    pub node: Node,
    #[command(flatten)]
    pub controlling: Controlling,
}

/// `af edge`
#[derive(Debug, Options)]
pub struct Edge {
    /// The control plane, such as https://control.example.com
    #[arg(long, value_name = "URL")]
    pub control: Url,
    /// Become an edge: what `af edges add NAME` gave to the platform's operator; needed once
    #[arg(long, value_name = "TOKEN", env = "AF_JOIN_TOKEN", hide_env_values = true)]
    pub join: Option<String>,
    #[command(flatten)]
    pub node: Node,
    #[command(flatten)]
    pub serving: Serving,
}

/// Of every server.
#[derive(Debug, Options)]
pub struct Node {
    /// Where everything is kept [default: ~/.local/share/af]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Functions answer at <slug>.<DOMAIN>; may be given several times, the first one is shown
    #[arg(long = "domain", value_name = "DOMAIN", default_value = "localhost", value_parser = domains::platform)]
    pub domains: Vec<String>,
    /// A private network that functions may reach, such as 10.1.0.0/16; may be given several times
    #[arg(long, value_name = "CIDR")]
    pub egress_allow: Vec<IpNet>,
    /// A network of proxies in front of this server, such as 10.1.0.0/16: what they say in X-Forwarded-For and Forwarded of
    /// who asks is believed; may be given several times
    #[arg(long, value_name = "CIDR")]
    pub trusted_proxy: Vec<IpNet>,
    /// Memory of an instance of a function deployed from now on
    #[arg(long, value_name = "MIB", default_value_t = 128, value_parser = whole::<u64>(1..=4096))]
    pub memory_limit_mb: u64,
    #[command(flatten)]
    pub content: content::Sources,
    #[command(flatten)]
    pub gateway: gateway::Gateway,
    #[cfg(feature = "bitswap")]
    #[command(flatten)]
    pub bitswap: bitswap::Bitswap,
}

/// Of servers that answer requests to functions and sites.
#[derive(Debug, Options)]
pub struct Serving {
    /// Where functions answer
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080")]
    pub listen: SocketAddr,
    /// Where operators look: /metrics for Prometheus, /healthz and /readyz [default: nowhere]
    #[arg(long, value_name = "ADDR")]
    pub metrics_listen: Option<SocketAddr>,
    /// Instances that may run at the same time
    #[arg(long, value_name = "COUNT", default_value_t = 1000, value_parser = whole::<u32>(1..=10_000))]
    pub instances: u32,
    /// Connections of trusted proxies begin with a PROXY header, version 2
    #[arg(long, requires = "trusted_proxy")]
    pub proxy_protocol: bool,
    #[command(flatten)]
    pub clients: Clients,
    #[command(flatten)]
    pub tls: tls::Tls,
}

/// Of servers with the control API.
#[derive(Debug, Options)]
pub struct Controlling {
    /// A PostgreSQL database, postgres://USER:PASSWORD@HOST/NAME, for everything but content [default: a SQLite file in the
    /// data directory]
    #[arg(long, value_name = "URL", env = "AF_DATABASE_URL", hide_env_values = true)]
    pub database: Option<Database>,
    /// Where the control API answers
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:4000")]
    pub api_listen: SocketAddr,
    /// A token that is to work, for scripted set-up (16 or more characters); better in the environment
    #[arg(long, value_name = "TOKEN", env = "AF_BOOTSTRAP_TOKEN", hide_env_values = true)]
    pub bootstrap_token: Option<String>,
    /// CPU time of a request to a function deployed from now on
    #[arg(long, value_name = "MS", default_value_t = 50, value_parser = whole::<u64>(1..=600_000))]
    pub cpu_limit_ms: u64,
    /// Wall time of a request to a function deployed from now on
    #[arg(long, value_name = "MS", default_value_t = 30_000, value_parser = whole::<u64>(1..=900_000))]
    pub wall_limit_ms: u64,
    /// Requests to the control API per second with one token, with twice as many at once
    #[arg(long, value_name = "N", default_value = "100", value_parser = rate())]
    pub api_rate_limit: NonZeroU32,
    /// Functions that a project may have, and as many sites
    #[arg(long, value_name = "COUNT", default_value_t = 10_000, value_parser = count())]
    pub max_functions_per_project: u32,
    /// Deployments that a function may have; the server prunes those that it does not keep once a day
    #[arg(long, value_name = "COUNT", default_value_t = 10_000, value_parser = deployments())]
    pub max_deployments_per_function: u32,
    /// Deployments that all functions of a project may have together
    #[arg(long, value_name = "COUNT", default_value_t = 100_000, value_parser = deployments())]
    pub max_deployments_per_project: u32,
    /// Projects that an organization may have
    #[arg(long, value_name = "COUNT", default_value_t = 1_000, value_parser = count())]
    pub max_projects_per_organization: u32,
    /// Organizations that a user may own
    #[arg(long, value_name = "COUNT", default_value_t = 100, value_parser = count())]
    pub max_organizations_per_user: u32,
    /// A Redis, redis://USER:PASSWORD@HOST:PORT/DATABASE or rediss:// with TLS, in which servers count those requests together
    /// [default: each counts alone, as it does while Redis does not answer]
    #[arg(long, value_name = "URL", env = "AF_REDIS_URL", hide_env_values = true)]
    pub redis: Option<RedisUrl>,
    /// The JavaScript build (sdk-guest/js with its packages installed), for clients that deploy source code: it runs code of
    /// theirs, in a sandbox, in a child process with limits [default: such deployments fail]
    #[arg(long, value_name = "DIR")]
    pub javascript_build: Option<PathBuf>,
    /// GraphQL at /graphql does not tell its schema
    #[arg(long)]
    pub no_graphql_introspection: bool,
    #[command(flatten)]
    pub master_key: master_key::Source,
    #[command(flatten)]
    pub names: domains::Names,
    #[command(flatten)]
    pub sessions: sessions::Sessions,
    #[command(flatten)]
    pub stored: storage::Stored,
}

/// What clients of functions may do, and what is written down of it.
#[derive(Debug, Options)]
pub struct Clients {
    /// Requests of one client per second, with twice as many at once; a client is an IPv4 address or an IPv6
    /// network of 64 bits [default: as many as it sends]
    #[arg(long, value_name = "N", value_parser = rate())]
    pub rate_limit: Option<NonZeroU32>,
    /// Open connections to functions; further ones wait
    #[arg(long, value_name = "COUNT", default_value_t = 10_000, value_parser = whole::<u32>(1..=1_000_000))]
    pub max_connections: u32,
    /// Of them, those of one client; further ones are closed
    #[arg(long, value_name = "COUNT", default_value_t = 1_000, value_parser = whole::<u32>(1..=1_000_000))]
    pub max_connections_per_client: u32,
    /// How long a client may take for a request's header
    #[arg(long, value_name = "MS", default_value_t = 10_000, value_parser = whole::<u64>(1..=600_000))]
    pub header_timeout_ms: u64,
    /// How long a function may wait for the next part of a request's body
    #[arg(long, value_name = "MS", default_value_t = 20_000, value_parser = whole::<u64>(1..=600_000))]
    pub body_timeout_ms: u64,
    /// How long a client may read nothing of what it is sent
    #[arg(long, value_name = "MS", default_value_t = 30_000, value_parser = whole::<u64>(1..=600_000))]
    pub write_timeout_ms: u64,
    /// How long, and up to twice as long, a connection may wait for its next request
    #[arg(long, value_name = "MS", default_value_t = 60_000, value_parser = whole::<u64>(1..=3_600_000))]
    pub idle_timeout_ms: u64,
    /// Write a line of JSON for each request to a file, or to standard output (-)
    #[arg(long, value_name = "FILE")]
    pub access_log: Option<AccessLogTarget>,
    /// Tell in each response how long its parts took
    #[arg(long)]
    pub server_timing: bool,
}

impl Node {
    /// The domain that is shown.
    pub fn primary_domain(&self) -> &str {
        // It has a default.
        self.domains.first().map_or("localhost", String::as_str)
    }
}
