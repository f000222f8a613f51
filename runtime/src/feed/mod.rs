//! The feed of an edge that is a process of its own: it asks the control plane for what changed, keeps that on its disk, and
//! goes on with what it knows for as long as nobody answers.

mod client;
mod identity;
mod known;
mod saved;
mod work;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use af_contract::edge::{EdgeError, FeedPage, JoinToken};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use url::Url;

use self::client::Client;
pub use self::identity::Identity;
use self::known::{Known, newest};
use self::saved::Saved;
use self::work::Worker;
use crate::Edge;

/// After a request that failed; twice as long after each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// Changes on the disk may have so many bytes more than what they are changes of, before all is asked for anew.
const GROWTH: u64 = 4 << 20;

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
        "this is no edge yet: start it with --join TOKEN, which `af edges add NAME` gives to the platform's operator"
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
        /// Of its problem document.
        said: String,
    },
    /// What came is not from the control plane, or not for this edge.
    #[error("what came in the control plane's name does not count: {0}")]
    Untrusted(#[from] EdgeError),
    /// What came is too long, or no page.
    #[error("the control plane's answer cannot be read: {0}")]
    Unreadable(String),
}

/// What an edge knows, and whom it asks for more.
pub struct Feed {
    client: Arc<Client>,
    known: Known,
    saved: Saved,
    /// What `known` is after, for whoever waits for it.
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
    /// Waits. `false`: `stop` came first.
    async fn pause(&mut self, stop: &CancellationToken) -> bool {
        let chance = getrandom::u32().map_or(0.5, |number| f64::from(number) / f64::from(u32::MAX));
        let wait = self.0.mul_f64(0.5 + chance / 2.0);
        self.0 = (self.0 * 2).min(LONGEST_PAUSE);
        tokio::time::timeout(wait, stop.cancelled()).await.is_err()
    }
}

impl Feed {
    /// Becomes an edge, where this is none yet, and hands to `edge` what an earlier process was told.
    ///
    /// # Errors
    /// When this is no edge and cannot become one, or the disk cannot be used.
    pub async fn start(config: &FeedConfig, identity: Arc<Identity>, edge: &Edge) -> Result<Self, FeedError> {
        let (saved, pages) = Saved::open(&config.dir, identity.secret())?;
        let mut known = Known::default();
        let told: Vec<_> = pages.into_iter().flat_map(|page| known.take(page).updates).collect();
        // What was replaced since is nothing to serve, nor to compile.
        edge.apply(newest(told));
        let client = Arc::new(Client::new(&config.control, identity)?);
        let reached = watch::Sender::new(known.after());
        if known.has_all() {
            info!(revision = known.after(), "going on with the routes of the last start");
            edge.routes_known();
        }
        Ok(Self { client, known, saved, reached })
    }

    /// Follows the control plane, tells it what happens here, and does what it wants of one edge, until `stop`.
    pub async fn run(self, edge: Edge, stop: CancellationToken) {
        let worker = Worker::new(self.client.clone(), edge.clone(), self.reached.subscribe());
        tokio::join!(self.follow(edge, &stop), worker.run(stop.clone()));
    }

    async fn follow(mut self, edge: Edge, stop: &CancellationToken) {
        let mut backoff = Backoff::default();
        let mut away: Option<Instant> = None;
        while let Some(asked) = stop.run_until_cancelled(self.client.ask(&self.known.request())).await {
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
                    if !backoff.pause(stop).await {
                        return;
                    }
                }
            }
        }
    }

    fn take(&mut self, page: FeedPage, edge: &Edge) -> Result<(), FeedError> {
        let taken = self.known.take(page.clone());
        // First on the disk, then in use: a crash in between repeats it.
        let kept = match taken.whole {
            Some(pages) => self.saved.replace(&pages),
            None if taken.is_news => self.saved.append(&page),
            None => Ok(()),
        };
        edge.apply(taken.updates);
        edge.feed_known(self.known.after());
        self.reached.send_replace(self.known.after());
        if self.known.has_all() {
            edge.routes_known();
        }
        // What the disk lacks would be missing at the next start: it gets all anew, once it can.
        if kept.is_err() || self.saved.has_grown(GROWTH) {
            self.known.forget_place();
        }
        kept
    }
}
