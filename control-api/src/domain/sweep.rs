//! Removes blocks that nobody needs. First what is needed is marked, without a lock; then what is not is removed in small
//! steps, under the lock of those who make blocks visible. What becomes needed in between is told to [`Sweeper::protect`].

use std::collections::{BTreeSet, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use af_content::Stored;
use af_contract::ContentId;
use tracing::{error, info};

use super::access;
use super::audit::{self, Event};
use super::projects::commit;
use super::{Actor, Error, State, blocks, now};
use crate::store::storage;

/// After a start, at most: a server that is started again every day sweeps, too.
const FIRST: Duration = Duration::from_secs(900);

/// Blocks removed in one step: deployments wait for the lock meanwhile, some milliseconds.
const STEP: usize = 500;

/// A write that did not end for so long is none any more.
const PARTIAL: Duration = Duration::from_secs(3_600);

/// Rows read at a time.
const BATCH: i64 = 1_000;

/// Projects read at a time.
const PROJECTS: i64 = 100;

/// Blocks that a report names.
const NAMED: usize = 100;

/// What becomes needed while a sweep is on its way.
#[derive(Debug, Default)]
pub struct Sweeper {
    /// None while there is no sweep.
    protected: Mutex<Option<HashSet<ContentId>>>,
    /// There is one at a time.
    running: tokio::sync::Mutex<()>,
}

/// Whether a sweep removes anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// It does.
    Remove,
    /// It says what it would remove.
    DryRun,
}

/// What a sweep removed, or would.
#[derive(Clone, Debug, Default)]
pub struct Swept {
    /// Blocks that were removed.
    pub blocks: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Blocks that stay.
    pub kept: u64,
    /// Of them, those that nobody needs and that are too young.
    pub young: u64,
    /// The first of those that were removed.
    pub named: Vec<ContentId>,
}

impl Sweeper {
    /// Says that these blocks are needed from now on. To be called before the transaction that needs them is committed,
    /// while it holds the writer.
    pub(crate) fn protect<'a>(&self, ids: impl IntoIterator<Item = &'a ContentId>) {
        if let Some(protected) = self.lock().as_mut() {
            protected.extend(ids);
        }
    }

    fn is_protected(&self, id: &ContentId) -> bool {
        self.lock().as_ref().is_some_and(|protected| protected.contains(id))
    }

    fn begin(&self) -> Protecting<'_> {
        *self.lock() = Some(HashSet::new());
        Protecting(self)
    }

    fn lock(&self) -> MutexGuard<'_, Option<HashSet<ContentId>>> {
        self.protected.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A sweep is on its way.
struct Protecting<'a>(&'a Sweeper);

impl Drop for Protecting<'_> {
    fn drop(&mut self) {
        *self.0.lock() = None;
    }
}

/// Sweeps because an operator wants it: the user that the first start made.
///
/// # Errors
/// When the actor is no operator, a sweep is on its way, or needed blocks cannot be read.
pub async fn by_operator(state: &State, actor: &Actor, mode: Mode) -> Result<Swept, Error> {
    access::operator(state, actor, "sweeps of blocks").await?;
    if mode == Mode::Remove {
        let db = state.store.begin().await?;
        audit::commit(db, actor, Event::maybe("storage.gc", "", None)).await?;
    }
    sweep(state, mode).await
}

/// Sweeps again and again, for ever.
pub(crate) async fn watch(state: &State) {
    let interval = state.storage.config.sweep_interval;
    let mut wait = interval.min(FIRST);
    loop {
        tokio::time::sleep(std::mem::replace(&mut wait, interval)).await;
        if let Err(error) = sweep(state, Mode::Remove).await {
            let source = std::error::Error::source(&error);
            error!(%error, ?source, "blocks that nobody needs stay until the next sweep");
        }
    }
}

/// Removes what nobody needs and is older than the grace period. May be dropped between any two steps.
pub(crate) async fn sweep(state: &State, mode: Mode) -> Result<Swept, Error> {
    let Ok(_running) = state.sweeper.running.try_lock() else {
        let detail = "a sweep is on its way; look again when it is done".to_owned();
        return Err(Error::Conflict { code: "sweep_running", detail });
    };
    let protecting = {
        // Who makes blocks visible right now has a row when this lock is free.
        let _held = state.committing.lock().await;
        state.sweeper.begin()
    };
    let grace = state.storage.config.grace;
    let mut sweep = Sweep { state, mode, grace, fresh: BTreeSet::new(), swept: Swept::default() };
    let mut marked = blocks::deployed(&state.store, &state.sources).await?;
    sweep.projects(&mut marked).await?;
    for shard in blocks::disk(state, |blocks| blocks.shards()).await? {
        sweep.shard(shard, &marked).await?;
    }
    drop(protecting);
    let swept = sweep.swept;
    if mode == Mode::Remove {
        let Swept { blocks, bytes, kept, .. } = swept;
        info!(blocks, bytes, kept, "swept blocks that nobody needs");
    }
    Ok(swept)
}

struct Sweep<'a> {
    state: &'a State,
    mode: Mode,
    grace: Duration,
    /// Blocks that a project has sent, or said that it will need, within the grace period, whenever they were written.
    fresh: BTreeSet<ContentId>,
    swept: Swept,
}

impl Sweep<'_> {
    /// Marks what the pins of projects need, and takes from each project what none of its pins does.
    async fn projects(&mut self, marked: &mut BTreeSet<ContentId>) -> Result<(), Error> {
        let mut after = String::new();
        loop {
            let projects = self.state.store.senders(&after, PROJECTS).await?;
            let Some(last) = projects.last() else { return Ok(()) };
            after.clone_from(last);
            for project in projects {
                let pinned = pinned(self.state, &project).await?;
                self.project(&project, &pinned).await?;
                marked.extend(pinned);
            }
        }
    }

    async fn project(&mut self, project: &str, pinned: &BTreeSet<ContentId>) -> Result<(), Error> {
        let grace = i64::try_from(self.grace.as_millis()).unwrap_or(i64::MAX);
        let cutoff = now().saturating_sub(grace);
        let mut after = String::new();
        loop {
            let batch = self.state.store.sent(project, &after, BATCH).await?;
            let Some(last) = batch.last() else { return Ok(()) };
            after = last.cid.to_string();
            let loose = batch.into_iter().filter(|sent| !pinned.contains(&sent.cid));
            let (young, old): (Vec<_>, Vec<_>) = loose.partition(|sent| sent.touched_at >= cutoff);
            self.fresh.extend(young.into_iter().map(|sent| sent.cid));
            let old: Vec<ContentId> = old.into_iter().map(|sent| sent.cid).collect();
            if self.mode == Mode::Remove && !old.is_empty() {
                self.forget(project, old, cutoff).await?;
            }
        }
    }

    async fn forget(&self, project: &str, mut old: Vec<ContentId>, cutoff: i64) -> Result<(), Error> {
        let mut db = self.state.store.begin().await?;
        // While this holds the writer, nobody who protects something commits.
        old.retain(|id| !self.state.sweeper.is_protected(id));
        storage::forget_blocks(&mut db, project, &old, cutoff).await?;
        commit(db).await
    }

    async fn shard(&mut self, shard: String, marked: &BTreeSet<ContentId>) -> Result<(), Error> {
        let now = SystemTime::now();
        let cutoff = now.checked_sub(self.grace).unwrap_or(SystemTime::UNIX_EPOCH);
        let mode = self.mode;
        let stored = blocks::disk(self.state, move |blocks| {
            if mode == Mode::Remove {
                blocks
                    .clean(&shard, cutoff.min(now.checked_sub(PARTIAL).unwrap_or(SystemTime::UNIX_EPOCH)))?;
            }
            blocks.shard(&shard)
        });
        let stored = stored.await?;
        let (needed, loose): (Vec<_>, Vec<_>) =
            stored.into_iter().partition(|stored| marked.contains(&stored.id));
        let (old, young): (Vec<_>, Vec<_>) = loose
            .into_iter()
            .partition(|stored| stored.written <= cutoff && !self.fresh.contains(&stored.id));
        self.swept.kept += (needed.len() + young.len()) as u64;
        self.swept.young += young.len() as u64;
        for step in old.chunks(STEP) {
            self.step(step).await?;
        }
        Ok(())
    }

    /// Removes some blocks, except those that are needed by now.
    async fn step(&mut self, step: &[Stored]) -> Result<(), Error> {
        let _held = self.state.committing.lock().await;
        let mut step = step.to_vec();
        step.retain(|stored| !self.state.sweeper.is_protected(&stored.id));
        if self.mode == Mode::Remove {
            let ids: Vec<ContentId> = step.iter().map(|stored| stored.id).collect();
            let mut db = self.state.store.read().await?;
            let sent: HashSet<ContentId> = storage::known_by_any(&mut db, &ids).await?.into_iter().collect();
            step.retain(|stored| !sent.contains(&stored.id));
            let ids: Vec<ContentId> = step.iter().map(|stored| stored.id).collect();
            blocks::disk(self.state, move |blocks| ids.iter().try_for_each(|id| blocks.remove(id))).await?;
        }
        let room = NAMED.saturating_sub(self.swept.named.len());
        self.swept.named.extend(step.iter().take(room).map(|stored| stored.id));
        self.swept.blocks += step.len() as u64;
        self.swept.bytes += step.iter().map(|stored| stored.size).sum::<u64>();
        Ok(())
    }
}

/// All blocks that a project's pins need.
async fn pinned(state: &State, project: &str) -> Result<BTreeSet<ContentId>, Error> {
    let mut pinned = BTreeSet::new();
    let mut after = String::new();
    loop {
        let pins = state.store.pins_of(project, &after, BATCH).await?;
        let Some(last) = pins.last() else { return Ok(pinned) };
        after.clone_from(&last.id);
        let roots = pins.iter().map(|pin| ContentId::parse(&pin.cid)).collect::<Result<Vec<_>, _>>();
        let roots = roots.map_err(|error| Error::Internal(Box::new(error)))?;
        pinned = blocks::walked(&state.sources, roots, pinned).await?;
    }
}
