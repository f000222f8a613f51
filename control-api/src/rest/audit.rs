//! `/v1/…/audit`: who did what.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State as Shared;
use axum::http::HeaderMap;
use axum::http::header::{ACCEPT, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde::Serialize;
use utoipa::ToSchema;

use super::problem::{Failure, Path, ProblemDocument, Query};
use super::{Cursor, List};
use crate::app::State;
use crate::domain::audit::{self, Of};
use crate::domain::{Actor, Error};
use crate::store::AuditRow;

/// One JSON value a line.
const NDJSON: &str = "application/x-ndjson";

/// Somebody did something, or was not allowed to.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Entry {
    /// `aud_…`
    id: String,
    /// Milliseconds since 1970 UTC.
    at: i64,
    /// `usr_…`
    user_id: String,
    /// `tok_…`: the token that was shown; empty: of somebody new, who had none.
    token_id: String,
    /// NOUN.VERB, as `function.create`; of what was refused, what was asked for, or for GraphQL what that needed, as `functions:write`.
    action: String,
    /// `done` or `refused`.
    outcome: String,
    /// The id or name of what it was done to.
    target: String,
    /// `prj_…`
    project_id: Option<String>,
    /// `org_…`
    organization_id: Option<String>,
    /// Where the request came from.
    address: Option<String>,
    /// `x-request-id` of the answer.
    request_id: Option<String>,
}

impl From<AuditRow> for Entry {
    fn from(row: AuditRow) -> Self {
        Self {
            id: row.id,
            at: row.at,
            user_id: row.user_id,
            token_id: row.token_id,
            action: row.action,
            outcome: row.outcome,
            target: row.target,
            project_id: row.project_id,
            organization_id: row.organization_id,
            address: row.address,
            request_id: row.request_id,
        }
    }
}

/// What was done in the project, newest first. With `accept: application/x-ndjson`, all of it, one entry a line.
#[utoipa::path(get, path = "/v1/projects/{project}/audit", operation_id = "audit_list_of_project",
    tag = "audit", params(("project" = String, Path), Cursor),
    responses((status = 200, content((List<Entry> = "application/json"), (String = "application/x-ndjson"))),
    (status = 401, body = ProblemDocument), (status = 403, body = ProblemDocument),
    (status = 404, body = ProblemDocument)))]
pub(super) async fn of_project(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Path(project): Path<String>,
    Query(cursor): Query<Cursor>,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    answer(state, actor, Whose::Project(project), cursor, &headers).await
}

/// What was done in the organization and its projects, newest first. With `accept: application/x-ndjson`, all of it, one
/// entry a line.
#[utoipa::path(get, path = "/v1/organizations/{organization}/audit", operation_id = "audit_list_of_organization",
    tag = "audit",
    params(("organization" = String, Path), Cursor),
    responses((status = 200, content((List<Entry> = "application/json"), (String = "application/x-ndjson"))),
    (status = 401, body = ProblemDocument), (status = 403, body = ProblemDocument),
    (status = 404, body = ProblemDocument)))]
pub(super) async fn of_organization(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Path(organization): Path<String>,
    Query(cursor): Query<Cursor>,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    answer(state, actor, Whose::Organization(organization), cursor, &headers).await
}

/// What you did, wherever that was, newest first. With `accept: application/x-ndjson`, all of it, one entry a line.
#[utoipa::path(get, path = "/v1/audit", operation_id = "audit_list_own", tag = "audit", params(Cursor),
    responses((status = 200, content((List<Entry> = "application/json"), (String = "application/x-ndjson"))),
    (status = 401, body = ProblemDocument), (status = 403, body = ProblemDocument)))]
pub(super) async fn own(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Query(cursor): Query<Cursor>,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    answer(state, actor, Whose::Own, cursor, &headers).await
}

#[derive(Clone)]
enum Whose {
    Project(String),
    Organization(String),
    Own,
}

impl Whose {
    fn of(&self) -> Of<'_> {
        match self {
            Self::Project(id) => Of::Project(id),
            Self::Organization(id) => Of::Organization(id),
            Self::Own => Of::Own,
        }
    }
}

async fn answer(
    state: Arc<State>,
    actor: Actor,
    whose: Whose,
    cursor: Cursor,
    headers: &HeaderMap,
) -> Result<Response, Failure> {
    let page = audit::list(&state, &actor, whose.of(), cursor.start()).await?;
    let lines = headers.get(ACCEPT).and_then(|accept| accept.to_str().ok());
    if !lines.is_some_and(|accept| accept.contains(NDJSON)) {
        return Ok(List::of(page, Entry::from).into_response());
    }
    // One page in memory at a time; whoever loses the permission meanwhile gets no further page.
    let pages = futures::stream::try_unfold(Some(page), move |page| {
        let (state, actor, of) = (state.clone(), actor.clone(), whose.clone());
        async move {
            let Some(page) = page else { return Ok::<_, Error>(None) };
            let following = match &page.next {
                Some(next) => Some(audit::list(&state, &actor, of.of(), next.into()).await?),
                None => None,
            };
            let mut text = Vec::new();
            for row in page.items {
                serde_json::to_writer(&mut text, &Entry::from(row))
                    .map_err(|error| Error::Internal(Box::new(error)))?;
                text.push(b'\n');
            }
            Ok(Some((Bytes::from(text), following)))
        }
    });
    Ok(([(CONTENT_TYPE, NDJSON)], Body::from_stream(pages)).into_response())
}
