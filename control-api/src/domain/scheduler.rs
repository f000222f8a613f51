//! The scheduler: claims ticks, has functions called, and records what came of it. A tick is claimed before its
//! function is called, and so runs once at most, whatever happens to the platform meanwhile.

use std::future::Future;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use af_contract::CronExpression;
use af_contract::trigger::{Answered, Tick};
use futures::future::BoxFuture;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinHandle;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};
use tracing::{error, info, warn};

use super::projects::commit;
use super::{Clock, Error, State, id, now};
use crate::store::Connection;
use crate::store::triggers::{self, DueRow, RunRow, ScheduledRow};

/// Runs at the same time, over the whole platform; the next ticks wait. A quarter of an edge's usual instances.
const RUNS: usize = 256;

/// Recorded runs of a function.
pub(super) const KEPT: i64 = 100;

/// A tick that was missed by more than this is not made up for: who wakes the platform after a weekend does not
/// want Friday's work. Within it, a restart is not noticed.
const GRACE: i64 = 10 * 60 * 1_000;

/// The longest run, milliseconds: the longest wall time that `af up` takes, and a minute for compiling.
pub(super) const LONGEST: i64 = 16 * 60 * 1_000;

/// How long runs may go on after a stop: the default wall time limit and a little.
const DRAIN: Duration = Duration::from_secs(35);

/// A server that has runs says so every third of this. One that has not is dead, and what it ran was cut off.
const LEASE: Duration = Duration::from_secs(30);

/// After the database failed, or while nobody can call functions, milliseconds.
const PAUSE: i64 = 1_000;

/// Calls functions for the scheduler: an edge.
pub trait Callee: Send + Sync + 'static {
    /// Calls one for a run (`run_…`), and reads its response to the end.
    fn call(&self, run: &str, tick: Tick) -> BoxFuture<'static, Answered>;

    /// Whether it can call now. While it cannot, ticks are left to other servers, or wait.
    fn can_call(&self) -> bool {
        true
    }
}

/// What runs now.
pub struct Scheduler {
    pub(super) clock: Clock,
    callee: OnceLock<Arc<dyn Callee>>,
    places: Arc<Semaphore>,
    tasks: TaskTracker,
}

/// A tick that nobody else can have, and its place among the runs.
struct Claimed {
    run: RunRow,
    slug: String,
}

impl Scheduler {
    pub(crate) fn new(clock: Clock) -> Self {
        let places = Arc::new(Semaphore::new(RUNS));
        Self { clock, callee: OnceLock::new(), places, tasks: TaskTracker::new() }
    }
}

/// Runs the schedule until `stop`, then lets runs finish.
pub(crate) async fn run(state: Arc<State>, callee: Arc<dyn Callee>, stop: impl Future<Output = ()>) {
    let scheduler = &state.scheduler;
    if scheduler.callee.set(callee).is_err() {
        error!("the schedule is running already; a second scheduler would call nobody");
        return;
    }
    // Also while runs finish.
    let leasing = state.clone();
    let _leasing = AbortOnDropHandle::new(tokio::spawn(async move { lease(&leasing).await }));
    tokio::select! {
        () = follow(&state) => {}
        () = stop => {}
    }
    scheduler.tasks.close();
    if tokio::time::timeout(DRAIN, scheduler.tasks.wait()).await.is_err() {
        warn!(
            running = scheduler.tasks.len(),
            "triggered calls were cut because they did not finish in time"
        );
    }
}

/// Says that this server has its runs, and ends those of servers that say so no more; for ever.
async fn lease(state: &State) {
    loop {
        let leased = state.store.lease_runs(state.builds.server(), leased()).await;
        let looked = match leased {
            Ok(()) if state.store.is_shared() => super::triggers::recover(&state.store).await,
            leased => leased,
        };
        let pause = match looked {
            Ok(()) => LEASE / 3,
            Err(error) => {
                error!(%error, "it cannot be said that runs go on; trying again");
                Duration::from_millis(PAUSE.unsigned_abs())
            }
        };
        tokio::time::sleep(pause).await;
    }
}

/// Until when a server that says so now is believed to be at work.
fn leased() -> i64 {
    now().saturating_add(i64::try_from(LEASE.as_millis()).unwrap_or(i64::MAX))
}

/// Claims what is due, and waits for more: for the next moment, or a change of the schedule. May be dropped while
/// it waits: a claim and its start are in a task of their own.
async fn follow(state: &Arc<State>) {
    let scheduler = &state.scheduler;
    let mut changes = state.changes.subscribe();
    loop {
        // When all places are taken, ticks wait for one.
        drop(scheduler.places.acquire().await);
        changes.mark_unchanged();
        let working = state.clone();
        let worked = scheduler.tasks.spawn(async move { work(&working).await }).await;
        let worked = worked.unwrap_or_else(|interrupted| Err(Error::Internal(Box::new(interrupted))));
        let next = worked.unwrap_or_else(|error| {
            let source = std::error::Error::source(&error);
            error!(%error, ?source, "the schedule cannot be followed; trying again");
            Some(scheduler.clock.now() + PAUSE)
        });
        let moment = async {
            match next {
                Some(next) => scheduler.clock.until(next).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = moment => {}
            changed = changes.changed() => if changed.is_err() { return },
        }
    }
}

/// Starts all that is due and has a place. Returns when the next is due.
async fn work(state: &Arc<State>) -> Result<Option<i64>, Error> {
    let next = state.store.next_tick().await?;
    let now = state.scheduler.clock.now();
    if next.is_none_or(|next| next > now) {
        return Ok(next);
    }
    if !can_call(state) {
        // Another server may, or this one soon.
        return Ok(Some(now + PAUSE));
    }
    let free = i64::try_from(state.scheduler.places.available_permits()).unwrap_or(i64::MAX);
    for Claimed { run, slug } in claim(state, free).await? {
        let place = place(state).await?;
        drop(start(state, run, &slug, place));
    }
    Ok(state.store.next_tick().await?)
}

/// Takes up to `most` ticks that are due: their triggers move on, and their runs begin, in one transaction.
async fn claim(state: &State, most: i64) -> Result<Vec<Claimed>, Error> {
    let now = state.scheduler.clock.now();
    let mut db = state.store.begin().await?;
    let mut claimed = Vec::new();
    for due in triggers::due(&mut db, now, now - LONGEST, most).await? {
        claimed.extend(take(state, &mut db, due, now).await?);
    }
    commit(db).await?;
    Ok(claimed)
}

/// Moves a trigger on. Returns its tick, unless that is not to run.
async fn take(state: &State, db: &mut Connection, due: DueRow, now: i64) -> Result<Option<Claimed>, Error> {
    let DueRow { trigger, slug, running } = due;
    let (function, path, first) = (&trigger.function_id, &trigger.path, trigger.next_at.unwrap_or(now));
    let Ok(cron) = CronExpression::parse(&trigger.cron) else {
        error!(function, cron = trigger.cron, "the schedule holds an expression that is none; it stops");
        triggers::move_on(db, &trigger, None).await?;
        return Ok(None);
    };
    triggers::move_on(db, &trigger, cron.next_after(now)).await?;
    let tick = cron.last_until(now).unwrap_or(first).max(first);
    if tick > first {
        warn!(function, path, first, "ticks were missed; only the last one counts");
    }
    let mut run = new_run(state, &trigger, tick, now);
    let skip = if now - tick > GRACE {
        Some("the platform was not running at that time, or too busy, and came to it too late")
    } else if running {
        Some("the run before was still going")
    } else {
        None
    };
    if let Some(reason) = skip {
        info!(function, path, tick, reason, "a tick was skipped");
        (run.outcome, run.error) = ("skipped".into(), Some(reason.into()));
    }
    triggers::insert_run(db, &run, KEPT).await?;
    Ok(skip.is_none().then_some(Claimed { run, slug }))
}

/// The record of a run that begins now.
pub(super) fn new_run(state: &State, trigger: &ScheduledRow, scheduled_at: i64, now: i64) -> RunRow {
    RunRow {
        id: id::new("run"),
        function_id: trigger.function_id.clone(),
        deployment_id: trigger.deployment_id.clone(),
        cron: trigger.cron.clone(),
        path: trigger.path.clone(),
        scheduled_at,
        started_at: now,
        duration_ms: None,
        outcome: "running".into(),
        status: None,
        error: None,
        server: Some(state.builds.server().to_owned()),
        leased_until: leased(),
    }
}

/// A place among the runs.
pub(super) async fn place(state: &State) -> Result<OwnedSemaphorePermit, Error> {
    let place = state.scheduler.places.clone().acquire_owned().await;
    place.map_err(|error| Error::Internal(Box::new(error)))
}

/// Whether there is anybody to call functions.
pub(super) fn is_running(state: &State) -> bool {
    can_call(state) && !state.scheduler.tasks.is_closed()
}

fn can_call(state: &State) -> bool {
    state.scheduler.callee.get().is_some_and(|callee| callee.can_call())
}

/// Has a function called whose run is recorded, and records the end. A task of its own.
pub(super) fn start(
    state: &Arc<State>,
    mut run: RunRow,
    slug: &str,
    place: OwnedSemaphorePermit,
) -> JoinHandle<RunRow> {
    let tick = Tick {
        function: run.function_id.clone(),
        deployment: run.deployment_id.clone(),
        url: format!("{}{}", state.invoke_url(slug), run.path),
        scheduled_at: run.scheduled_at,
    };
    let working = state.clone();
    state.scheduler.tasks.spawn(async move {
        let begun = Instant::now();
        let answered = call(&working, &run.id, tick).await;
        run.duration_ms = i64::try_from(begun.elapsed().as_millis()).ok();
        run.status = answered.status.map(i64::from);
        run.outcome = triggers::outcome(&answered).into();
        run.error = answered.error;
        // Until then it counts as running, and no other one begins.
        while let Err(error) = working.store.end_run(&run).await {
            error!(%error, run = run.id, outcome = run.outcome, "the end of a run could not be recorded; trying again");
            if begun.elapsed().as_millis() > u128::from(LONGEST.unsigned_abs()) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(PAUSE.unsigned_abs())).await;
        }
        drop(place);
        run
    })
}

async fn call(state: &State, run: &str, tick: Tick) -> Answered {
    let Some(callee) = state.scheduler.callee.get() else {
        return Answered::failed("no edge runs functions here");
    };
    // A task, so that a panic is an end like any other.
    let calling = AbortOnDropHandle::new(tokio::spawn(callee.call(run, tick)));
    let longest = Duration::from_millis(u64::try_from(LONGEST).unwrap_or_default());
    match tokio::time::timeout(longest, calling).await {
        Ok(Ok(answered)) => answered,
        Ok(Err(error)) => {
            error!(%error, "a triggered call was interrupted");
            Answered::failed("the call was interrupted")
        }
        Err(_elapsed) => Answered::failed("the function did not end in time"),
    }
}
