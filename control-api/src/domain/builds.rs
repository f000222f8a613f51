//! Deployments by CID, of what a project has stored or this server's sources have: a component at once, JavaScript once it is
//! built, where this server can build it.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use af_content::unixfs;
use af_contract::{Blake3Hash, ContentId};
use bytes::Bytes;
use tokio::sync::{Semaphore, watch};
use tracing::{error, info};

use super::access::{self, Noun};
use super::audit::{self, Event};
use super::component::ComponentError;
use super::deployments::{self, Wanted};
use super::projects::commit;
use super::upload::{Claim, Origin, UploadError};
use super::{Actor, Error, Page, Start, State, blocks, id, now, pruning};
use crate::javascript::{BuildError, JavaScriptBuild, SOURCE_BYTES};
use crate::store::{BuildRow, DeployedRow, DeploymentRow, FunctionRow, builds};

/// Builds at a time: each takes a core and hundreds of megabytes.
const AT_ONCE: usize = 1;

/// Builds that wait for that.
const WAITING: usize = 16;

/// Builds of a project that have not ended: others have their turns, too.
const OF_PROJECT: i64 = 2;

/// The same of a user, in all projects: one with many projects would have all the places.
const OF_USER: i64 = 2;

/// Builds of a function that failed and are kept, the newest: what is beyond is removed when another one begins.
const FAILED: i64 = 10;

/// Deployments of a function that are shown with it.
const NEWEST: i64 = 10;

/// A server that builds says so every third of this. One that has not is dead: what it built is built no more.
const LEASE: Duration = Duration::from_secs(30);

/// After the database failed.
const PAUSE: Duration = Duration::from_secs(2);

const INTERRUPTED: &str = "the server was stopped while this was being built; deploy it again";

const UNAVAILABLE: &str = "this is source code, and this server has no JavaScript build; build it into a component first, or have the operator start the server with --javascript-build";

/// What is being built.
pub(crate) struct Builds {
    /// This server, until it ends: other servers may build for the same database.
    server: String,
    javascript: Option<JavaScriptBuild>,
    turns: Semaphore,
    places: Arc<Semaphore>,
    /// Ids of those that a task here is at.
    at_work: Mutex<BTreeSet<String>>,
    changed: watch::Sender<u64>,
}

/// What is to be deployed.
#[derive(Clone, Copy, Debug)]
pub struct Source {
    /// A component, or JavaScript.
    pub cid: ContentId,
    /// BLAKE3 of the component.
    pub blake3: Option<Blake3Hash>,
    /// A directory of files that the function may read.
    pub assets: Option<ContentId>,
}

impl Source {
    /// From the texts of a request.
    ///
    /// # Errors
    /// When one is none.
    pub fn parse(cid: Option<&str>, blake3: Option<&str>, assets: Option<&str>) -> Result<Self, Error> {
        let content_id =
            |text: &str| ContentId::parse(text).map_err(|error| Error::invalid("invalid_cid", error));
        let cid =
            cid.ok_or_else(|| Error::invalid("invalid_cid", "say with its CID what is to be deployed"))?;
        let blake3 = blake3.map(|text| text.parse().map_err(|error| Error::invalid("invalid_blake3", error)));
        Ok(Self {
            cid: content_id(cid)?,
            blake3: blake3.transpose()?,
            assets: assets.map(content_id).transpose()?,
        })
    }
}

impl Builds {
    pub(crate) fn new(javascript: Option<JavaScriptBuild>) -> Self {
        Self {
            server: id::new("srv"),
            javascript,
            turns: Semaphore::new(AT_ONCE),
            places: Arc::new(Semaphore::new(WAITING)),
            at_work: Mutex::default(),
            changed: watch::Sender::new(0),
        }
    }

    /// Changes whenever a build has begun or ended, or an edge has reported on a deployment.
    pub(crate) fn subscribe(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    pub(super) fn announce(&self) {
        self.changed.send_modify(|count| *count += 1);
    }

    pub(super) fn server(&self) -> &str {
        &self.server
    }

    fn at_work(&self) -> Vec<String> {
        self.at_work.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }
}

/// As long as this is there, this server says of a build that it is at it. Not of one whose task has ended, whatever its row says.
struct AtWork(Arc<State>, String);

impl AtWork {
    fn new(state: &Arc<State>, id: &str) -> Self {
        let mut ids = state.builds.at_work.lock().unwrap_or_else(PoisonError::into_inner);
        ids.insert(id.to_owned());
        Self(state.clone(), id.to_owned())
    }
}

impl Drop for AtWork {
    fn drop(&mut self) {
        let mut ids = self.0.builds.at_work.lock().unwrap_or_else(PoisonError::into_inner);
        ids.remove(&self.1);
    }
}

/// Says that this server is at work, and ends what dead ones were building; for ever.
pub(crate) async fn watch(state: &State) {
    loop {
        let pause = match look(state).await {
            Ok(ended) => {
                if ended > 0 {
                    info!(ended, "builds of a server that is no more were ended");
                    state.builds.announce();
                }
                LEASE / 3
            }
            Err(error) => {
                error!(%error, source = ?std::error::Error::source(&error), "builds cannot be looked after; trying again");
                PAUSE
            }
        };
        tokio::time::sleep(pause).await;
    }
}

async fn look(state: &State) -> Result<u64, Error> {
    let mut db = state.store.begin().await?;
    builds::lease(&mut db, &state.builds.server, &state.builds.at_work(), leased()).await?;
    let ended = builds::interrupt(&mut db, INTERRUPTED, now()).await?;
    commit(db).await?;
    Ok(ended)
}

/// Until when a server that says so now is believed to be at work.
fn leased() -> i64 {
    now().saturating_add(i64::try_from(LEASE.as_millis()).unwrap_or(i64::MAX))
}

/// Deploys content by its CID. A component is what the function runs when this returns; JavaScript is being built then, or has
/// failed for a reason that the row tells.
///
/// # Errors
/// When there is no function that the actor may see, neither the project nor the sources have such content, or it is refused.
pub async fn trigger(
    state: &Arc<State>,
    actor: &Actor,
    function: &str,
    source: Source,
) -> Result<DeployedRow, Error> {
    let row = access::function(state, actor, function, Noun::Deployments.write()).await?;
    let claim = Claim { cid: source.cid, blake3: source.blake3, assets: source.assets, key: None };
    let made =
        Box::pin(deployments::create(state, actor, function, claim, Wanted::default(), Origin::Sources))
            .await;
    let id = match made {
        Ok(deployment) => deployment.id,
        Err(Error::Upload(UploadError::Component(ComponentError::NotWasm(_)))) => {
            Box::pin(start(state, actor, &row, source)).await?
        }
        Err(error) => return Err(error),
    };
    state.builds.announce();
    state.store.deployed(&id).await?.ok_or_else(|| Error::not_found("deployment", &id))
}

/// A deployment, or what is to be one.
///
/// # Errors
/// When there is none that the actor may see.
pub async fn get(state: &State, actor: &Actor, id: &str) -> Result<DeployedRow, Error> {
    let not_found = || Error::not_found("deployment", id);
    let deployed = state.store.deployed(id).await?.ok_or_else(not_found)?;
    let needed = Noun::Deployments.read();
    access::function(state, actor, &deployed.function_id, needed).await.map_err(|error| match error {
        Error::NotFound { .. } => not_found(),
        error => error,
    })?;
    Ok(deployed)
}

/// A function's deployments and builds, newest first; with `cid`, those of that content. The cursor is an id.
///
/// # Errors
/// When there is no function that the actor may see.
pub async fn list(
    state: &State,
    actor: &Actor,
    function: &str,
    cid: Option<&str>,
    start: impl Into<Start<'_>>,
) -> Result<Page<DeployedRow>, Error> {
    let start = start.into();
    access::function(state, actor, function, Noun::Deployments.read()).await?;
    let (before, limit) = start.by_id("dep")?;
    // Ids are of digits and letters behind their prefix.
    let before = if before.is_empty() { "dep_~" } else { before };
    let items = state.store.deployed_of(function, cid, before, limit).await?;
    Ok(Page::of(items, limit, |deployed| deployed.id.clone()))
}

/// A deployment with all that is known of it, or source code that is none or none yet.
#[derive(Debug)]
pub enum Shown {
    /// What a function runs, or may.
    Deployment(Box<DeploymentRow>),
    /// Source code, and the name of who sent it.
    Build(BuildRow, String),
}

/// As [`get`].
///
/// # Errors
/// As for [`get`].
pub async fn get_shown(state: &State, actor: &Actor, id: &str) -> Result<Shown, Error> {
    let deployed = get(state, actor, id).await?;
    look_up(state, &deployed.id).await?.ok_or_else(|| Error::not_found("deployment", id))
}

/// As [`list`].
///
/// # Errors
/// As for [`list`].
pub async fn shown(
    state: &State,
    actor: &Actor,
    function: &str,
    start: Start<'_>,
) -> Result<Page<Shown>, Error> {
    let Page { items, next } = list(state, actor, function, None, start).await?;
    let mut shown = Vec::new();
    for deployed in items {
        // One that went meanwhile is left out.
        shown.extend(look_up(state, &deployed.id).await?);
    }
    Ok(Page { items: shown, next })
}

async fn look_up(state: &State, id: &str) -> Result<Option<Shown>, Error> {
    if let Some(row) = state.store.deployment(id).await? {
        return Ok(Some(Shown::Deployment(Box::new(row))));
    }
    let Some(build) = state.store.build(id).await? else { return Ok(None) };
    let author = state.store.user(&build.author_id).await?.map(|user| user.name);
    Ok(Some(Shown::Build(build, author.unwrap_or_default())))
}

/// Several deployments of a project at once, by their ids; those that are no more are left out.
///
/// # Errors
/// When the actor may not see the project's deployments.
pub async fn several(
    state: &State,
    actor: &Actor,
    project: &str,
    ids: &[String],
) -> Result<Vec<DeployedRow>, Error> {
    if actor.grant.function.is_some() {
        // Of one function, so there is one.
        let mut found = Vec::new();
        for id in ids {
            found.push(get(state, actor, id).await?);
        }
        return Ok(found);
    }
    access::project(state, actor, project, Noun::Deployments.read()).await?;
    Ok(state.store.deployed_in(project, ids).await?)
}

/// The ten newest deployments of each of a project's functions, newest first.
///
/// # Errors
/// When the actor may not see the project's deployments.
pub async fn newest_deployed(
    state: &State,
    actor: &Actor,
    project: &str,
    functions: &[String],
) -> Result<Vec<DeployedRow>, Error> {
    match &actor.grant.function {
        Some(only) => access::function(state, actor, only, Noun::Deployments.read()).await.map(drop)?,
        None => access::project(state, actor, project, Noun::Deployments.read()).await.map(drop)?,
    }
    Ok(state.store.newest_deployed(project, functions, NEWEST).await?)
}

/// Begins to build source code, or tells why that cannot be.
async fn start(
    state: &Arc<State>,
    actor: &Actor,
    function: &FunctionRow,
    source: Source,
) -> Result<String, Error> {
    let build = state.builds.javascript.clone();
    let place = state.builds.places.clone().try_acquire_owned().map_err(|_| Error::Busy)?;
    let now = now();
    let row = BuildRow {
        id: id::new("dep"),
        function_id: function.id.clone(),
        source_cid: source.cid.to_string(),
        assets_cid: source.assets.map(|assets| assets.to_string()),
        status: if build.is_some() { "DEPLOYING" } else { "FAILED" }.into(),
        reason: build.is_none().then(|| UNAVAILABLE.into()),
        author_id: actor.user.clone(),
        created_at: now,
        updated_at: now,
    };
    let mut db = state.store.begin().await?;
    if builds::is_deploying(&mut db, &function.id).await? {
        let detail = "the function is being built already; wait until that has ended";
        return Err(Error::conflict("deployment_in_progress", detail));
    }
    // It would be built for nothing.
    pruning::check_room(state, &mut db, function, pruning::Place::Active).await?;
    if builds::unfinished(&mut db, &function.project_id).await? >= OF_PROJECT {
        let detail = format!(
            "{OF_PROJECT} functions of the project are being built already; wait until one of them has ended"
        );
        return Err(Error::conflict("too_many_builds", detail));
    }
    if builds::unfinished_of(&mut db, &actor.user).await? >= OF_USER {
        let detail =
            format!("{OF_USER} functions are being built for you already; wait until one of them has ended");
        return Err(Error::conflict("too_many_builds", detail));
    }
    // With the one that begins, which may fail, too.
    builds::forget_failed(&mut db, &function.id, FAILED - 1).await?;
    let at_work = AtWork::new(state, &row.id);
    builds::insert(&mut db, &row, &state.builds.server, leased()).await?;
    audit::commit(db, actor, Event::project("build.create", &row.id, &function.project_id)).await?;
    if let Some(build) = build {
        let (state, actor, id) = (state.clone(), actor.clone(), row.id.clone());
        tokio::spawn(async move {
            let (_place, _at_work) = (place, at_work);
            Box::pin(finish(&state, &actor, &build, row, source)).await;
            state.builds.announce();
        });
        return Ok(id);
    }
    Ok(row.id)
}

/// Builds, deploys, and writes down what became of it.
async fn finish(state: &State, actor: &Actor, build: &JavaScriptBuild, row: BuildRow, source: Source) {
    let Err(error) = make(state, actor, build, &row, source).await else {
        info!(deployment = %row.id, "source code was built and deployed");
        return;
    };
    let reason = match &error {
        Failed::Build(BuildError::Io(_)) | Failed::Domain(Error::Store(_) | Error::Internal(_)) => {
            error!(deployment = %row.id, %error, source = ?std::error::Error::source(&error), "source code could not be built");
            "the server could not build this; its log says why".to_owned()
        }
        error => error.to_string(),
    };
    let written = async {
        let mut db = state.store.begin().await?;
        let server = &state.builds.server;
        builds::finish(&mut db, (&row.id, server), "FAILED", Some(&reason), now()).await?;
        commit(db).await
    };
    if let Err(error) = written.await {
        error!(deployment = %row.id, %error, "a build's end could not be written down; the next start does so");
    }
}

/// Why source code did not become a deployment.
#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error(transparent)]
    Build(#[from] BuildError),
    #[error(transparent)]
    Domain(#[from] Error),
}

async fn make(
    state: &State,
    actor: &Actor,
    build: &JavaScriptBuild,
    row: &BuildRow,
    source: Source,
) -> Result<(), Failed> {
    let code = read(state, source.cid).await?;
    let turn = state.builds.turns.acquire().await.map_err(|error| Error::Internal(Box::new(error)))?;
    let component = Bytes::from(build.build(&code).await?);
    drop(turn);
    let file = component.clone();
    let summary = blocks::blocking(move || unixfs::import(&file[..], |_| Ok(()))).await?;
    let summary = summary.map_err(|error| Error::Internal(Box::new(error)))?;
    let claim = Claim { cid: summary.root, blake3: Some(summary.blake3), assets: source.assets, key: None };
    let wanted = Wanted { id: Some(row.id.clone()), ..Wanted::default() };
    let origin = Origin::Built(component);
    Box::pin(deployments::create(state, actor, &row.function_id, claim, wanted, origin)).await?;
    Ok(())
}

/// The source file, which is here.
async fn read(state: &State, cid: ContentId) -> Result<Vec<u8>, Error> {
    let store = state.blocks.clone();
    let read = move || {
        let staging = store.stage().map_err(UploadError::Storage)?;
        let mut ids = BTreeSet::new();
        store.dag(&cid, &mut ids)?;
        super::upload::restage(&store, &staging, ids)?;
        let mut inspection = staging.inspect().map_err(UploadError::Storage)?;
        Ok::<_, UploadError>(inspection.file(&cid, SOURCE_BYTES)?)
    };
    Ok(blocks::blocking(read).await??)
}
