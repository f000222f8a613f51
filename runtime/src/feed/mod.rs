//! The feed of an edge that is a process of its own: it asks the control plane for what changed, keeps that on its disk, and
//! goes on with what it knows for as long as nobody answers.

mod client;
mod identity;
mod known;
mod logs;
mod memory;
mod saved;
mod usage;
mod work;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use af_contract::edge::{EdgeError, FeedPage, JoinToken, PAUSE, PageError};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use url::Url;

use self::client::Client;
pub use self::identity::Identity;
use self::known::{Told, newest};
use self::logs::Waiting;
use self::memory::{Memory, News};
use self::work::Worker;
use crate::Edge;
use crate::usage::Taker;

/// After a request that failed; twice as long after each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(250);

/// After the control plane told what this version must know and does not: it will tell the same again, until either is another one.
const TOO_OLD_PAUSE: Duration = Duration::from_secs(60);

/// After an answer that says that this is no edge (any more): a handful of guesses in a minute, by all that asks.
const REMOVED_PAUSE: Duration = Duration::from_secs(60);

/// Kinds of changes that were told of in the log; of further ones nobody is told.
const STRANGE: usize = 64;

/// Whom an edge asks, and where it keeps what it is told.
#[derive(Clone, Debug)]
pub struct FeedConfig {
    /// The control plane.
    pub control: Url,
    /// Readable by this user only.
    pub dir: PathBuf,
    /// Makes this an edge, where it is none yet.
    pub join: Option<JoinToken>,
}

/// Why there is no feed.
#[derive(Debug, thiserror::Error)]
pub enum FeedError {
    /// No edge yet, and no token to become one.
    #[error(
        "this is no edge yet: start it with --join TOKEN, or AF_JOIN_TOKEN, which `af edges add NAME` gives to the platform's operator"
    )]
    NotJoined,
    /// It belongs to another one.
    #[error(
        "{dir} is the data of {found}, and the token is of {wanted}; choose another --data-dir, or leave --join out"
    )]
    Other {
        /// The directory.
        dir: PathBuf,
        /// Whose data it has.
        found: String,
        /// Whose token was given.
        wanted: String,
    },
    /// The disk.
    #[error("cannot use {path}")]
    Disk {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The network, or the other side.
    #[error("the control plane cannot be reached")]
    Unreachable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// It said something else than a page.
    #[error("the control plane answered {status}: {said}")]
    Refused {
        /// HTTP.
        status: u16,
        /// Of its problem document; none: somebody between has answered.
        code: Option<String>,
        /// Of its problem document.
        said: String,
    },
    /// What came is not from the control plane, or not for this edge.
    #[error("what came in the control plane's name does not count: {0}")]
    Untrusted(#[from] EdgeError),
    /// The control plane is newer, and tells of what this edge does not know and must.
    #[error("the control plane is newer than this edge: {0}")]
    TooOld(PageError),
    /// What came is too long, or no page.
    #[error("the control plane's answer cannot be read: {0}")]
    Unreadable(String),
}

/// What an edge knows, and whom it asks for more.
pub struct Feed {
    client: Arc<Client>,
    memory: Memory,
    logs: Waiting,
    /// Kinds of changes that were skipped.
    strange: BTreeSet<String>,
    /// What is known is after this, for whoever waits for it.
    reached: watch::Sender<u64>,
}

/// Pauses after requests that failed, with chance in them.
struct Backoff(Duration);

impl Default for Backoff {
    fn default() -> Self {
        Self(FIRST_PAUSE)
    }
}

impl Backoff {
    /// An edge that was removed counts, to its control plane, as somebody who guesses: it must not get its neighbours refused.
    fn heed(&mut self, error: &FeedError) {
        if matches!(error, FeedError::Refused { status: 401, .. }) {
            self.0 = REMOVED_PAUSE;
        }
    }

    /// Waits. `false`: `stop` came first.
    async fn pause(&mut self, stop: &CancellationToken) -> bool {
        let chance = getrandom::u32().map_or(0.5, |number| f64::from(number) / f64::from(u32::MAX));
        let wait = self.0.mul_f64(0.5 + chance / 2.0);
        self.0 = (self.0 * 2).min(PAUSE);
        tokio::time::timeout(wait, stop.cancelled()).await.is_err()
    }
}

impl FeedError {
    /// Whether a control plane that does not take what it is told would not take it later either: it is in no form that it knows, too
    /// large, or its database refuses it. Not where the clock is wrong, somebody between has changed it, or there was too much of it,
    /// which pass.
    fn is_for_good(&self) -> bool {
        let Self::Refused { status, code, .. } = self else { return false };
        match (status, code.as_deref()) {
            (400, code) => code.is_some_and(|code| !["edge_clock", "invalid_proof"].contains(&code)),
            (409, code) => matches!(code, Some("report_refused" | "usage_refused")),
            (413 | 422, _) => true,
            _ => false,
        }
    }

    /// Whether it is of an older version, or somebody between lets none of it through.
    const fn is_unknown_path(&self) -> bool {
        matches!(self, Self::Refused { status: 403..=405, .. })
    }
}

impl Feed {
    /// Becomes an edge, where this is none yet, and hands to `edge` what an earlier process was told.
    ///
    /// # Errors
    /// When this is no edge and cannot become one, or the disk cannot be used.
    pub async fn start(config: &FeedConfig, identity: Arc<Identity>, edge: &Edge) -> Result<Self, FeedError> {
        let (mut memory, pages) = Memory::open(&config.dir, identity.secret())?;
        let mut strange = BTreeSet::new();
        let mut told = Vec::new();
        for page in pages {
            skipped(&page, &mut strange, edge);
            told.extend(memory.recall(page));
        }
        // What was replaced since is nothing to serve, nor to compile.
        edge.apply(newest(told));
        let client = Arc::new(Client::new(&config.control, identity)?);
        let reached = watch::Sender::new(memory.after());
        if memory.has_all() {
            info!(revision = memory.after(), "going on with the routes of the last start");
            edge.routes_known();
        }
        let logs = Waiting::new(edge.metrics().clone());
        edge.tap_logs(Arc::new(logs.clone()));
        Ok(Self { client, memory, logs, strange, reached })
    }

    /// Who takes what functions and sites use here.
    #[must_use]
    pub fn usage_taker(&self) -> Arc<dyn Taker> {
        Arc::new(usage::Told(self.client.clone()))
    }

    /// Follows the control plane, tells it what happens here, and does what it wants of one edge, until `stop`.
    pub async fn run(self, edge: Edge, stop: CancellationToken) {
        let worker = Worker::new(self.client.clone(), edge.clone(), self.reached.subscribe());
        let (client, logs) = (self.client.clone(), self.logs.clone());
        tokio::join!(self.follow(edge, &stop), worker.run(stop.clone()), logs.carry(&client, &stop));
    }

    async fn follow(mut self, edge: Edge, stop: &CancellationToken) {
        let mut backoff = Backoff::default();
        let mut away: Option<Instant> = None;
        while let Some(asked) = stop.run_until_cancelled(self.client.ask(&self.memory.request())).await {
            match asked.and_then(|page| self.take(page, &edge)) {
                Ok(()) => {
                    backoff = Backoff::default();
                    if let Some(since) = away.take() {
                        info!(seconds = since.elapsed().as_secs(), "the control plane answers again");
                    }
                }
                Err(error) => {
                    edge.feed_failed();
                    // Once for each time that it is away, and not for each attempt.
                    if away.is_none() {
                        let source = std::error::Error::source(&error).map(ToString::to_string);
                        warn!(%error, source, "the feed is interrupted; going on with what is known");
                        away = Some(Instant::now());
                    }
                    if matches!(error, FeedError::TooOld(_)) {
                        backoff.0 = TOO_OLD_PAUSE;
                    }
                    backoff.heed(&error);
                    if !backoff.pause(stop).await {
                        return;
                    }
                }
            }
        }
    }

    fn take(&mut self, told: Told, edge: &Edge) -> Result<(), FeedError> {
        skipped(&told.page, &mut self.strange, edge);
        let News { updates, after, kept } = self.memory.take(told);
        edge.apply(updates);
        edge.feed_known(after);
        self.reached.send_replace(after);
        if self.memory.has_all() {
            edge.routes_known();
        }
        kept
    }
}

/// Counts what a page tells that this version does not know and may do without, and says so once for each kind.
fn skipped(page: &FeedPage, told: &mut BTreeSet<String>, edge: &Edge) {
    for kind in &page.skipped {
        edge.feed_skipped();
        if told.len() < STRANGE && told.insert(kind.clone()) {
            warn!(
                kind,
                "the control plane is newer than this edge, which skips changes of a kind that it does not know; upgrade it for what they are about"
            );
        }
    }
}
