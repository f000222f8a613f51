//! Triggers: what a function's schedule is, and how its runs went. The times are the scheduler's.

use std::sync::Arc;

use af_contract::Trigger;

use super::access::{self, Noun};
use super::audit::{self, Event};
use super::{Actor, Error, State, now, scheduler};
use crate::store::triggers::{self, RunRow, ScheduledRow};
use crate::store::{Connection, FunctionRow, Store, StoreError};

/// A function's triggers and its newest runs.
#[derive(Debug)]
pub struct Schedule {
    /// Of what it runs now; none while it is switched off.
    pub triggers: Vec<ScheduledRow>,
    /// Newest first.
    pub runs: Vec<RunRow>,
}

/// A function's schedule, and how its newest runs went.
///
/// # Errors
/// When there is no function that the actor may see.
pub async fn get(state: &State, actor: &Actor, function: &str) -> Result<Schedule, Error> {
    access::function(state, actor, function, Noun::Functions.read()).await?;
    let triggers = state.store.schedule_of(function).await?;
    let runs = state.store.runs_of(function, scheduler::KEPT).await?;
    Ok(Schedule { triggers, runs })
}

/// Runs a trigger now, whatever its time, and returns when its function has answered.
///
/// # Errors
/// When there is no function that the actor may see, none of its triggers has this path, or it is at work.
pub async fn run(
    state: &Arc<State>,
    actor: &Actor,
    function: &str,
    path: Option<&str>,
) -> Result<RunRow, Error> {
    let function = access::function(state, actor, function, Noun::Functions.write()).await?;
    if !scheduler::is_running(state) {
        let detail =
            "nobody can call functions here; is an edge connected to this server? `af edges list` shows them"
                .to_owned();
        return Err(Error::Conflict { code: "no_edge", detail });
    }
    let trigger = chosen(state.store.schedule_of(&function.id).await?, path)?;
    let place = scheduler::place(state).await?;
    let run = begin(state, actor, &function, &trigger).await?;
    // A task of its own: a client that goes away must not end it.
    let started = scheduler::start(state, run, &function.slug, place);
    started.await.map_err(|error| Error::Internal(Box::new(error)))
}

/// The triggers of a deployment, as it is stored.
///
/// # Errors
/// When the stored ones are none.
pub fn parse(stored: Option<&str>) -> Result<Vec<Trigger>, Error> {
    let Some(text) = stored else { return Ok(Vec::new()) };
    let lost = |_| StoreError::Value { what: "list of triggers", value: text.chars().take(200).collect() };
    Ok(serde_json::from_str(text).map_err(lost)?)
}

/// How a deployment's triggers are stored.
pub(super) fn stored(triggers: &[Trigger]) -> Result<Option<String>, Error> {
    if triggers.is_empty() {
        return Ok(None);
    }
    serde_json::to_string(triggers).map(Some).map_err(|error| Error::Internal(Box::new(error)))
}

/// Makes the schedule that of what the function runs, or empty while it is switched off. What stays keeps its
/// time. Whoever commits this announces a change, which wakes the scheduler.
pub(super) async fn schedule(
    state: &State,
    db: &mut Connection,
    function: &FunctionRow,
) -> Result<(), Error> {
    let active = function.current_deployment_id.as_deref().filter(|_| function.status == "ACTIVE");
    if let Some(deployment) = active {
        let now = state.scheduler.clock.now();
        for trigger in parse(triggers::of(db, deployment).await?.as_deref())? {
            let next = trigger.cron.next_after(now);
            triggers::put(db, &function.id, deployment, &trigger, next).await?;
        }
    }
    Ok(triggers::retain(db, &function.id, active).await?)
}

/// Says of runs that a crash or a stop cut off that they were. Where others may have the same database, only of those whose server
/// has not said for a while that it is at work.
pub(crate) async fn recover(store: &Store) -> Result<(), StoreError> {
    let before = store.is_shared().then(now);
    let cut = store.interrupt_runs("the platform stopped while it ran; it is not repeated", before).await?;
    if cut > 0 {
        tracing::warn!(cut, "triggered calls were cut off when the platform stopped");
    }
    Ok(())
}

fn chosen(mut triggers: Vec<ScheduledRow>, path: Option<&str>) -> Result<ScheduledRow, Error> {
    let paths = triggers.iter().map(|trigger| trigger.path.as_str()).collect::<Vec<_>>().join(", ");
    let found = match path {
        Some(path) => triggers.iter().position(|trigger| trigger.path == path),
        None if triggers.len() == 1 => Some(0),
        None => None,
    };
    if let Some(at) = found {
        return Ok(triggers.swap_remove(at));
    }
    let detail = match (triggers.is_empty(), path) {
        (true, _) => {
            "the function has no triggers now; give it some with `af functions deploy --cron`, and switch it on"
                .to_owned()
        }
        (false, Some(path)) => {
            format!("no trigger of the function has the path {:?}; they have {paths}", path.chars().take(80).collect::<String>())
        }
        (false, None) => format!("the function has several triggers; say which path: {paths}"),
    };
    Err(Error::invalid("unknown_trigger", detail))
}

async fn begin(
    state: &State,
    actor: &Actor,
    function: &FunctionRow,
    trigger: &ScheduledRow,
) -> Result<RunRow, Error> {
    let now = state.scheduler.clock.now();
    let mut db = state.store.begin().await?;
    if triggers::is_running(&mut db, trigger, now - scheduler::LONGEST).await? {
        let detail = "the trigger is at work; it never runs twice at the same time".to_owned();
        return Err(Error::Conflict { code: "trigger_running", detail });
    }
    let run = scheduler::new_run(state, trigger, now, now);
    triggers::insert_run(&mut db, &run, scheduler::KEPT).await?;
    audit::commit(db, actor, Event::project("trigger.run", &function.id, &function.project_id)).await?;
    Ok(run)
}
