//! Values from before projects had keys for them: sealed with the master key itself, each for its function.

use std::collections::HashMap;

use tracing::error;

use crate::domain::master_key::Keyring;
use crate::domain::sealing::Seal;
use crate::domain::{Error, project_keys, projects};
use crate::store::settings::{self as rows, FormerRow};
use crate::store::{SettingRow, Store};

/// Values from before that are sealed anew at a time.
const BATCH: i64 = 1000;

/// Seals values from before, which are sealed with the master key, with the keys of their projects. Those of what functions run
/// become the functions' own.
///
/// # Errors
/// When the database fails. What cannot be opened stays as it is.
pub(crate) async fn recover(store: &Store, keys: &Keyring) -> Result<(), Error> {
    let (mut after, mut failed) = ((String::new(), String::new()), 0);
    loop {
        let mut db = store.begin().await?;
        let batch = rows::former(&mut db, (&after.0, &after.1), BATCH).await?;
        let Some(last) = batch.last() else { break };
        after = (last.deployment_id.clone(), last.name.clone());
        let mut known = HashMap::new();
        for row in batch {
            if !known.contains_key(&row.project_id) {
                known.insert(row.project_id.clone(), project_keys::of(keys, &mut db, &row.project_id).await?);
            }
            let seal = known.get(&row.project_id);
            let Some(renewed) = seal.and_then(|seal| renew(keys, seal, &row)) else {
                failed += 1;
                continue;
            };
            rows::renew(&mut db, &row.deployment_id, &renewed).await?;
            if row.current {
                rows::put(&mut db, &row.project_id, &renewed).await?;
            }
        }
        projects::commit(db).await?;
    }
    if failed > 0 {
        error!(
            failed,
            "settings of deployments cannot be opened with this master key; they stay as they are"
        );
    }
    Ok(())
}

fn renew(keys: &Keyring, seal: &Seal, row: &FormerRow) -> Option<SettingRow> {
    let value = keys.unseal_bytes(&[&row.function_id, &row.name], &row.sealed).ok()?;
    Some(SettingRow {
        sealed: seal.seal_bytes(&[&row.function_id, &row.name], &value).ok()?,
        // Manifests name it by this.
        digest: blake3::hash(&row.sealed).as_bytes().to_vec(),
        owner_id: row.function_id.clone(),
        name: row.name.clone(),
        secret: true,
        author_id: row.author_id.clone(),
        updated_at: row.created_at,
    })
}
