//! Sealed keys of private pins.

use super::sql::{self, Connection};
use super::{Store, StoreError};

/// A data key, and the key of its project that it is sealed with, sealed itself.
#[derive(Debug, sqlx::FromRow)]
pub(crate) struct PinKeyRow {
    pub sealed: Vec<u8>,
    pub project_key: Vec<u8>,
}

impl Store {
    /// The data key of a project's pin, sealed; none of a pin that is not private.
    pub(crate) async fn pin_key(&self, project: &str, pin: &str) -> Result<Option<PinKeyRow>, StoreError> {
        let query = "select k.sealed, p.sealed as project_key from pin_keys k
            join project_keys p on p.project_id = $1 where k.pin_id = $2";
        Ok(sql::query_as(query).bind(project).bind(pin).fetch_optional(&self.reader).await?)
    }
}

pub(crate) async fn has(db: &mut Connection, pin: &str) -> Result<bool, StoreError> {
    let query = "select exists (select 1 from pin_keys where pin_id = $1)";
    Ok(sql::query_scalar(query).bind(pin).fetch_one(db).await?)
}

pub(crate) async fn insert(db: &mut Connection, pin: &str, sealed: &[u8]) -> Result<(), StoreError> {
    let query = "insert into pin_keys (pin_id, sealed) values ($1, $2)";
    sql::query(query).bind(pin).bind(sealed).execute(db).await?;
    Ok(())
}

/// The same keys, sealed otherwise: pins, and what is sealed now.
pub(crate) async fn replace(db: &mut Connection, keys: &[(String, Vec<u8>)]) -> Result<(), StoreError> {
    super::replace_sealed(db, "pin_keys", ["pin_id"], keys.iter().map(|(id, key)| ([id], key))).await
}

/// Data keys of a project's pins, sealed, in the order of the pins' ids.
pub(crate) async fn of_project(
    db: &mut Connection,
    project: &str,
    after: &str,
    limit: i64,
) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
    let query = "select k.pin_id, k.sealed from pin_keys k join pins p on p.id = k.pin_id
        where p.project_id = $1 and k.pin_id > $2 order by k.pin_id limit $3";
    Ok(sql::query_as(query).bind(project).bind(after).bind(limit).fetch_all(db).await?)
}
