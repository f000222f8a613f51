//! Builds the control API from its configuration. The only place where its parts meet.

use std::future::Future;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use af_content::DiskStore;
use af_content::gateway::Gateway;
use af_content::sink::Sink;
use af_content::source::Fetcher;
use af_contract::feed::preview_label;
use af_contract::{Limits, RolloutFailure, Slug, Update};
use axum::Router;
use ipnet::IpNet;
use tokio::net::TcpListener;
use tokio::sync::{Mutex, Semaphore, watch};

use crate::domain::builds::{self, Builds};
use crate::domain::changes::Changes;
use crate::domain::domains::{DomainConfig, Domains};
use crate::domain::places::{self, Places};
use crate::domain::rates::Rates;
use crate::domain::scheduler::{self, Callee, Scheduler};
use crate::domain::sealing::Seal;
use crate::domain::sessions::SessionConfig;
use crate::domain::sweep::{self, Sweeper};
use crate::domain::{
    Clock, blocks, bootstrap, feed, pruning, rollouts, signing_keys, tokens, triggers, verification,
};
use crate::graphql::GraphqlConfig;
use crate::javascript::JavaScriptBuild;
use crate::store::{Database, Store, StoreError};
use crate::{listen, rest};

/// Uploads received at the same time; each may hold a component's 50 MB in memory while it is judged.
const UPLOADS: usize = 4;

/// The same of content that is stored, which goes to the disk as it comes.
const STORAGE_UPLOADS: usize = 16;

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
    pub(crate) uploads: Semaphore,
}

/// Everything that the control API needs to be told.
#[derive(Clone, Debug)]
pub struct ControlConfig {
    /// Where everything but content is kept.
    pub database: Database,
    /// The file of the key that settings are sealed with; made on the first start.
    pub master_key: PathBuf,
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
}

/// Why the control API cannot start.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// The database.
    #[error("the database cannot be used")]
    Store(#[from] StoreError),
    /// The master key.
    #[error("the master key in {path} cannot be read or made")]
    MasterKey {
        /// Its file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The block store.
    #[error("the block store cannot be used")]
    Blocks(#[from] af_content::StoreError),
    /// First start.
    #[error("the first project cannot be made: {0}")]
    Bootstrap(crate::domain::Error),
    /// Deployments beyond the most.
    #[error("old deployments cannot be removed")]
    Pruning(#[source] crate::domain::Error),
    /// A rollout that an edge stopped.
    #[error("the rollout cannot be ended")]
    Rollout(#[source] crate::domain::Error),
    /// The resolver.
    #[error("the DNS resolver cannot be set up")]
    Dns(#[from] hickory_resolver::net::NetError),
}

/// The control API. Cheap to clone.
#[derive(Clone)]
pub struct ControlApi {
    state: Arc<State>,
    gateway: Option<Gateway>,
    graphql: GraphqlConfig,
}

/// What every domain function works on.
pub struct State {
    pub(crate) store: Store,
    pub(crate) blocks: DiskStore,
    /// Whoever else may have content.
    pub(crate) sources: Fetcher,
    pub(crate) limits: Limits,
    pub(crate) seal: Seal,
    pub(crate) domains: Domains,
    pub(crate) scheduler: Scheduler,
    pub(crate) storage: Storage,
    pub(crate) sweeper: Arc<Sweeper>,
    invoke_url: String,
    /// Held while blocks are made visible and their row is committed, so that undoing one deployment
    /// never removes blocks that another one is about to need.
    pub(crate) committing: Mutex<()>,
    pub(crate) uploads: Semaphore,
    pub(crate) rates: Rates,
    pub(crate) tokens: tokens::Known,
    pub(crate) changes: Changes,
    pub(crate) api: ApiConfig,
    pub(crate) signing_keys: signing_keys::Known,
    pub(crate) builds: Builds,
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
        builds::recover(&store).await?;
        let revision = store.latest_revision().await?;
        let path = config.master_key;
        let seal = Seal::open(&path).map_err(|source| ControlError::MasterKey { path, source })?;
        let state = State {
            store,
            seal,
            scheduler: Scheduler::new(config.clock),
            blocks,
            sources,
            limits: config.limits,
            domains: Domains::new(config.domains)?,
            storage: Storage {
                places: Places::new(config.storage.sinks.clone()),
                uploads: Semaphore::new(STORAGE_UPLOADS),
                config: config.storage,
            },
            sweeper: Arc::default(),
            invoke_url: config.invoke_url,
            committing: Mutex::new(()),
            uploads: Semaphore::new(UPLOADS),
            rates: Rates::new(config.rate_limit),
            tokens: tokens::Known::default(),
            changes: Changes::new(revision),
            api: config.api,
            signing_keys: signing_keys::Known::default(),
            builds: Builds::new(config.javascript),
        };
        Ok(Self { state: Arc::new(state), gateway: config.gateway, graphql: config.graphql })
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

    /// What changed after the revision `known`, oldest first; at most 1,000 changes, so ask until none are left.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn updates_since(&self, known: u64) -> Result<Vec<Update>, ControlError> {
        Ok(feed::since(&self.state, known).await?)
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

    /// Removes what functions have beyond the most deployments, as [`Self::watch_storage`] does once a day. How many that were.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn prune_deployments(&self) -> Result<usize, ControlError> {
        pruning::all(&self.state).await.map_err(ControlError::Pruning)
    }

    /// Ends a rollout that an edge has stopped, unless it has ended meanwhile.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn rollout_failed(&self, failure: &RolloutFailure) -> Result<(), ControlError> {
        rollouts::fail(&self.state, failure).await.map_err(ControlError::Rollout)
    }

    /// Has functions called when their time comes, until `stop` resolves; then lets runs finish. To be called once.
    pub async fn run_triggers(&self, callee: Arc<dyn Callee>, stop: impl Future<Output = ()>) {
        scheduler::run(self.state.clone(), callee, stop).await;
    }

    /// Checks verified domains again and again, until `stop` resolves.
    pub async fn watch_domains(&self, stop: impl Future<Output = ()>) {
        // A check that is cut leaves everything as it was.
        tokio::select! {
            () = verification::watch(&self.state) => {}
            () = stop => {}
        }
    }

    /// Has content held at other places, and removes old deployments and blocks that nobody needs, until `stop` resolves.
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

    /// Serves until `stop` resolves, then lets requests finish.
    pub async fn serve(&self, listener: TcpListener, stop: impl Future<Output = ()>) {
        listen::serve(listener, self.router(), stop).await;
    }
}
