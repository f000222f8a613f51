//! Deployments: blocks, row and route become visible in one step, or not at all.

mod said;

use af_content::car::Block;
use af_content::identify;
use af_contract::{Codec, ContentId, Cors, HostPattern, Limits, Manifest, StoreName, Trigger, World};
use serde::Serialize;
use serde_json::json;

pub(super) use self::said::checked_message;
use self::said::checked_source;
use super::access::{self, Noun};
use super::audit::{self, Event};
use super::project_keys::internal;
use super::rollouts::{self, Share};
use super::settings::{self, Changes, Going, Next, Rows};
use super::upload::{self, Claim, Content, Origin, Received};
use super::{
    Actor, Error, State, approvals, blocks, content_keys, id, manifests, now, pruning, tokens, triggers,
};
use crate::store::feed::{self, Kind};
use crate::store::{
    self, Connection, DeploymentRow, FunctionRow, deployments, functions as rows, reports, users,
};

/// What a deployment is to be besides its code.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// Requests that one instance may answer, one after another.
    pub reuse: Option<u32>,
    /// Requests that one instance may work for at the same time.
    pub concurrency: Option<u32>,
    /// Hosts that it may send requests to.
    pub egress: Option<Vec<HostPattern>>,
    /// Stores that it may open besides the default one.
    pub stores: Vec<StoreName>,
    /// Which pages of other origins may call it.
    pub cors: Option<Cors>,
    /// Whether the edge compresses its responses.
    pub compress: bool,
    /// Requests to it per second.
    pub requests_per_second: Option<u32>,
    /// When it is called without a request, and where.
    pub triggers: Vec<Trigger>,
    /// What changes in its settings.
    pub settings: Changes,
    /// It answers at its preview host only; the function goes on with what it runs.
    pub preview: bool,
    /// Only some clients get it, and the function goes on with what it runs for the others.
    pub rollout: Option<Share>,
    /// The actor allows what it may do beyond the active one.
    pub allow: bool,
    /// `dep_…`: of the build that it comes from.
    pub id: Option<String>,
    /// Why it is made.
    pub message: Option<String>,
    /// What it was built from, such as a commit.
    pub source_hash: Option<String>,
}

/// A deployment that was made of another one, before its manifest is stored.
pub(super) struct Again {
    pub deployment: DeploymentRow,
    pub manifest: Block,
    pub revision: u64,
}

/// What is to become active.
#[derive(Clone, Copy)]
pub(super) enum Target<'a> {
    This(&'a str),
    Candidate,
    Previous,
}

/// Deployments of a function that wait for an approval: pruning leaves them alone.
const WAITING: i64 = 10;

/// What is known of a deployment besides its manifest.
#[derive(Default)]
struct About {
    /// `dep_…`: of the build that it comes from.
    build: Option<String>,
    message: Option<String>,
    source_hash: Option<String>,
    /// As it is stored.
    imports: Option<String>,
    /// Of all blocks of its component and its files.
    bytes: u64,
}

/// Receives or fetches a component and makes it what the function runs, or what answers at a preview host only.
///
/// # Errors
/// When there is no function that the actor may see, or the upload is refused; nothing is kept then.
pub async fn create(
    state: &State,
    actor: &Actor,
    function: &str,
    claim: Claim,
    wanted: Wanted,
    origin: Origin,
) -> Result<DeploymentRow, Error> {
    let row = permitted(state, actor, function, &wanted).await?;
    // Before anything is sent; what counts is what is there when it is entered.
    let activates = !wanted.preview && wanted.rollout.is_none();
    let place = if activates { pruning::Place::Active } else { pruning::Place::Beside };
    before_sending(state, &row, &wanted, place).await?;
    manifests::bring(state, Vec::from_iter(row.current_deployment_id)).await?;
    let project = row.project_id;
    let about = About {
        message: wanted.message.as_deref().map(checked_message).transpose()?,
        source_hash: wanted.source_hash.as_deref().map(checked_source).transpose()?,
        ..About::default()
    };
    let _place = match origin {
        // Builds have places of their own, and nobody to try again.
        Origin::Built(_) => None,
        _ => Some(state.uploads.take(&actor.user).ok_or(Error::Busy)?),
    };
    let key = claim.key.clone();
    let Received { content, bytes, staging } = match origin {
        Origin::Client(chunks) => Box::pin(upload::receive(state, claim, chunks)).await?,
        Origin::Sources => Box::pin(upload::fetch(state, &project, claim)).await?,
        Origin::Built(component) => Box::pin(upload::built(state, claim, component)).await?,
    };
    if wanted.concurrency.is_some_and(|many| many > 1) && content.code.world == World::Proxy02 {
        let detail = "an instance of a WASI 0.2 component works for one request at a time; leave the concurrency out, or build the component for WASI 0.3";
        return Err(Error::invalid("invalid_concurrency", detail));
    }

    let committing = state.committing.lock().await;
    // Receiving and building take minutes, in which somebody may have been removed.
    tokens::recheck(state, actor).await?;
    let row = permitted(state, actor, function, &wanted).await?;
    let may_allow = access::may(state, actor, &row, Noun::Approvals.write()).await?;
    let mut db = state.store.begin().await?;
    if let Some(build) = &wanted.id {
        let of_here = (build.as_str(), state.builds.server());
        if !store::builds::finish(&mut db, of_here, "BUILT", None, now()).await? {
            let detail = "the build was given up before its end; deploy it again";
            return Err(Error::conflict("deployment_interrupted", detail));
        }
    }
    pruning::check_room(state, &mut db, &row, place).await?;
    let (preview, build, share) = (wanted.preview, wanted.id.clone(), wanted.rollout.clone());
    let allow = wanted.allow;
    let before = store::storage::usage(&mut db, &project).await?.bytes;
    let about = About { build: build.clone(), bytes, imports: Some(stored(&content.imports)?), ..about };
    let (function, manifest, settings) = next(state, &mut db, actor, function, content, wanted).await?;
    let block = encoded(&manifest)?;
    let widens = approvals::widening(state, &manifest).await?;
    // What the author of a first deployment has typed is what they want.
    let approver = (may_allow && (allow || manifest.parent.is_none())).then(|| actor.user.clone());
    let terms = Terms { widens, approver, activates };
    let deployment = insert(&mut db, &function, &manifest, block.id, about, terms).await?;
    store::settings::insert(&mut db, &deployment.id, settings.all.values(), &settings.brought).await?;
    if let Some(key) = key {
        content_keys::put(state, &mut db, &function.project_id, &deployment.id, &key).await?;
    }
    audit::write(&mut db, actor, Event::project("deployment.create", &deployment.id, &function.project_id))
        .await?;
    if deployment.is_waiting() {
        drop_waiting(&mut db, actor, &function).await?;
    }
    let revision = match share {
        _ if deployment.is_waiting() => feed::put(&mut db, Kind::Function, &function.id).await?,
        Some(share) => {
            rollouts::begin(&mut db, &function, &deployment, share).await?;
            feed::put(&mut db, Kind::Function, &function.id).await?
        }
        None if preview => feed::put(&mut db, Kind::Function, &function.id).await?,
        None => activate(state, &mut db, function, &deployment).await?,
    };
    // What waits does not count before it is allowed.
    if !deployment.is_waiting() {
        pruning::make_room(state, &mut db, &row).await?;
    }
    pruning::make_bytes(state, &mut db, &row, &deployment, before).await?;
    let staging = blocks::blocking(move || staging.put(&block).map(|()| staging)).await??;
    blocks::commit(state, db, staging, &committing).await?;
    state.changes.announce(revision);
    seen(state, deployment).await
}

/// Refuses what could not be entered, before anything is sent.
async fn before_sending(
    state: &State,
    function: &FunctionRow,
    wanted: &Wanted,
    place: pruning::Place,
) -> Result<(), Error> {
    let mut db = state.store.read().await?;
    if let Some(share) = &wanted.rollout {
        rollouts::check(&mut db, function, share).await?;
    }
    pruning::check_room(state, &mut db, function, place).await
}

/// The function, if the actor may deploy this.
async fn permitted(
    state: &State,
    actor: &Actor,
    function: &str,
    wanted: &Wanted,
) -> Result<FunctionRow, Error> {
    let row = access::function(state, actor, function, Noun::Deployments.write()).await?;
    if !wanted.settings.is_empty() {
        access::function(state, actor, function, Noun::Secrets.write()).await?;
        settings::check_changes(&wanted.settings)?;
    }
    if wanted.allow {
        // Or it would wait, and be told to come again with what it has.
        access::function(state, actor, function, Noun::Approvals.write()).await?;
    }
    Ok(row)
}

/// What waits and nobody allows does not pile up: the oldest go.
async fn drop_waiting(db: &mut Connection, actor: &Actor, function: &FunctionRow) -> Result<(), Error> {
    for id in store::pruning::waiting(db, &function.id, WAITING).await? {
        store::pruning::delete(db, &id).await?;
        audit::write(db, actor, Event::project("deployment.prune", &id, &function.project_id)).await?;
    }
    Ok(())
}

/// Whether a deployment was made after what its function runs.
pub(super) async fn is_newer(
    db: &mut Connection,
    function: &FunctionRow,
    deployment: &DeploymentRow,
) -> Result<bool, Error> {
    let Some(active) = &function.current_deployment_id else { return Ok(true) };
    Ok(deployments::read(db, active).await?.is_none_or(|active| active.number < deployment.number))
}

/// The same deployment as it is after what was committed.
pub(super) async fn seen(state: &State, deployment: DeploymentRow) -> Result<DeploymentRow, Error> {
    // It may be gone already.
    Ok(state.store.deployment(&deployment.id).await?.unwrap_or(deployment))
}

/// Makes an older deployment what the function runs: the given one, or what it ran before. A function that is switched off stays
/// so: what it runs once it is switched on is another question than whether it is to.
///
/// # Errors
/// When there is no function that the actor may see, no such deployment of it, or it ran none before.
pub async fn rollback(
    state: &State,
    actor: &Actor,
    function: &str,
    to: Option<&str>,
) -> Result<DeploymentRow, Error> {
    let row = access::function(state, actor, function, Noun::Deployments.write()).await?;
    make_active(state, actor, row, to.map_or(Target::Previous, Target::This), Going::Back).await
}

/// Makes a deployment of a function the active one. The actor may do that.
pub(super) async fn make_active(
    state: &State,
    actor: &Actor,
    row: FunctionRow,
    target: Target<'_>,
    going: Going,
) -> Result<DeploymentRow, Error> {
    let function = row.id.as_str();
    let concerned = match target {
        Target::This(id) => Some(id.to_owned()),
        Target::Candidate => state.store.rollout(function).await?.map(|rollout| rollout.deployment_id),
        // What was active before may be so again, whatever it says.
        Target::Previous => None,
    };
    manifests::bring(state, row.current_deployment_id.into_iter().chain(concerned).collect()).await?;
    let mut db = state.store.begin().await?;
    let row = rows::read(&mut db, function).await?.ok_or_else(|| Error::not_found("function", function))?;
    let target = match target {
        Target::This(id) => of_function(&mut db, function, id).await?,
        Target::Candidate => {
            let candidate = rollouts::candidate(&mut db, function).await?;
            of_function(&mut db, function, &candidate).await?
        }
        Target::Previous => previous(&mut db, &row).await?,
    };
    approvals::check(&target)?;
    Box::pin(approvals::check_again(state, &mut db, &row, &target)).await?;
    let project = row.project_id.clone();
    Box::pin(settings::restore(&mut db, actor, &row, &target, going)).await?;
    let action = match going {
        Going::Back => "deployment.rollback",
        Going::Forward => "deployment.promote",
    };
    let revision = point(state, &mut db, row, &target).await?;
    audit::commit(db, actor, Event::project(action, &target.id, &project)).await?;
    state.changes.announce(revision);
    seen(state, target).await
}

/// Deploys what a function runs once more, with other settings. The manifest is to be stored with it.
pub(super) async fn again(
    state: &State,
    db: &mut Connection,
    actor: &Actor,
    function: &FunctionRow,
    settings: &Rows,
    message: &str,
) -> Result<Again, Error> {
    let current = function.current_deployment_id.as_deref().unwrap_or_default();
    let current = of_function(db, &function.id, current).await?;
    let parent = current.manifest()?;
    let manifest = Manifest {
        settings: settings::digests(settings)?,
        parent: Some(parent),
        author: actor.user.clone(),
        created_at: u64::try_from(now()).unwrap_or_default(),
        ..manifests::read(state, parent).await?
    };
    let block = encoded(&manifest)?;
    let (source_hash, imports) = (current.source_hash, current.imports);
    // Its content is that of a deployment of the function, and counts already.
    let about = About { message: Some(message.to_owned()), source_hash, imports, ..About::default() };
    // It may reach what the one before may.
    let terms = Terms { widens: Vec::new(), approver: None, activates: true };
    let deployment = insert(db, function, &manifest, block.id, about, terms).await?;
    store::settings::insert(db, &deployment.id, settings.values(), &[]).await?;
    content_keys::copy(state, db, &function.project_id, &current.id, &deployment.id).await?;
    let event = Event::project("deployment.create", &deployment.id, &function.project_id);
    audit::write(db, actor, event).await?;
    let revision = point(state, db, function.clone(), &deployment).await?;
    // A secret that has leaked is replaced in any case.
    pruning::make_room_in_any_case(state, db, function, &deployment.id).await?;
    Ok(Again { deployment, manifest: block, revision })
}

fn encoded(manifest: &Manifest) -> Result<Block, Error> {
    let bytes = manifest.encode().map_err(internal)?;
    Ok(Block { id: identify(Codec::DagCbor, &bytes), bytes: bytes.into() })
}

fn stored(value: &impl Serialize) -> Result<String, Error> {
    serde_json::to_string(value).map_err(internal)
}

async fn previous(db: &mut Connection, function: &FunctionRow) -> Result<DeploymentRow, Error> {
    let none = |detail: &str| Error::Conflict { code: "nothing_to_roll_back_to", detail: detail.into() };
    if function.current_deployment_id.is_none() {
        return Err(none("the function has no deployment yet"));
    }
    let previous = deployments::previous(db, &function.id).await?;
    previous.ok_or_else(|| none("the function has run no other deployment"))
}

/// A deployment as the transaction sees it.
///
/// # Errors
/// When the function has no such one.
pub(super) async fn of_function(
    db: &mut Connection,
    function: &str,
    id: &str,
) -> Result<DeploymentRow, Error> {
    let found = deployments::read(db, id).await?.filter(|found| found.function_id == function);
    found.ok_or_else(|| Error::not_found("deployment", id))
}

/// The function as it is now, and the manifest and settings of its next deployment.
async fn next(
    state: &State,
    db: &mut Connection,
    actor: &Actor,
    function: &str,
    content: Content,
    wanted: Wanted,
) -> Result<(FunctionRow, Manifest, Next), Error> {
    let row = rows::read(db, function).await?.ok_or_else(|| Error::not_found("function", function))?;
    let parent = match &row.current_deployment_id {
        Some(id) => deployments::read(db, id).await?.map(|current| current.manifest()).transpose()?,
        None => None,
    };
    let changes = (wanted.settings, wanted.preview);
    let settings = Box::pin(settings::next(state, db, actor, &row, changes)).await?;
    let manifest = Manifest {
        version: 1,
        function: row.id.clone(),
        code: content.code,
        assets: content.assets,
        limits: Limits { requests_per_second: wanted.requests_per_second, ..state.limits },
        reuse: wanted.reuse,
        concurrency: wanted.concurrency,
        egress: wanted.egress,
        stores: wanted.stores,
        cors: wanted.cors,
        compress: wanted.compress,
        settings: settings::digests(&settings.all)?,
        private: content.private,
        triggers: wanted.triggers,
        parent,
        author: actor.user.clone(),
        created_at: u64::try_from(now()).unwrap_or_default(),
    };
    Ok((row, manifest, settings))
}

/// On which terms a deployment is made.
struct Terms {
    widens: Vec<String>,
    approver: Option<String>,
    activates: bool,
}

async fn insert(
    db: &mut Connection,
    function: &FunctionRow,
    manifest: &Manifest,
    manifest_id: ContentId,
    about: About,
    terms: Terms,
) -> Result<DeploymentRow, Error> {
    let author = users::read(db, &manifest.author).await?;
    let deployment = DeploymentRow {
        id: about.build.unwrap_or_else(|| id::new("dep")),
        function_id: manifest.function.clone(),
        slug: function.slug.clone(),
        number: deployments::last_number(db, &manifest.function).await? + 1,
        manifest_cid: manifest_id.to_string(),
        code_cid: manifest.code.cid.to_string(),
        blake3: manifest.code.blake3.to_string(),
        size: i64::try_from(manifest.code.size).unwrap_or(i64::MAX),
        world: manifest.code.world.to_string(),
        assets_cid: manifest.assets.map(|assets| assets.to_string()),
        private: manifest.private.is_some(),
        triggers: triggers::stored(&manifest.triggers)?,
        message: about.message,
        source_hash: about.source_hash,
        imports: about.imports,
        capabilities: Some(stored(&json!({ "egress": manifest.egress, "stores": manifest.stores }))?),
        author: author.map(|author| author.name).unwrap_or_default(),
        author_id: manifest.author.clone(),
        created_at: i64::try_from(manifest.created_at).unwrap_or(i64::MAX),
        approver_id: terms.approver.filter(|_| !terms.widens.is_empty()),
        widens: (!terms.widens.is_empty()).then(|| serde_json::json!(terms.widens).to_string()),
        activates: i64::from(terms.activates),
        status: "INACTIVE".into(),
        status_reason: None,
    };
    deployments::insert(db, &deployment, i64::try_from(about.bytes).unwrap_or(i64::MAX)).await?;
    Ok(deployment)
}

/// Points the function at a deployment, switches it on, and gives it a new revision in the feed, which is
/// returned. Who deploys wants an answer; clients of the older platform count on that.
pub(super) async fn activate(
    state: &State,
    db: &mut Connection,
    mut function: FunctionRow,
    deployment: &DeploymentRow,
) -> Result<u64, Error> {
    function.status = "ACTIVE".into();
    point(state, db, function, deployment).await
}

/// As [`activate`], of a function that may be switched off and stays so.
async fn point(
    state: &State,
    db: &mut Connection,
    mut function: FunctionRow,
    deployment: &DeploymentRow,
) -> Result<u64, Error> {
    function.current_deployment_id = Some(deployment.id.clone());
    function.updated_at = now();
    deployments::activated(db, &function.id, &deployment.id, function.updated_at).await?;
    rows::update(db, &function).await?;
    triggers::schedule(state, db, &function).await?;
    reports::forget_awaited(db, &function.id).await?;
    reports::expect(db, &deployment.id).await?;
    rollouts::settle(db, &function.id, &deployment.id).await?;
    Ok(feed::put(db, Kind::Function, &function.id).await?)
}
