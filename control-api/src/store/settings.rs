//! Sealed settings of deployments.

use std::collections::HashMap;

use af_contract::SettingName;
use sqlx::SqliteConnection;

use super::{Store, StoreError};
use crate::domain::settings::SealedSettings;

#[derive(sqlx::FromRow)]
struct SettingRow {
    deployment_id: String,
    name: String,
    sealed: Vec<u8>,
}

impl Store {
    pub(crate) async fn settings_of(&self, deployment: &str) -> Result<SealedSettings, StoreError> {
        let query = "select deployment_id, name, sealed from deployment_settings
            where deployment_id = $1 order by name limit 1000";
        let rows: Vec<SettingRow> = sqlx::query_as(query).bind(deployment).fetch_all(&self.reader).await?;
        rows.into_iter().map(|row| Ok((name(&row.name)?, row.sealed))).collect()
    }

    /// Of the deployments that routes with a revision after `known` lead to, by deployment.
    pub(crate) async fn settings_since(
        &self,
        known: u64,
    ) -> Result<HashMap<String, SealedSettings>, StoreError> {
        let query = "select s.deployment_id, s.name, s.sealed
            from (select function_id from routes where revision > $1 order by revision limit 10000) r
            join functions f on f.id = r.function_id
            join deployment_settings s on s.deployment_id = f.current_deployment_id";
        let known = i64::try_from(known).unwrap_or(i64::MAX);
        let rows: Vec<SettingRow> = sqlx::query_as(query).bind(known).fetch_all(&self.reader).await?;
        let mut settings: HashMap<String, SealedSettings> = HashMap::new();
        for row in rows {
            let name = name(&row.name)?;
            settings.entry(row.deployment_id).or_default().insert(name, row.sealed);
        }
        Ok(settings)
    }
}

pub(crate) async fn insert(
    db: &mut SqliteConnection,
    deployment: &str,
    settings: &SealedSettings,
) -> Result<(), StoreError> {
    for (name, sealed) in settings {
        let query = "insert into deployment_settings (deployment_id, name, sealed) values ($1, $2, $3)";
        sqlx::query(query).bind(deployment).bind(name.as_str()).bind(sealed).execute(&mut *db).await?;
    }
    Ok(())
}

fn name(text: &str) -> Result<SettingName, StoreError> {
    SettingName::parse(text).map_err(|_| StoreError::Value { what: "setting's name", value: text.to_owned() })
}
