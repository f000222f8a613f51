//! The feed: what edges are told.

use af_contract::{Change, DeploymentRef, FunctionState, SettingValue, Update};
use tracing::error;

use super::State;
use super::settings::{self, SealedSettings};
use crate::store::StoreError;

/// What changed after `known`, oldest first, with the settings that functions need; at most 1,000 changes.
pub(crate) async fn since(state: &State, known: u64) -> Result<Vec<Update>, StoreError> {
    let Some(until) = state.store.page_end(known).await? else { return Ok(Vec::new()) };
    let mut updates = state.store.changed_functions(known, until).await?;
    let sealed = state.store.settings_since(known, until).await?;
    for update in &mut updates {
        if let Change::Function { id, state: Some(function) } = &mut update.change {
            for deployment in deployments(function) {
                if let Some(sealed) = sealed.get(&deployment.id) {
                    open(state, id, deployment, sealed);
                }
            }
        }
    }
    updates.extend(state.store.changed_sites(known, until).await?);
    updates.sort_by_key(|update| update.revision);
    Ok(updates)
}

fn deployments(function: &mut FunctionState) -> impl Iterator<Item = &mut DeploymentRef> {
    function.deployment.iter_mut().chain(&mut function.previews)
}

fn open(state: &State, function: &str, deployment: &mut DeploymentRef, sealed: &SealedSettings) {
    for (name, value) in sealed {
        match settings::open(state, function, name, value) {
            Ok(value) => drop(deployment.settings.insert(name.clone(), SettingValue::new(value))),
            // The edge refuses a deployment that lacks a setting; the others are served.
            Err(cause) => error!(function, %name, %cause, "a setting cannot be opened"),
        }
    }
}
