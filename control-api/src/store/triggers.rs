//! Triggers: the schedule of what functions run now, and what became of the newest ticks.

use super::sql::{self, Connection};
use super::{Store, StoreError};
use af_contract::Trigger;
use af_contract::trigger::Answered;

/// A trigger of what a function runs now.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct ScheduledRow {
    /// `fn_…`
    pub function_id: String,
    /// What the function runs.
    pub deployment_id: String,
    /// When.
    pub cron: String,
    /// Where.
    pub path: String,
    /// Milliseconds; none: no moment is left.
    pub next_at: Option<i64>,
}

/// A trigger whose time has come.
#[derive(Debug, sqlx::FromRow)]
pub(crate) struct DueRow {
    #[sqlx(flatten)]
    pub trigger: ScheduledRow,
    /// Of the function's host.
    pub slug: String,
    /// Whether its last tick is still at work.
    pub running: bool,
}

/// What became of a tick.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct RunRow {
    /// `run_…`
    pub id: String,
    /// `fn_…`
    pub function_id: String,
    /// `dep_…`
    pub deployment_id: String,
    /// The trigger's expression.
    pub cron: String,
    /// The trigger's path.
    pub path: String,
    /// Milliseconds: the moment that it was for.
    pub scheduled_at: i64,
    /// Milliseconds.
    pub started_at: i64,
    /// None while it runs.
    pub duration_ms: Option<i64>,
    /// `running`, `succeeded`, `failed`, `skipped` or `interrupted`.
    pub outcome: String,
    /// Of the response, if there was one.
    pub status: Option<i64>,
    /// Why it did not succeed.
    pub error: Option<String>,
    /// Which server has it (`srv_…`).
    pub server: Option<String>,
    /// Until then that is believed to be at work, milliseconds.
    pub leased_until: i64,
}

const RUN: &str =
    "id, function_id, deployment_id, cron, path, scheduled_at, started_at, duration_ms, outcome,
    status, error, server, leased_until";

impl Store {
    /// When the next tick is due.
    pub(crate) async fn next_tick(&self) -> Result<Option<i64>, StoreError> {
        let query = "select min(next_at) from schedule where next_at is not null";
        Ok(sql::query_scalar(query).fetch_one(&self.reader).await?)
    }

    /// A function's schedule, in the order of expressions and paths.
    pub(crate) async fn schedule_of(&self, function: &str) -> Result<Vec<ScheduledRow>, StoreError> {
        let query = "select function_id, deployment_id, cron, path, next_at from schedule
            where function_id = $1 order by cron, path limit 1000";
        Ok(sql::query_as(query).bind(function).fetch_all(&self.reader).await?)
    }

    /// What became of a function's newest ticks, newest first.
    pub(crate) async fn runs_of(&self, function: &str, limit: i64) -> Result<Vec<RunRow>, StoreError> {
        let query = format!(
            "select {RUN} from trigger_runs where function_id = $1 order by started_at desc, id desc limit $2"
        );
        let query = sql::query_as(sqlx::AssertSqlSafe(query));
        Ok(query.bind(function).bind(limit).fetch_all(&self.reader).await?)
    }

    /// Writes how a run ended, unless another server was told already.
    pub(crate) async fn end_run(&self, run: &RunRow) -> Result<(), StoreError> {
        let query = "update trigger_runs set outcome = $2, status = $3, error = $4, duration_ms = $5
            where id = $1 and outcome in ('running', 'interrupted')";
        let update = sql::query(query).bind(&run.id).bind(&run.outcome).bind(run.status).bind(&run.error);
        update.bind(run.duration_ms).execute(&self.writer).await?;
        Ok(())
    }

    /// Says of runs whose lease ended before a moment that they were cut off; `None`: of all. Returns how many there were.
    pub(crate) async fn interrupt_runs(&self, error: &str, before: Option<i64>) -> Result<u64, StoreError> {
        let query = "update trigger_runs set outcome = 'interrupted', error = $1
            where outcome = 'running' and leased_until < $2";
        let update = sql::query(query).bind(error).bind(before.unwrap_or(i64::MAX));
        Ok(update.execute(&self.writer).await?)
    }

    /// Says that a server still has its runs.
    pub(crate) async fn lease_runs(&self, server: &str, until: i64) -> Result<(), StoreError> {
        let query = "update trigger_runs set leased_until = $2 where outcome = 'running' and server = $1";
        sql::query(query).bind(server).bind(until).execute(&self.writer).await?;
        Ok(())
    }

    /// Says that a call was cut off which an edge was given and does not know.
    pub(crate) async fn lose_call(&self, run: &str, edge: &str, error: &str) -> Result<(), StoreError> {
        let query = "update trigger_runs set outcome = 'interrupted', error = $3
            where id = $1 and edge_id = $2 and outcome = 'running'";
        sql::query(query).bind(run).bind(edge).bind(error).execute(&self.writer).await?;
        Ok(())
    }

    /// Writes how a call ended that an edge was given.
    pub(crate) async fn end_call(
        &self,
        run: &str,
        edge: &str,
        answered: &Answered,
        at: i64,
    ) -> Result<(), StoreError> {
        let query =
            "update trigger_runs set outcome = $3, status = $4, error = $5, duration_ms = $6 - started_at
            where id = $1 and edge_id = $2 and outcome in ('running', 'interrupted')";
        let outcome = outcome(answered);
        let update =
            sql::query(query).bind(run).bind(edge).bind(outcome).bind(answered.status.map(i64::from));
        update.bind(&answered.error).bind(at).execute(&self.writer).await?;
        Ok(())
    }

    /// A run.
    pub(crate) async fn run(&self, id: &str) -> Result<Option<RunRow>, StoreError> {
        let query = format!("select {RUN} from trigger_runs where id = $1");
        Ok(sql::query_as(sqlx::AssertSqlSafe(query)).bind(id).fetch_optional(&self.reader).await?)
    }

    /// Runs whose calls an edge was given and which have not ended.
    pub(crate) async fn given(&self, edge: &str, limit: i64) -> Result<Vec<String>, StoreError> {
        let query = "select id from trigger_runs where outcome = 'running' and edge_id = $1 limit $2";
        Ok(sql::query_scalar(query).bind(edge).bind(limit).fetch_all(&self.reader).await?)
    }
}

/// What becomes of a run that was answered so.
pub(crate) fn outcome(answered: &Answered) -> &'static str {
    if answered.is_success() { "succeeded" } else { "failed" }
}

/// Writes which edge is given the call of a run.
pub(crate) async fn give(db: &mut Connection, run: &str, edge: &str) -> Result<(), StoreError> {
    let query = "update trigger_runs set edge_id = $2 where id = $1";
    sql::query(query).bind(run).bind(edge).execute(db).await?;
    Ok(())
}

/// The triggers of a deployment as the transaction sees it, as JSON.
pub(crate) async fn of(db: &mut Connection, deployment: &str) -> Result<Option<String>, StoreError> {
    let query = "select triggers from deployments where id = $1";
    let found: Option<Option<String>> = sql::query_scalar(query).bind(deployment).fetch_optional(db).await?;
    Ok(found.flatten())
}

/// Enters a trigger. One that is there keeps its time, so that a deploy neither repeats nor loses a tick.
pub(crate) async fn put(
    db: &mut Connection,
    function: &str,
    deployment: &str,
    trigger: &Trigger,
    next_at: Option<i64>,
) -> Result<(), StoreError> {
    let query = "insert into schedule (function_id, cron, path, deployment_id, next_at)
        values ($1, $2, $3, $4, $5)
        on conflict (function_id, cron, path) do update set deployment_id = excluded.deployment_id";
    let insert = sql::query(query).bind(function).bind(trigger.cron.as_str()).bind(trigger.path.as_str());
    insert.bind(deployment).bind(next_at).execute(db).await?;
    Ok(())
}

/// Removes a function's triggers that are not of a deployment.
pub(crate) async fn retain(
    db: &mut Connection,
    function: &str,
    deployment: Option<&str>,
) -> Result<(), StoreError> {
    let query = "delete from schedule where function_id = $1 and deployment_id is distinct from $2";
    sql::query(query).bind(function).bind(deployment).execute(db).await?;
    Ok(())
}

/// Triggers whose time has come, those that wait longest first. A run that began before `since` is over, even
/// where nobody could write that down.
pub(crate) async fn due(
    db: &mut Connection,
    now: i64,
    since: i64,
    limit: i64,
) -> Result<Vec<DueRow>, StoreError> {
    let query = "select s.function_id, s.deployment_id, s.cron, s.path, s.next_at, f.slug,
            exists (select 1 from trigger_runs r where r.outcome = 'running' and r.function_id = s.function_id
                and r.cron = s.cron and r.path = s.path and r.started_at > $2) as running
        from schedule s join functions f on f.id = s.function_id
        where s.next_at <= $1 order by s.next_at limit $3";
    Ok(sql::query_as(query).bind(now).bind(since).bind(limit).fetch_all(db).await?)
}

/// Whether a tick of a trigger is at work; as for [`due`], one that began before `since` is not.
pub(crate) async fn is_running(
    db: &mut Connection,
    trigger: &ScheduledRow,
    since: i64,
) -> Result<bool, StoreError> {
    let query = "select exists (select 1 from trigger_runs where outcome = 'running' and function_id = $1
        and cron = $2 and path = $3 and started_at > $4)";
    let query = sql::query_scalar(query).bind(&trigger.function_id).bind(&trigger.cron);
    Ok(query.bind(&trigger.path).bind(since).fetch_one(db).await?)
}

/// Sets when a trigger's time comes again.
pub(crate) async fn move_on(
    db: &mut Connection,
    trigger: &ScheduledRow,
    next_at: Option<i64>,
) -> Result<(), StoreError> {
    let query = "update schedule set next_at = $4 where function_id = $1 and cron = $2 and path = $3";
    let update = sql::query(query).bind(&trigger.function_id).bind(&trigger.cron).bind(&trigger.path);
    update.bind(next_at).execute(db).await?;
    Ok(())
}

/// Enters a run, and forgets the function's oldest ones but `keep`.
pub(crate) async fn insert_run(db: &mut Connection, run: &RunRow, keep: i64) -> Result<(), StoreError> {
    let query = format!(
        "insert into trigger_runs ({RUN}) values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)"
    );
    let insert = sql::query(sqlx::AssertSqlSafe(query)).bind(&run.id).bind(&run.function_id);
    let insert = insert.bind(&run.deployment_id).bind(&run.cron).bind(&run.path).bind(run.scheduled_at);
    let insert = insert.bind(run.started_at).bind(run.duration_ms).bind(&run.outcome).bind(run.status);
    insert.bind(&run.error).bind(&run.server).bind(run.leased_until).execute(&mut *db).await?;
    let query = "delete from trigger_runs where function_id = $1 and outcome <> 'running' and id in
        (select id from trigger_runs where function_id = $1 order by started_at desc, id desc limit 1000 offset $2)";
    sql::query(query).bind(&run.function_id).bind(keep).execute(db).await?;
    Ok(())
}
