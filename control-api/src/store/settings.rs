//! Sealed settings of deployments.

use std::collections::HashMap;

use super::feed::range;
use super::sql::{self, Connection};
use super::{Store, StoreError};
use crate::domain::settings::SealedSettings;
use af_contract::{SettingName, limits};

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
        let rows: Vec<SettingRow> = sql::query_as(query).bind(deployment).fetch_all(&self.reader).await?;
        rows.into_iter().map(|row| Ok((name(&row.name)?, row.sealed))).collect()
    }

    /// Of the deployments of functions that changed after `known` up to `until`, by deployment.
    pub(crate) async fn settings_since(
        &self,
        known: u64,
        until: u64,
    ) -> Result<HashMap<String, SealedSettings>, StoreError> {
        let query = "select s.deployment_id, s.name, s.sealed from deployment_settings s
            join (select d.id, (d.id = f.current_deployment_id or d.id = o.deployment_id) as current,
                    row_number() over (partition by d.function_id order by d.number desc) as place
                from feed e
                join functions f on f.id = e.id
                join deployments d on d.function_id = f.id
                left join rollouts o on o.function_id = f.id and o.status = 'RUNNING'
                where e.kind = 'function' and e.revision > $1 and e.revision <= $2
                    and (d.widens is null or d.approver_id is not null)) r
            on r.id = s.deployment_id and (r.current or r.place <= $3)";
        let (from, to) = range(known, until);
        let previews = i64::try_from(limits::PREVIEWS).unwrap_or(i64::MAX);
        let query = sql::query_as(query).bind(from).bind(to).bind(previews);
        let rows: Vec<SettingRow> = query.fetch_all(&self.reader).await?;
        let mut settings: HashMap<String, SealedSettings> = HashMap::new();
        for row in rows {
            let name = name(&row.name)?;
            settings.entry(row.deployment_id).or_default().insert(name, row.sealed);
        }
        Ok(settings)
    }
}

pub(crate) async fn insert(
    db: &mut Connection,
    deployment: &str,
    settings: &SealedSettings,
) -> Result<(), StoreError> {
    for (name, sealed) in settings {
        let query = "insert into deployment_settings (deployment_id, name, sealed) values ($1, $2, $3)";
        sql::query(query).bind(deployment).bind(name.as_str()).bind(sealed).execute(&mut *db).await?;
    }
    Ok(())
}

fn name(text: &str) -> Result<SettingName, StoreError> {
    SettingName::parse(text).map_err(|_| StoreError::Value { what: "setting's name", value: text.to_owned() })
}
