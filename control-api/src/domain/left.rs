//! What was unpinned and is still at other places: because nothing can be removed there, or because it could not be yet.

use super::access::{self, Noun};
use super::pages::{Page, Start};
use super::{Actor, Error, State};
use crate::store::{LeftRow, PlacementRow};

/// Content that was unpinned, and the places that still have it.
#[derive(Debug)]
pub struct Left {
    /// What it was.
    pub content: LeftRow,
    /// Where it is, and why.
    pub places: Vec<PlacementRow>,
}

/// What a project left behind, in the order of CIDs.
///
/// # Errors
/// When the actor is not a member of the project.
pub async fn list(
    state: &State,
    actor: &Actor,
    project: &str,
    start: impl Into<Start<'_>>,
) -> Result<Page<Left>, Error> {
    let start = start.into();
    access::project(state, actor, project, Noun::Storage.read()).await?;
    let (after, limit) = start.by_content()?;
    let mut left = Vec::new();
    for content in state.store.left_by(project, after, limit).await? {
        let mut places = state.store.placements(&content.cid).await?;
        places.retain(|place| matches!(place.state.as_str(), "REMOVING" | "LEFT"));
        left.push(Left { content, places });
    }
    Ok(Page::of(left, limit, |left| left.content.cid.clone()))
}
