//! `/v1/projects/{project}/storage/left`: what was unpinned and is still at other places.

use std::sync::Arc;

use axum::extract::State as Shared;
use serde::Serialize;
use utoipa::ToSchema;

use super::problem::{Failure, Path, ProblemDocument, Query};
use super::storage::Placement;
use super::{Cursor, List};
use crate::app::State;
use crate::domain::Actor;
use crate::domain::left::{self, Left};

/// Content that was unpinned, and that other places still have.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct LeftContent {
    /// CID of its root.
    cid: String,
    /// As the project called it; of private content nothing.
    name: Option<String>,
    /// Those that have it: `LEFT` is there for good, `REMOVING` is asked again.
    places: Vec<Placement>,
    /// Milliseconds since 1970 UTC.
    unpinned_at: i64,
}

impl From<Left> for LeftContent {
    fn from(Left { content, places }: Left) -> Self {
        let places = places.into_iter().map(Placement::from).collect();
        Self { cid: content.cid, name: content.name, places, unpinned_at: content.unpinned_at }
    }
}

/// What the project has unpinned and other places still have: for good, or because it could not be removed there yet.
#[utoipa::path(get, path = "/v1/projects/{project}/storage/left", operation_id = "pin_left_list", tag = "storage",
    params(("project" = String, Path), Cursor), responses((status = 200, body = List<LeftContent>),
    (status = 401, body = ProblemDocument), (status = 403, body = ProblemDocument), (status = 404, body = ProblemDocument)))]
pub(super) async fn list(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Path(project): Path<String>,
    Query(cursor): Query<Cursor>,
) -> Result<axum::Json<List<LeftContent>>, Failure> {
    let page = left::list(&state, &actor, &project, cursor.start()).await?;
    Ok(List::of(page, LeftContent::from))
}
