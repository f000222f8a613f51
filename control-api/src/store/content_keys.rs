//! Sealed keys: one of each project, and one of each private deployment.

use std::collections::HashMap;

use sqlx::AssertSqlSafe;

use super::StoreError;
use super::sql::{self, Connection};

/// Ids that a statement asks for.
const IDS: usize = 1000;

/// A data key, and the key of its project that it is sealed with, sealed itself.
#[derive(Debug, sqlx::FromRow)]
pub(crate) struct ContentKeyRow {
    pub deployment_id: String,
    pub sealed: Vec<u8>,
    pub project_id: String,
    pub project_key: Vec<u8>,
}

/// Of deployments, by deployment.
pub(crate) async fn of_deployments(
    db: &mut Connection,
    deployments: &[&str],
) -> Result<HashMap<String, ContentKeyRow>, StoreError> {
    let mut keys = HashMap::new();
    for ids in deployments.chunks(IDS) {
        let places = sql::places(1, ids.len());
        let query = format!(
            "select k.deployment_id, k.sealed, f.project_id, p.sealed as project_key
            from content_keys k
            join deployments d on d.id = k.deployment_id
            join functions f on f.id = d.function_id
            join project_keys p on p.project_id = f.project_id
            where k.deployment_id in ({places})"
        );
        let query = sql::query_as(AssertSqlSafe(query)).bind_each(ids);
        let rows: Vec<ContentKeyRow> = query.fetch_all(&mut *db).await?;
        keys.extend(rows.into_iter().map(|row| (row.deployment_id.clone(), row)));
    }
    Ok(keys)
}

pub(crate) async fn insert(db: &mut Connection, deployment: &str, sealed: &[u8]) -> Result<(), StoreError> {
    let query = "insert into content_keys (deployment_id, sealed) values ($1, $2)";
    sql::query(query).bind(deployment).bind(sealed).execute(db).await?;
    Ok(())
}

pub(crate) async fn of_deployment(
    db: &mut Connection,
    deployment: &str,
) -> Result<Option<Vec<u8>>, StoreError> {
    let query = "select sealed from content_keys where deployment_id = $1";
    Ok(sql::query_scalar(query).bind(deployment).fetch_optional(db).await?)
}

/// The same keys, sealed otherwise: deployments, and what is sealed now.
pub(crate) async fn replace(db: &mut Connection, keys: &[(String, Vec<u8>)]) -> Result<(), StoreError> {
    super::replace_sealed(db, "content_keys", ["deployment_id"], keys.iter().map(|(id, key)| ([id], key)))
        .await
}

/// Data keys of a project's deployments, sealed, in the order of the deployments' ids.
pub(crate) async fn of_project(
    db: &mut Connection,
    project: &str,
    after: &str,
    limit: i64,
) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
    let query = "select k.deployment_id, k.sealed from content_keys k
        join deployments d on d.id = k.deployment_id
        join functions f on f.id = d.function_id
        where f.project_id = $1 and k.deployment_id > $2 order by k.deployment_id limit $3";
    Ok(sql::query_as(query).bind(project).bind(after).bind(limit).fetch_all(db).await?)
}

/// A project's key, sealed; none before its first setting or private deployment.
pub(crate) async fn project_key(db: &mut Connection, project: &str) -> Result<Option<Vec<u8>>, StoreError> {
    let query = "select sealed from project_keys where project_id = $1";
    Ok(sql::query_scalar(query).bind(project).fetch_optional(db).await?)
}

/// Sealed keys of projects, in the order of the projects' ids.
pub(crate) async fn project_keys(
    db: &mut Connection,
    after: &str,
    limit: i64,
) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
    let query =
        "select project_id, sealed from project_keys where project_id > $1 order by project_id limit $2";
    Ok(sql::query_as(query).bind(after).bind(limit).fetch_all(db).await?)
}

/// The same key, sealed otherwise.
pub(crate) async fn replace_project_key(
    db: &mut Connection,
    project: &str,
    sealed: &[u8],
) -> Result<(), StoreError> {
    let query = "update project_keys set sealed = $2 where project_id = $1";
    sql::query(query).bind(project).bind(sealed).execute(db).await?;
    Ok(())
}

/// How many values and keys are sealed with a project's key.
pub(crate) async fn sealed(db: &mut Connection, project: &str) -> Result<i64, StoreError> {
    let query = "select (select count(*) from settings where project_id = $1)
        + (select count(*) from pin_keys k join pins p on p.id = k.pin_id where p.project_id = $1)
        + (select count(*) from content_keys k join deployments d on d.id = k.deployment_id
            join functions f on f.id = d.function_id where f.project_id = $1)
        + (select count(*) from deployment_settings s join deployments d on d.id = s.deployment_id
            join functions f on f.id = d.function_id where f.project_id = $1)";
    Ok(sql::query_scalar(query).bind(project).fetch_one(db).await?)
}

/// A project's key was made for another one. Returns whether it was not, since `after`.
pub(crate) async fn rotated(
    db: &mut Connection,
    project: &str,
    after: i64,
    now: i64,
) -> Result<bool, StoreError> {
    let query = "update project_keys set rotated_at = $3
        where project_id = $1 and (rotated_at is null or rotated_at <= $2 or rotated_at > $3)";
    Ok(sql::query(query).bind(project).bind(after).bind(now).execute(db).await? == 1)
}

pub(crate) async fn put_project_key(
    db: &mut Connection,
    project: &str,
    sealed: &[u8],
    now: i64,
) -> Result<(), StoreError> {
    let query = "insert into project_keys (project_id, sealed, created_at) values ($1, $2, $3)
        on conflict (project_id) do update set sealed = excluded.sealed, created_at = excluded.created_at";
    sql::query(query).bind(project).bind(sealed).bind(now).execute(db).await?;
    Ok(())
}
