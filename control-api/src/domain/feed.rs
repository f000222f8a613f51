//! The feed: what edges are told.

use std::collections::HashMap;

use af_contract::{Change, DeploymentRef, DomainState, FunctionState, Owner, Update};
use tracing::error;

use super::projects::commit;
use super::{Error, State, certificates, content_keys, now, proof, settings};
use crate::store::content_keys::{self as store_keys, ContentKeyRow};
use crate::store::feed::{self as store, ChangedFunction, DomainUpdate};
use crate::store::{Connection, StoreError, settings as store_settings};

/// Changes of a page: PostgreSQL has them in under 10 ms among 100,000 functions, also while a start has it read two at once.
const CHANGES: i64 = 200;

/// Bytes of route tables and settings in a page, unless one change has more. As JSON they have up to six times as many, and an
/// edge takes pages of up to 256 MiB.
const BYTES: u64 = 8 << 20;

/// What has been gone for so long is forgotten, milliseconds: a week. An edge that was away for longer is told all anew.
const GONE: i64 = 7 * 24 * 60 * 60 * 1000;

/// What changed, oldest first.
#[derive(Clone, Debug, Default)]
pub struct Changes {
    /// They follow this revision; 0 also where what was known is too old to go on from: all comes anew, and what is not in it is gone.
    pub after: u64,
    /// What became of each thing; what was always gone is left out.
    pub updates: Vec<Update>,
    /// With them, everything up to this revision is known; none: nothing has changed.
    pub until: Option<u64>,
    /// Whether there is more behind that.
    pub more: bool,
}

/// Whether what was forgotten may matter to who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Reader {
    /// It may have been away, and know what has gone since and is forgotten.
    Back,
    /// It began with nothing a moment ago, or has been told all since.
    Here,
}

/// What changed after `known`, with the settings and keys that functions need: a page of it. All of it is of one moment.
pub(crate) async fn since(state: &State, known: u64, reader: Reader) -> Result<Changes, StoreError> {
    let mut db = state.store.snapshot().await?;
    let is_old = reader == Reader::Back && known < store::compacted(&mut db).await?;
    let known = if is_old { 0 } else { known };
    let Some(end) = store::page_end(&mut db, known, CHANGES).await? else {
        return Ok(Changes { after: known, ..Changes::default() });
    };
    let (functions, until) = lighter(&mut db, known, end).await?;
    let ids: Vec<&str> = functions.iter().flat_map(|(function, _)| function.deployments()).collect();
    let keys = store_keys::of_deployments(&mut db, &ids).await?;
    let set: Vec<&str> =
        functions.iter().filter(|(_, sealed)| *sealed > 0).flat_map(|(one, _)| one.deployments()).collect();
    let sealed = store_settings::deployed(&mut db, &set).await?;
    let routed = functions.iter().map(|(function, _)| function).filter(|one| one.route_bytes() > 0);
    let routes = store::routes(&mut db, &routed.map(ChangedFunction::id).collect::<Vec<_>>()).await?;
    let sites = store::changed_sites(&mut db, known, until).await?;
    let domains = store::changed_domains(&mut db, known, until).await?;
    let more = until < end || store::page_end(&mut db, until, 1).await?.is_some();
    drop(db);
    let updates = functions.into_iter().filter_map(|(function, _)| {
        let routes = routes.get(function.id()).map(String::as_str);
        store::readable(function.update(routes))
    });
    let mut updates: Vec<Update> = updates.collect();
    let mut project_keys = HashMap::new();
    for update in &mut updates {
        if let Change::Function { id, state: Some(function) } = &mut update.change {
            for deployment in deployments(function) {
                for row in sealed.get(&deployment.id).into_iter().flatten() {
                    match settings::open(state, id, row, &mut project_keys) {
                        Ok((name, value)) => drop(deployment.settings.insert(name, value)),
                        // The edge refuses a deployment that lacks a setting; the others are served.
                        Err(cause) => {
                            error!(function = id, name = row.name, %cause, "a setting cannot be opened")
                        }
                    }
                }
                if let Some(key) = keys.get(&deployment.id) {
                    open_key(state, deployment, key);
                }
            }
        }
    }
    updates.extend(sites);
    for row in domains {
        match domain(state, row) {
            Ok(update) => updates.push(update),
            // It keeps no other from edges.
            Err(cause) => error!(%cause, "edges are not told of a domain that cannot be read"),
        }
    }
    if known == 0 {
        // Who knows nothing need not be told what is gone.
        updates.retain(|update| update.change.is_there());
    }
    updates.sort_by_key(|update| update.revision);
    Ok(Changes { after: known, updates, until: Some(until), more })
}

/// Forgets what has been gone for long; the newest change stays, as revisions go on from it. How many things that were.
///
/// # Errors
/// When the database fails.
pub(crate) async fn compact(state: &State) -> Result<usize, Error> {
    let before = now().saturating_sub(GONE);
    let (mut known, mut forgotten) = (0, 0);
    loop {
        let mut reading = state.store.read().await?;
        let Some(until) = store::page_end(&mut reading, known, CHANGES).await? else { return Ok(forgotten) };
        drop(reading);
        let mut db = state.store.begin().await?;
        let gone = store::forget(&mut db, known, until, before).await?;
        if let Some(newest) = gone.iter().max() {
            store::compact(&mut db, *newest).await?;
            commit(db).await?;
        }
        forgotten += gone.len();
        known = until;
    }
}

/// The functions of a page, each with the bytes of its sealed settings, and where the page ends: earlier where they are large.
async fn lighter(
    db: &mut Connection,
    known: u64,
    end: u64,
) -> Result<(Vec<(ChangedFunction, u64)>, u64), StoreError> {
    let changed = store::changed_functions(db, known, end).await?;
    let ids: Vec<&str> = changed.iter().flat_map(ChangedFunction::deployments).collect();
    let sealed = store_settings::weights(db, &ids).await?;
    let mut functions: Vec<(ChangedFunction, u64)> = Vec::with_capacity(changed.len());
    let mut left = BYTES;
    for function in changed {
        let sealed = function.deployments().filter_map(|id| sealed.get(id)).sum::<u64>();
        let rest = left.checked_sub(sealed.saturating_add(function.route_bytes()));
        if let (None, Some((last, _))) = (rest, functions.last()) {
            let until = last.revision()?;
            return Ok((functions, until));
        }
        left = rest.unwrap_or_default();
        functions.push((function, sealed));
    }
    Ok((functions, end))
}

fn deployments(function: &mut FunctionState) -> impl Iterator<Item = &mut DeploymentRef> {
    let candidate = function.rollout.as_mut().map(|rollout| &mut rollout.candidate);
    function.deployment.iter_mut().chain(&mut function.previews).chain(candidate)
}

fn open_key(state: &State, deployment: &mut DeploymentRef, row: &ContentKeyRow) {
    match content_keys::open(state, row) {
        Ok(key) => deployment.content_key = Some(key),
        // As for a setting.
        Err(cause) => error!(deployment = deployment.id, %cause, "a content key cannot be opened"),
    }
}

fn domain(state: &State, row: DomainUpdate) -> Result<Update, StoreError> {
    let name = proof::parse_stored(&row.hostname)?;
    let revision = row.revision()?;
    let owner = match (row.owner_kind.as_deref(), row.owner_id) {
        (Some("function"), Some(id)) => Some(Owner::Function(id)),
        (Some("site"), Some(id)) => Some(Owner::Site(id)),
        _ => None,
    };
    let certificate = match (&row.id, row.certificate_chain, &row.certificate_key) {
        (Some(id), Some(chain), Some(key)) => match certificates::open(state, id, chain, key) {
            Ok(certificate) => Some(certificate),
            // The edge gets one, as for a name without.
            Err(cause) => {
                error!(domain = id, %cause, "the key of a domain's certificate cannot be opened");
                None
            }
        },
        _ => None,
    };
    let state = owner.map(|owner| DomainState { owner, certificate });
    Ok(Update { revision, change: Change::Domain { name, state } })
}
