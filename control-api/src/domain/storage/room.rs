//! What a project may store: its pins, and the directories that its sites have deployed.

use af_contract::ContentId;

use crate::domain::plans::Limit;
use crate::domain::quotas::{self, Terms};
use crate::domain::{Error, State, StorageError};
use crate::store::{Connection, PinRow, Usage, site_deployments, storage};

/// Refuses what does not fit into a project any more, before it is sent. Returns what counts for the project.
pub(in crate::domain) async fn room_in(state: &State, project: &str, bytes: u64) -> Result<Terms, Error> {
    let mut db = state.store.read().await?;
    let terms = Terms::of_project(state, &mut db, project).await?;
    room(&terms, &storage::usage(&mut db, project).await?, bytes)?;
    Ok(terms)
}

/// What a project may store besides what it does, bytes.
pub(super) async fn left(state: &State, project: &str) -> Result<u64, Error> {
    let terms = room_in(state, project, 0).await?;
    let used = storage::usage(&mut state.store.read().await?, project).await?.bytes;
    Ok(terms.most_stored(Limit::StorageBytes).saturating_sub(used))
}

/// As [`room_in`], of what is to be pinned, and may be there already.
pub(super) async fn room_for(state: &State, project: &str, cid: &str, bytes: u64) -> Result<(), Error> {
    let counted = storage::counted(&mut state.store.read().await?, project, cid).await?;
    room_in(state, project, bytes.saturating_sub(counted.unwrap_or_default())).await.map(drop)
}

/// Refuses a pin that does not fit.
pub(super) async fn admit(state: &State, db: &mut Connection, pin: &PinRow) -> Result<(), Error> {
    let terms = Terms::of_project(state, db, &pin.project_id).await?;
    let usage = storage::usage(db, &pin.project_id).await?;
    let counted = storage::counted(db, &pin.project_id, &pin.cid).await?.unwrap_or_default();
    let bytes = u64::try_from(pin.bytes).unwrap_or(u64::MAX);
    Ok(room(&terms, &usage, bytes.saturating_sub(counted))?)
}

/// Refuses a directory that a site can have no room for, before it is sent: not even if all went but what the site serves.
pub(in crate::domain) async fn site_has_room(
    state: &State,
    project: &str,
    site: &str,
    root: &ContentId,
) -> Result<(), Error> {
    let mut db = state.store.read().await?;
    if storage::counted(&mut db, project, &root.to_string()).await?.is_some() {
        return Ok(());
    }
    let terms = Terms::of_project(state, &mut db, project).await?;
    let usage = storage::usage(&mut db, project).await?;
    let least = storage::site_bytes(&mut db, project, Some(site)).await?;
    let least = usage.bytes.saturating_sub(usage.site_bytes).saturating_add(least);
    let most = terms.most_stored(Limit::StorageBytes);
    if least < most {
        return Ok(());
    }
    let by = quotas::by(terms.plan_of(Limit::StorageBytes));
    Err(StorageError::NoRoom { used: usage.bytes, most, by }.into())
}

/// Makes room for a directory of `more` bytes that a site serves from now on, and that the project had not stored before: the site's
/// oldest deployments go, but never what it served before. Returns their ids.
///
/// # Errors
/// When it does not fit nevertheless.
pub(in crate::domain) async fn make_for_site(
    state: &State,
    db: &mut Connection,
    (project, site): (&str, &str),
    more: u64,
) -> Result<Vec<String>, Error> {
    let terms = Terms::of_project(state, db, project).await?;
    let most = terms.most_stored(Limit::StorageBytes);
    let mut gone = Vec::new();
    loop {
        let used = storage::usage(db, project).await?.bytes;
        if used <= most {
            return Ok(gone);
        }
        let Some(oldest) = site_deployments::drop_oldest(db, site).await? else {
            let by = quotas::by(terms.plan_of(Limit::StorageBytes));
            return Err(StorageError::Full { used: used.saturating_sub(more), more, most, by }.into());
        };
        gone.push(oldest);
    }
}

fn room(terms: &Terms, usage: &Usage, more: u64) -> Result<(), StorageError> {
    let [bytes, pins] = [Limit::StorageBytes, Limit::Pins].map(|limit| terms.most_stored(limit));
    let by = |limit| quotas::by(terms.plan_of(limit));
    if usage.bytes.saturating_add(more) > bytes {
        let by = by(Limit::StorageBytes);
        return Err(StorageError::Full { used: usage.bytes, more, most: bytes, by });
    }
    if usage.pins >= pins {
        return Err(StorageError::TooManyPins { used: usage.pins, most: pins, by: by(Limit::Pins) });
    }
    Ok(())
}
