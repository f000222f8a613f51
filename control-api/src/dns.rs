//! Asks the DNS, which is hostile: what comes back is bounded in size, time and number, and nothing is kept.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use hickory_resolver::config::{
    ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts,
};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError as Cause, NetError};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use hickory_resolver::{Resolver, TokioResolver};
use tokio::sync::Semaphore;
use tokio::time::timeout;

/// Questions that are under way at the same time, for all projects together: what a name server of one
/// user costs must not become a flood from here.
const QUESTIONS: usize = 16;

/// How long one server may take to answer once.
const ATTEMPT: Duration = Duration::from_secs(3);

/// How long a question may take with its repetitions, aliases and the wait for its turn.
const QUESTION: Duration = Duration::from_secs(12);

/// Records of an answer that are looked at. Honest names have a handful.
const RECORDS: usize = 100;

/// Bytes of a TXT record that are looked at. A verification record has under 100.
const TEXT_BYTES: usize = 1024;

/// A resolver.
pub struct Dns {
    resolver: TokioResolver,
    turns: Semaphore,
}

/// A question has no answer that could be used.
#[derive(Debug, thiserror::Error)]
pub enum DnsError {
    /// The DNS says that there is no such name (NXDOMAIN).
    #[error("there is no name {0} in the DNS")]
    NoName(String),
    /// The name is there, without such a record.
    #[error("{name} has no {kind} record")]
    NoRecord {
        /// The name.
        name: String,
        /// `TXT`, for one.
        kind: RecordType,
    },
    /// Nobody knows: a time-out, or a server that fails (SERVFAIL).
    #[error("the DNS did not answer for {name} ({why}); try again in a while")]
    Unknown {
        /// The name.
        name: String,
        /// What happened.
        why: String,
    },
}

/// A TXT record, its strings joined.
#[derive(Debug)]
pub struct Text {
    /// What it says.
    pub value: String,
    /// Whether it is at another name, which the one that was asked for is an alias of.
    pub aliased: bool,
}

impl DnsError {
    /// Whether the DNS said so, and did not fail.
    #[must_use]
    pub fn is_answer(&self) -> bool {
        matches!(self, Self::NoName(_) | Self::NoRecord { .. })
    }
}

impl Dns {
    /// Asks these servers, or those of the system where none are given.
    ///
    /// # Errors
    /// When the resolver cannot be set up.
    pub fn new(servers: &[SocketAddr]) -> Result<Self, NetError> {
        let provider = TokioRuntimeProvider::default();
        let config = if servers.is_empty() {
            system()
        } else {
            ResolverConfig::from_name_servers(servers.iter().map(server).collect())
        };
        let resolver = Resolver::builder_with_config(config, provider).with_options(options()).build()?;
        Ok(Self { resolver, turns: Semaphore::new(QUESTIONS) })
    }

    /// The TXT records of a name, and of the one that it is an alias of.
    ///
    /// # Errors
    /// When there are none, or nobody knows.
    pub async fn texts(&self, name: &str) -> Result<Vec<Text>, DnsError> {
        let asked = absolute(name)?;
        let records = self.ask(name, RecordType::TXT).await?;
        let texts = records.into_iter().filter_map(|record| match &record.data {
            RData::TXT(text) => {
                let bytes: Vec<u8> = text.txt_data.iter().flatten().copied().take(TEXT_BYTES).collect();
                let aliased = record.name != asked;
                Some(Text { value: String::from_utf8(bytes).ok()?, aliased })
            }
            _ => None,
        });
        Ok(texts.collect())
    }

    /// The name that a name is an alias of, lower case and without the dot at its end: one step.
    ///
    /// # Errors
    /// When it is none, or nobody knows.
    pub async fn alias(&self, name: &str) -> Result<String, DnsError> {
        let asked = absolute(name)?;
        let records = self.ask(name, RecordType::CNAME).await?;
        let target = records.into_iter().find_map(|record| match &record.data {
            RData::CNAME(target) if record.name == asked => Some(target.to_lowercase().to_ascii()),
            _ => None,
        });
        let none = || DnsError::NoRecord { name: name.to_owned(), kind: RecordType::CNAME };
        target.map(|target| target.trim_end_matches('.').to_owned()).ok_or_else(none)
    }

    /// All addresses of a name.
    ///
    /// # Errors
    /// When there are none, or nobody knows.
    pub async fn addresses(&self, name: &str) -> Result<Vec<IpAddr>, DnsError> {
        let (four, six) = tokio::join!(self.ask(name, RecordType::A), self.ask(name, RecordType::AAAA));
        let records = match (four, six) {
            (Err(unknown), _) | (_, Err(unknown)) if !unknown.is_answer() => return Err(unknown),
            (Err(none), Err(_)) => return Err(none),
            (four, six) => four.unwrap_or_default().into_iter().chain(six.unwrap_or_default()),
        };
        let address = |record: Record| match &record.data {
            RData::A(address) => Some(address.0.into()),
            RData::AAAA(address) => Some(address.0.into()),
            _ => None,
        };
        Ok(records.filter_map(address).collect())
    }

    /// The records of an answer, at most [`RECORDS`]; one at least is of this kind.
    async fn ask(&self, name: &str, kind: RecordType) -> Result<Vec<Record>, DnsError> {
        let unknown = |why: String| DnsError::Unknown { name: name.to_owned(), why };
        let asked = absolute(name)?;
        let question = async {
            let _turn = self.turns.acquire().await;
            // The future is large, and most of the time it only waits.
            Box::pin(self.resolver.lookup(asked, kind)).await
        };
        let answer = timeout(QUESTION, question).await.map_err(|_| unknown("time-out".into()))?;
        let none = || DnsError::NoRecord { name: name.to_owned(), kind };
        let answer = answer.map_err(|error| match error {
            NetError::Dns(Cause::NoRecordsFound(none)) if none.response_code == ResponseCode::NXDomain => {
                DnsError::NoName(name.to_owned())
            }
            NetError::Dns(Cause::NoRecordsFound(found)) if found.response_code == ResponseCode::NoError => {
                none()
            }
            NetError::Dns(Cause::ResponseCode(code)) => unknown(code.to_str().to_owned()),
            NetError::Timeout => unknown("time-out".into()),
            other => unknown(other.to_string().chars().take(200).collect()),
        })?;
        let records: Vec<Record> = answer.answers().iter().take(RECORDS).cloned().collect();
        if records.iter().any(|record| record.record_type() == kind) { Ok(records) } else { Err(none()) }
    }
}

/// A name from the root, so that no search list of the system is tried.
fn absolute(name: &str) -> Result<Name, DnsError> {
    Name::from_ascii(format!("{name}."))
        .map_err(|error| DnsError::Unknown { name: name.to_owned(), why: error.to_string() })
}

fn options() -> ResolverOpts {
    let mut options = ResolverOpts::default();
    options.timeout = ATTEMPT;
    options.attempts = 2;
    // Somebody has just changed a record and asks whether it is seen.
    options.cache_size = 0;
    // /etc/hosts is this machine's, and proves nothing.
    options.use_hosts_file = ResolveHosts::Never;
    options.try_tcp_on_error = true;
    options
}

fn server(address: &SocketAddr) -> NameServerConfig {
    let at = |mut connection: ConnectionConfig| {
        connection.port = address.port();
        connection
    };
    NameServerConfig::new(address.ip(), true, vec![at(ConnectionConfig::udp()), at(ConnectionConfig::tcp())])
}

/// The servers of `/etc/resolv.conf`; without one, as resolv.conf(5) has it, the one on this machine.
fn system() -> ResolverConfig {
    match hickory_resolver::system_conf::read_system_conf() {
        Ok((config, _)) => config,
        Err(error) => {
            tracing::warn!(%error, "the system names no DNS server; custom domains are verified through 127.0.0.1");
            ResolverConfig::from_name_servers(vec![NameServerConfig::udp_and_tcp(Ipv4Addr::LOCALHOST.into())])
        }
    }
}
