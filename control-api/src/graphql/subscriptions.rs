//! What happens to a deployment, and what a function logs, told as it happens.

use std::sync::Arc;
use std::time::Duration;

use async_graphql::{Context, ID, InputObject, SimpleObject};
use futures::{Stream, stream};
use tokio::sync::watch;

use super::asker::{actor, state};
use super::failure::{Failure, Result};
use super::functions::af::Status;
use super::scalars::Date;
use crate::app::State;
use crate::domain::logs::{self, Said};
use crate::domain::{Actor, Error, builds, tokens};
use crate::places::{Place, Places};
use crate::store::DeployedRow;

/// Subscriptions of one token.
const PER_TOKEN: usize = 20;

/// Subscriptions of all.
const ALL: usize = 2_000;

/// Between two looks whether the token still counts.
const RECHECK: Duration = Duration::from_secs(5);

/// Those of a schema.
pub(super) fn places() -> Places {
    Places::new(PER_TOKEN, ALL)
}

/// What has become of a deployment.
#[derive(SimpleObject)]
struct DeploymentStatusUpdate {
    deployment_id: ID,
    status: Status,
    /// Why it failed.
    reason: Option<String>,
    timestamp: Date,
}

/// Which function's log.
#[derive(InputObject)]
struct FunctionLogsWhereInput {
    id: ID,
}

/// A line of a function's log.
#[derive(SimpleObject)]
struct FunctionLogLine {
    id: ID,
    deployment_id: ID,
    /// As the response's `x-request-id`; `ID+2` for a line of this request or of one of two others in the same instance.
    request_id: String,
    /// `stdout`, `stderr`, a level of `wasi:logging` (`trace` to `critical`), or `platform`: the function ran into a limit.
    stream: String,
    /// What the function wrote, up to 8 KiB.
    text: String,
    timestamp: Date,
    /// Lines before this one that are gone, because they were lost on their way or not read in time.
    missed: u64,
    /// The name of the edge that it is from; null: of the control plane's own process.
    edge: Option<String>,
}

/// A deployment that somebody watches.
struct Watched {
    state: Arc<State>,
    actor: Actor,
    id: String,
    last: Option<DeployedRow>,
    committed: watch::Receiver<u64>,
    built: watch::Receiver<u64>,
    stopping: watch::Receiver<bool>,
    ended: bool,
    _place: Place,
}

impl Watched {
    /// The next thing that happens; none when the server ends, for a client that then asks another one.
    async fn next(&mut self) -> Option<std::result::Result<DeployedRow, Error>> {
        let mut stopping = self.stopping.clone();
        tokio::select! {
            _ = stopping.wait_for(|stopping| *stopping) => None,
            next = self.change() => Some(next),
        }
    }

    async fn change(&mut self) -> std::result::Result<DeployedRow, Error> {
        loop {
            // Whoever may not look any more is told so: a member who left, a token that was deleted or has ended.
            tokens::still(&self.state, &self.actor).await?;
            let now = builds::get(&self.state, &self.actor, &self.id).await?;
            let told =
                self.last.as_ref().is_some_and(|last| last.status == now.status && last.reason == now.reason);
            if !told {
                self.last = Some(now.clone());
                return Ok(now);
            }
            tokio::select! {
                _ = self.committed.changed() => {}
                _ = self.built.changed() => {}
                () = tokio::time::sleep(RECHECK) => {}
            }
        }
    }
}

#[derive(Default)]
pub(super) struct Subscription;

#[async_graphql::Subscription]
impl Subscription {
    /// What a function logs: the newest 100 lines, and those that come. It completes when the server ends, and after an hour.
    async fn function_logs(
        &self,
        ctx: &Context<'_>,
        r#where: FunctionLogsWhereInput,
    ) -> Result<impl Stream<Item = Result<FunctionLogLine>> + use<>> {
        let follower = logs::follow(state(ctx)?, actor(ctx)?, &r#where.id, None).await;
        let follower = follower.map_err(Failure::named("AF"))?;
        Ok(stream::unfold(follower, |mut follower| async move {
            let mut missed = 0_u64;
            loop {
                match follower.next().await? {
                    Ok(Said::Missed(lines)) => missed = missed.saturating_add(lines.unwrap_or_default()),
                    Ok(Said::Line(position, line)) => {
                        let line = FunctionLogLine {
                            id: ID(position.to_string()),
                            deployment_id: ID(line.deployment.to_string()),
                            request_id: line.request.clone(),
                            stream: line.stream.to_owned(),
                            text: line.text.clone(),
                            timestamp: Date(line.at),
                            missed,
                            edge: line.edge.as_deref().map(ToOwned::to_owned),
                        };
                        return Some((Ok(line), follower));
                    }
                    Err(error) => return Some((Err(Failure::named("AF")(error)), follower)),
                }
            }
        }))
    }

    /// The status of a function's deployment: now, and whenever it has changed.
    async fn deployment_status(
        &self,
        ctx: &Context<'_>,
        deployment_id: ID,
    ) -> Result<impl Stream<Item = Result<DeploymentStatusUpdate>> + use<>> {
        let (state, actor) = (state(ctx)?.clone(), actor(ctx)?.clone());
        let places = ctx.data::<Places>().map_err(|error| Error::Internal(error.message.into()))?;
        let place = places.take(&actor.token).ok_or_else(|| {
            let detail = format!("a token has at most {PER_TOKEN} subscriptions; end one first");
            Error::Limit { code: "too_many_subscriptions", detail, seconds: 1 }
        })?;
        let watched = Watched {
            committed: state.changes.subscribe(),
            built: state.builds.subscribe(),
            stopping: state.stopping.subscribe(),
            state,
            actor,
            id: deployment_id.0,
            last: None,
            ended: false,
            _place: place,
        };
        Ok(stream::unfold(watched, |mut watched| async move {
            if watched.ended {
                return None;
            }
            let next = watched.next().await?;
            watched.ended = next.is_err();
            Some((next.map(update).map_err(Failure::named("AF")), watched))
        }))
    }
}

fn update(row: DeployedRow) -> DeploymentStatusUpdate {
    DeploymentStatusUpdate {
        deployment_id: ID(row.id),
        status: Status::of(&row.status),
        reason: row.reason,
        timestamp: Date(row.updated_at),
    }
}
