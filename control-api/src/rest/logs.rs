//! `/v1/functions/{function}/logs`: what a function logs, as it comes.

use std::convert::Infallible;
use std::sync::Arc;

use af_contract::LogLine;
use axum::extract::State as Shared;
use axum::http::HeaderMap;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures::{Stream, stream};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tracing::error;
use utoipa::{IntoParams, ToSchema};

use super::List;
use super::call::request_id;
use super::problem::{Failure, Path, ProblemDocument, Query};
use crate::app::State;
use crate::domain::logs::{self, Follower, Position, Said};
use crate::domain::{Actor, Error, Fault};

/// Which line was the last that a client has seen (HTML, section 9.2).
const LAST_EVENT_ID: &str = "last-event-id";

/// A line of a function's log.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = LogLine)]
pub(super) struct Line {
    /// Give it as `Last-Event-ID` to go on after this line.
    id: String,
    /// Milliseconds since 1970 UTC.
    at: i64,
    /// `dep_…`
    deployment_id: String,
    /// As the response's `x-request-id`; `ID+2` for a line of this request or of one of two others in the same instance.
    request_id: String,
    /// `stdout`, `stderr`, a level of `wasi:logging` (`trace` to `critical`), or `platform`: the function ran into a limit.
    stream: String,
    /// What the function wrote, up to 8 KiB.
    text: String,
    /// The name of the edge that it is from; left out: of the control plane's own process.
    #[serde(skip_serializing_if = "Option::is_none")]
    edge: Option<String>,
    /// So many lines before this one were lost on their way; left out: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    missed: Option<u64>,
}

/// Whether to wait for more.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Wanted {
    /// `false`: what is kept, as JSON; left out: also what comes, as server-sent events.
    follow: Option<bool>,
}

impl Line {
    fn of((position, line): (Position, Arc<LogLine>)) -> Self {
        Self {
            id: position.to_string(),
            at: line.at,
            deployment_id: line.deployment.to_string(),
            request_id: line.request.clone(),
            stream: line.stream.to_owned(),
            text: line.text.clone(),
            edge: line.edge.as_deref().map(ToOwned::to_owned),
            missed: Some(line.missed).filter(|missed| *missed > 0),
        }
    }
}

/// The newest 100 lines that a function has logged, oldest first, and those that come: events `line`; `missed`, with the number of
/// lines before the next one that were lost on their way or not read in time (null: nobody knows it); and `failed`, with a code and
/// a detail, before an end that is for good. After any other end, and after an hour, ask again with `Last-Event-ID`.
#[utoipa::path(get, path = "/v1/functions/{function}/logs", operation_id = "log_get", tag = "functions",
    params(("function" = String, Path), Wanted, ("Last-Event-ID" = Option<String>, Header)),
    responses((status = 200, content((String = "text/event-stream"), (List<Line> = "application/json"))),
    (status = 401, body = ProblemDocument), (status = 403, body = ProblemDocument), (status = 404, body = ProblemDocument)))]
pub(super) async fn get(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Path(function): Path<String>,
    Query(wanted): Query<Wanted>,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    if wanted.follow == Some(false) {
        let data = logs::newest(&state, &actor, &function).await?;
        let data = data.into_iter().map(Line::of).collect();
        return Ok(axum::Json(List { data, next: None }).into_response());
    }
    let after = headers.get(LAST_EVENT_ID).map(|id| id.to_str().ok().and_then(|id| id.parse().ok()));
    let after = after.map(|id: Option<Position>| {
        id.ok_or_else(|| {
            Error::invalid("invalid_last_event_id", "Last-Event-ID is the id of a line that was sent")
        })
    });
    let follower = logs::follow(&state, &actor, &function, after.transpose()?).await?;
    Ok(Sse::new(events(follower, request_id())).keep_alive(KeepAlive::default()).into_response())
}

/// `request`: the id under which a failure is logged.
fn events(follower: Follower, request: String) -> impl Stream<Item = Result<Event, Infallible>> + Send {
    stream::unfold((follower, request), |(mut follower, request)| async move {
        let event = match follower.next().await? {
            Ok(Said::Line(position, line)) => line_event(Line::of((position, line))),
            Ok(Said::Missed(lines)) => event("missed", &json!({ "lines": lines })),
            Err(cause) => failed(&cause, &request)?,
        };
        Some((Ok(event), (follower, request)))
    })
}

fn line_event(line: Line) -> Event {
    event("line", &json!(line)).id(line.id)
}

/// The stream has begun, so no status can say it. What is our fault may pass, and is an end after which clients ask again.
fn failed(cause: &Error, request: &str) -> Option<Event> {
    if cause.fault() == Fault::Internal {
        let source = std::error::Error::source(cause);
        error!(request_id = request, error = %cause, ?source, "a log cannot be followed any more");
        return None;
    }
    Some(event("failed", &json!({ "code": cause.code(), "detail": cause.to_string() })))
}

fn event(name: &str, data: &serde_json::Value) -> Event {
    Event::default().event(name).data(data.to_string())
}
