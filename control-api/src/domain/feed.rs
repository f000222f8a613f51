//! The feed: what edges are told.

use std::collections::HashMap;

use af_contract::{Change, DeploymentRef, DomainState, FunctionState, Owner, Update};
use tracing::error;

use super::{State, certificates, content_keys, proof, settings};
use crate::store::StoreError;
use crate::store::content_keys::ContentKeyRow;
use crate::store::feed::DomainUpdate;

/// What changed after `known`, oldest first, with the settings and keys that functions need; at most 1,000 changes.
pub(crate) async fn since(state: &State, known: u64) -> Result<Vec<Update>, StoreError> {
    let Some(until) = state.store.page_end(known).await? else { return Ok(Vec::new()) };
    let mut updates = state.store.changed_functions(known, until).await?;
    let sealed = state.store.settings_since(known, until).await?;
    let keys = state.store.content_keys_since(known, until).await?;
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
    updates.extend(state.store.changed_sites(known, until).await?);
    for row in state.store.changed_domains(known, until).await? {
        updates.push(domain(state, row)?);
    }
    updates.sort_by_key(|update| update.revision);
    Ok(updates)
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
