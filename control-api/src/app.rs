//! Builds the control API from its configuration. The only place where its parts meet.

use std::future::Future;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use af_content::DiskStore;
use af_content::gateway::Gateway;
use af_content::sink::Sink;
use af_content::source::Fetcher;
use af_contract::edge::{Awaited, Report, UsageBatch, UsageTaken};
use af_contract::feed::preview_label;
use af_contract::{Limits, LogSink, Slug};
use axum::Router;
use ipnet::IpNet;
use tokio::net::TcpListener;
use tokio::sync::{Mutex, Semaphore, watch};

use crate::domain::builds::{self, Builds};
use crate::domain::calls::{Calls, Remote};
use crate::domain::changes::{self, Changes};
use crate::domain::domains::{DomainConfig, Domains};
use crate::domain::edges::{Edges, seen};
use crate::domain::feed::Changes as FeedChanges;
use crate::domain::logs::{Logs, relay};
use crate::domain::master_key::{Keyring, MasterKey};
use crate::domain::places::{self, Places};
use crate::domain::plans::rate::PlanRates;
use crate::domain::pruning::PrunedAll;
use crate::domain::quotas::Quotas;
use crate::domain::rates::Rates;
use crate::domain::scheduler::{self, Callee, Scheduler};
use crate::domain::sessions::SessionConfig;
use crate::domain::sweep::{self, Sweeper};
use crate::domain::{
    Clock, blocks, bootstrap, feed, pruning, reports, rotation, settings, signing_keys, tokens, triggers,
    usage, verification,
};
use crate::graphql::GraphqlConfig;
use crate::javascript::JavaScriptBuild;
use crate::redis::{RedisUrl, SharedRates};
use crate::store::{Database, Store, StoreError};
use crate::{listen, rest};

/// Deployments that come or are fetched at the same time, and files that are stored: both go to the disk as they come, each
/// with a thread.
const UPLOADS: usize = 64;

/// Of one user: nobody keeps all others from deploying.
const UPLOADS_OF_USER: usize = 8;

/// Deployments that are judged at the same time: each may hold a component's 50 MB in memory.
const JUDGING: usize = 4;

/// What projects may store, for how long what they do not need stays, and who else holds content.
#[derive(Clone, Debug)]
pub struct StorageConfig {
    /// All pins of a project, bytes.
    pub bytes_per_project: u64,
    /// Pins of a project.
    pub pins_per_project: u64,
    /// A block that nobody needs stays for so long after its file was written.
    pub grace: Duration,
    /// Between two sweeps.
    pub sweep_interval: Duration,
    /// Who else holds content.
    pub sinks: Vec<Arc<dyn Sink>>,
}

impl Default for StorageConfig {
    fn default() -> Self {
        let day = Duration::from_secs(24 * 60 * 60);
        // Ten gigabytes are what free plans in this field have.
        Self {
            bytes_per_project: 10 << 30,
            pins_per_project: 10_000,
            grace: day,
            sweep_interval: day,
            sinks: Vec::new(),
        }
    }
}

/// Content that projects store.
pub(crate) struct Storage {
    pub(crate) config: StorageConfig,
    pub(crate) places: Places,
}

/// Everything that the control API needs to be told.
#[derive(Clone, Debug)]
pub struct ControlConfig {
    /// Where everything but content is kept.
    pub database: Database,
    /// What the keys of projects are sealed with.
    pub master_key: MasterKey,
    /// Where functions answer, with `{slug}` in it: `http://{slug}.localhost:8080`.
    pub invoke_url: String,
    /// Requests of one token per second, twice as many at once.
    pub rate_limit: NonZeroU32,
    /// The limits that new deployments get.
    pub limits: Limits,
    /// How custom domains are verified.
    pub domains: DomainConfig,
    /// Of the schedule of triggers.
    pub clock: Clock,
    /// What may be stored, and where.
    pub storage: StorageConfig,
    /// Content by CID for others, where it is served.
    pub gateway: Option<Gateway>,
    /// Who may ask, and how.
    pub api: ApiConfig,
    /// How GraphQL is served.
    pub graphql: GraphqlConfig,
    /// The platform's JavaScript build, where there is one.
    pub javascript: Option<JavaScriptBuild>,
}

/// Who may ask the API, and how.
#[derive(Clone, Debug, Default)]
pub struct ApiConfig {
    /// Networks of proxies whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Origins whose pages may ask: `https://app.example.com`.
    pub origins: Vec<String>,
    /// Short-lived tokens.
    pub sessions: SessionConfig,
    /// How many things one user can make.
    pub quotas: Quotas,
    /// Where rates are counted together with other servers. `None`: in this process.
    pub redis: Option<RedisUrl>,
}

/// Why the control API cannot start.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// The database.
    #[error("the database cannot be used")]
    Store(#[from] StoreError),
    /// The master key.
    #[error("the master key {key} cannot be read or made")]
    MasterKey {
        /// Where it is.
        key: MasterKey,
        /// Why.
        source: std::io::Error,
    },
    /// None, or another one than what the database was sealed with.
    #[error(
        "the master key {0} is missing or is not the one that the database was sealed with; give the one that was there before, or restore it from a backup (docs/secrets.md says what to do where it is lost)"
    )]
    OtherMasterKey(MasterKey),
    /// What is sealed.
    #[error("what is sealed in the database cannot be brought up to date: {0}")]
    Sealed(crate::domain::Error),
    /// A rotation that was cut off.
    #[error("the rotation of the master key cannot be finished")]
    Rotation(#[from] rotation::RotationError),
    /// The block store.
    #[error("the block store cannot be used")]
    Blocks(#[from] af_content::StoreError),
    /// First start.
    #[error("the first project cannot be made: {0}")]
    Bootstrap(crate::domain::Error),
    /// Deployments beyond the most.
    #[error("old deployments cannot be removed")]
    Pruning(#[source] crate::domain::Error),
    /// What has been gone for long.
    #[error("the feed cannot forget what has been gone for long")]
    Feed(#[source] crate::domain::Error),
    /// When edges asked.
    #[error("it cannot be written down which edges have asked")]
    Seen(#[source] crate::domain::Error),
    /// What an edge reports.
    #[error("what the edge reports cannot be written down")]
    Report(#[source] crate::domain::Error),
    /// What edges counted.
    #[error("what functions and sites used cannot be written down")]
    Usage(#[source] crate::domain::Error),
    /// The resolver.
    #[error("the DNS resolver cannot be set up")]
    Dns(#[from] hickory_resolver::net::NetError),
    /// Of Redis.
    #[error("the address of Redis cannot be used")]
    Redis(#[from] ::redis::RedisError),
}

impl ControlError {
    /// Whether the same would end the same: what was reported or counted is refused for what it says.
    #[must_use]
    pub fn is_final(&self) -> bool {
        matches!(self, Self::Report(error) | Self::Usage(error) if error.is_final())
    }
}

/// The control API. Cheap to clone.
#[derive(Clone)]
pub struct ControlApi {
    state: Arc<State>,
    gateway: Option<Gateway>,
    graphql: GraphqlConfig,
    counted_alone: Option<Arc<AtomicU64>>,
}

/// What every domain function works on.
pub struct State {
    pub(crate) store: Store,
    pub(crate) blocks: DiskStore,
    /// Whoever else may have content.
    pub(crate) sources: Fetcher,
    pub(crate) limits: Limits,
    pub(crate) keys: Keyring,
    pub(crate) domains: Domains,
    pub(crate) scheduler: Scheduler,
    pub(crate) storage: Storage,
    pub(crate) sweeper: Arc<Sweeper>,
    invoke_url: String,
    /// Held while blocks are made visible and their row is committed, so that undoing one deployment
    /// never removes blocks that another one is about to need.
    pub(crate) committing: Mutex<()>,
    pub(crate) uploads: crate::places::Places,
    pub(crate) judging: Semaphore,
    /// Of who adds what an edge counted: one at a time.
    pub(crate) counting: Semaphore,
    pub(crate) rates: Rates,
    pub(crate) plan_rates: PlanRates,
    pub(crate) tokens: tokens::Known,
    pub(crate) changes: Changes,
    pub(crate) api: ApiConfig,
    pub(crate) signing_keys: signing_keys::Known,
    pub(crate) builds: Builds,
    pub(crate) edges: Edges,
    pub(crate) calls: Arc<Calls>,
    pub(crate) logs: Arc<Logs>,
    /// Becomes true when the server is to end, for what would otherwise go on and on.
    pub(crate) stopping: watch::Sender<bool>,
}

impl State {
    /// Where a function answers.
    pub(crate) fn invoke_url(&self, slug: &str) -> String {
        self.invoke_url.replace("{slug}", slug)
    }

    /// Where a deployment answers whatever its function runs.
    pub(crate) fn preview_url(&self, slug: &str, deployment: &str) -> Option<String> {
        let label = preview_label(deployment, &Slug::parse(slug).ok()?)?;
        Some(self.invoke_url(&label))
    }
}

/// Reads the master key, and ends what a crash has cut off: nothing is sealed with another one then.
async fn keys(store: &Store, key: MasterKey) -> Result<Keyring, ControlError> {
    if !Keyring::is_there(&key) && rotation::is_sealed(store).await? {
        return Err(ControlError::OtherMasterKey(key));
    }
    let keys = Keyring::open(&key).map_err(|source| ControlError::MasterKey { key: key.clone(), source })?;
    if !rotation::opens(store, &keys).await? {
        return Err(ControlError::OtherMasterKey(key));
    }
    settings::recover(store, &keys).await.map_err(ControlError::Sealed)?;
    rotation::resume(store, &keys, &key).await?;
    Ok(keys)
}

impl ControlApi {
    /// Opens the database, brings its schema up to date and undoes what a crash left half done. Content is kept in the store
    /// of `blocks`, and what is deployed by its CID is fetched by it.
    ///
    /// # Errors
    /// When the database or the block store cannot be used.
    pub async fn build(config: ControlConfig, blocks: impl Into<Fetcher>) -> Result<Self, ControlError> {
        let sources = blocks.into();
        let blocks = sources.store().clone();
        let store = Box::pin(Store::open(&config.database)).await?;
        blocks::recover(&store, &blocks).await?;
        triggers::recover(&store).await?;
        let revision = store.latest_revision().await?;
        let keys = Box::pin(keys(&store, config.master_key)).await?;
        let shared = config.api.redis.as_ref().map(SharedRates::new).transpose()?.map(Arc::new);
        let counted_alone = shared.as_ref().map(|shared| shared.alone());
        let state = State {
            store,
            keys,
            scheduler: Scheduler::new(config.clock),
            blocks,
            sources,
            limits: config.limits,
            domains: Domains::new(config.domains)?,
            storage: Storage { places: Places::new(config.storage.sinks.clone()), config: config.storage },
            sweeper: Arc::default(),
            invoke_url: config.invoke_url,
            committing: Mutex::new(()),
            uploads: crate::places::Places::new(UPLOADS_OF_USER, UPLOADS),
            judging: Semaphore::new(JUDGING),
            counting: Semaphore::new(1),
            rates: Rates::new(config.rate_limit, shared),
            plan_rates: PlanRates::default(),
            tokens: tokens::Known::default(),
            changes: Changes::new(revision),
            api: config.api,
            signing_keys: signing_keys::Known::default(),
            builds: Builds::new(config.javascript),
            edges: Edges::default(),
            calls: Arc::default(),
            logs: Arc::default(),
            stopping: watch::Sender::new(false),
        };
        let state = Arc::new(state);
        Ok(Self { state, gateway: config.gateway, graphql: config.graphql, counted_alone })
    }

    /// On the first start, makes a user, a project and a token; with `token` given, that token.
    ///
    /// # Errors
    /// When the token has no usable form, or the database fails.
    pub async fn bootstrap(&self, token: Option<&str>) -> Result<Option<bootstrap::Made>, ControlError> {
        bootstrap::first_start(&self.state, token).await.map_err(ControlError::Bootstrap)
    }

    /// Whether this control API accepts a token.
    pub async fn accepts(&self, token: &str) -> bool {
        tokens::authenticate(&self.state, token).await.is_ok()
    }

    /// What changed after the revision `known`: a page of it, so ask until there is no more.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn changes_since(&self, known: u64) -> Result<FeedChanges, ControlError> {
        Ok(feed::since(&self.state, known, feed::Reader::Here).await?)
    }

    /// How often rates that others count, too, were counted in this process because Redis did not answer; none without Redis.
    #[must_use]
    pub fn counted_alone(&self) -> Option<Arc<AtomicU64>> {
        self.counted_alone.clone()
    }

    /// Changes whenever something was committed that edges must know; its value is the newest revision.
    #[must_use]
    pub fn revisions(&self) -> watch::Receiver<u64> {
        self.state.changes.subscribe()
    }

    /// The edge of this process answers by all changes up to `revision`: from now on, a change is answered once that edge
    /// has it. `None`: it takes over no changes any more.
    pub fn applied(&self, revision: Option<u64>) {
        self.state.changes.applied(revision);
    }

    /// Removes what functions have beyond the most deployments, as [`Self::watch_storage`] does once a day.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn prune_deployments(&self) -> Result<PrunedAll, ControlError> {
        pruning::all(&self.state).await.map_err(ControlError::Pruning)
    }

    /// Has the feed forget what has been gone for a week, as [`Self::watch_storage`] does once a day. How many things that were.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn compact_feed(&self) -> Result<usize, ControlError> {
        feed::compact(&self.state).await.map_err(ControlError::Feed)
    }

    /// Takes over what the edge of this process reports.
    ///
    /// # Errors
    /// When the database fails; then it may be reported again.
    pub async fn report(&self, report: &Report) -> Result<(), ControlError> {
        reports::take(&self.state, reports::HERE, report).await.map_err(ControlError::Report)
    }

    /// Adds what the edge of this process counted. A batch counts once, however often it is handed in.
    ///
    /// # Errors
    /// When the database fails, or it is no batch; the same may be handed in again unless that is final ([`ControlError::is_final`]).
    pub async fn usage(&self, batch: &UsageBatch) -> Result<UsageTaken, ControlError> {
        usage::take(&self.state, reports::HERE, batch).await.map_err(ControlError::Usage)
    }

    /// Forgets what was used long ago, as [`Self::watch_storage`] does once a day. How many rows that were.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn compact_usage(&self) -> Result<u64, ControlError> {
        usage::compact(&self.state).await.map_err(ControlError::Usage)
    }

    /// Deployments that no edge has reported on yet, for the edge of this process to look at.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn awaited(&self) -> Result<Vec<Awaited>, ControlError> {
        reports::awaited(&self.state, reports::HERE.id).await.map_err(ControlError::Report)
    }

    /// Whoever calls functions where this process has no edge: edges that are processes of their own.
    #[must_use]
    pub fn remote_callee(&self) -> Arc<dyn Callee> {
        Arc::new(Remote { calls: self.state.calls.clone(), store: self.state.store.clone() })
    }

    /// Where the edge of this process hands in what functions log.
    #[must_use]
    pub fn logs(&self) -> Arc<dyn LogSink> {
        self.state.logs.clone()
    }

    /// Has functions called when their time comes, until `stop` resolves; then lets runs finish. To be called once.
    pub async fn run_triggers(&self, callee: Arc<dyn Callee>, stop: impl Future<Output = ()>) {
        scheduler::run(self.state.clone(), callee, stop).await;
    }

    /// Notices what other servers of the same database commit, exchanges with them what functions log, and writes down which edges ask
    /// this one, until `stop` resolves.
    pub async fn follow_others(&self, stop: impl Future<Output = ()>) {
        tokio::select! {
            () = changes::follow(&self.state) => {}
            () = relay::follow(&self.state) => {}
            () = seen::follow(&self.state) => {}
            () = stop => {}
        }
        if let Err(error) = self.write_edges_seen().await {
            tracing::warn!(%error, "it is not written down which edges have asked last");
        }
    }

    /// Writes down which edges have asked this server, as [`Self::follow_others`] does every ten seconds.
    ///
    /// # Errors
    /// When the database fails; it is written down later then.
    pub async fn write_edges_seen(&self) -> Result<(), ControlError> {
        seen::write(&self.state).await.map_err(ControlError::Seen)
    }

    /// Checks verified domains again and again, until `stop` resolves.
    pub async fn watch_domains(&self, stop: impl Future<Output = ()>) {
        // A check that is cut leaves everything as it was.
        tokio::select! {
            () = verification::watch(&self.state) => {}
            () = stop => {}
        }
    }

    /// Ends builds of servers that died, and says that this one lives, until `stop` resolves.
    pub async fn watch_builds(&self, stop: impl Future<Output = ()>) {
        tokio::select! {
            () = builds::watch(&self.state) => {}
            () = stop => {}
        }
    }

    /// Has content held at other places, and removes old deployments and blocks that nobody needs, and what was used long ago, until
    /// `stop` resolves.
    pub async fn watch_storage(&self, stop: impl Future<Output = ()>) {
        // What is cut is done again after the next start.
        tokio::select! {
            () = places::hold(&self.state) => {}
            () = Box::pin(pruning::watch(&self.state)) => {}
            () = sweep::watch(&self.state) => {}
            () = stop => {}
        }
    }

    /// All endpoints.
    pub fn router(&self) -> Router {
        rest::router(self.state.clone(), self.gateway.clone(), self.graphql)
    }

    /// Serves until `stop` resolves, then ends subscriptions and lets requests finish.
    pub async fn serve(&self, listener: TcpListener, stop: impl Future<Output = ()>) {
        let stop = async {
            stop.await;
            self.state.stopping.send_replace(true);
        };
        let trusted = self.state.api.trusted_proxies.clone();
        listen::serve(listener, self.router(), trusted, stop).await;
    }
}
