//! Sealed settings and secrets: of projects and functions, and copies of deployments.

use std::collections::HashMap;

use sqlx::AssertSqlSafe;

use super::sql::{self, Connection};
use super::{Store, StoreError, unsigned};

/// Ids that a statement asks for.
const IDS: usize = 1000;

/// A value of a project or a function, and who gave it.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct SettingRow {
    /// Whom it is sealed for: `prj_…` or `fn_…`.
    pub owner_id: String,
    /// Of the environment's variable.
    pub name: String,
    /// Whether the value is never shown.
    pub secret: bool,
    /// The value.
    pub sealed: Vec<u8>,
    /// What manifests say of it.
    pub digest: Vec<u8>,
    /// `usr_…`
    pub author_id: String,
    /// Milliseconds.
    pub updated_at: i64,
}

/// A deployment's value, with the key of its project.
#[derive(Debug, sqlx::FromRow)]
pub(crate) struct DeployedRow {
    pub deployment_id: String,
    pub name: String,
    /// None: from before, sealed with the master key for its function.
    pub owner_id: Option<String>,
    pub sealed: Vec<u8>,
    pub project_id: String,
    pub project_key: Option<Vec<u8>>,
}

/// A deployment's value from before, sealed with the master key.
#[derive(Debug, sqlx::FromRow)]
pub(crate) struct FormerRow {
    pub deployment_id: String,
    pub name: String,
    pub sealed: Vec<u8>,
    pub function_id: String,
    pub project_id: String,
    /// Whether it is what the function runs.
    pub current: bool,
    pub author_id: String,
    pub created_at: i64,
}

const COLUMNS: &str = "owner_id, name, secret <> 0 as secret, sealed, digest, author_id, updated_at";

impl Store {
    /// All of a project or a function.
    pub(crate) async fn settings_of(&self, owner: &str) -> Result<Vec<SettingRow>, StoreError> {
        let query = format!("select {COLUMNS} from settings where owner_id = $1 order by name limit 1000");
        Ok(sql::query_as(AssertSqlSafe(query)).bind(owner).fetch_all(&self.reader).await?)
    }

    /// A project's key, sealed, for what only reads.
    pub(crate) async fn project_key(&self, project: &str) -> Result<Option<Vec<u8>>, StoreError> {
        super::content_keys::project_key(&mut self.read().await?, project).await
    }
}

/// Bytes of what deployments have, by deployment; those that have nothing are left out.
pub(crate) async fn weights(
    db: &mut Connection,
    deployments: &[&str],
) -> Result<HashMap<String, u64>, StoreError> {
    let mut weights = HashMap::new();
    for ids in deployments.chunks(IDS) {
        let places = sql::places(1, ids.len());
        let query = format!(
            "select deployment_id, cast(sum(length(sealed)) as bigint) from deployment_settings
            where deployment_id in ({places}) group by deployment_id"
        );
        let query = sql::query_as(AssertSqlSafe(query)).bind_each(ids);
        let rows: Vec<(String, i64)> = query.fetch_all(&mut *db).await?;
        for (deployment, bytes) in rows {
            weights.insert(deployment, unsigned("size", bytes)?);
        }
    }
    Ok(weights)
}

/// What deployments have, by deployment.
pub(crate) async fn deployed(
    db: &mut Connection,
    deployments: &[&str],
) -> Result<HashMap<String, Vec<DeployedRow>>, StoreError> {
    let mut settings: HashMap<String, Vec<DeployedRow>> = HashMap::new();
    for ids in deployments.chunks(IDS) {
        let places = sql::places(1, ids.len());
        let query = format!(
            "select s.deployment_id, s.name, s.owner_id, s.sealed, f.project_id, p.sealed as project_key
            from deployment_settings s
            join deployments d on d.id = s.deployment_id
            join functions f on f.id = d.function_id
            left join project_keys p on p.project_id = f.project_id
            where s.deployment_id in ({places})"
        );
        let query = sql::query_as(AssertSqlSafe(query)).bind_each(ids);
        let rows: Vec<DeployedRow> = query.fetch_all(&mut *db).await?;
        for row in rows {
            settings.entry(row.deployment_id.clone()).or_default().push(row);
        }
    }
    Ok(settings)
}

/// All of a project or a function, as the transaction sees them.
pub(crate) async fn of_owner(db: &mut Connection, owner: &str) -> Result<Vec<SettingRow>, StoreError> {
    let query = format!("select {COLUMNS} from settings where owner_id = $1 order by name limit 1000");
    Ok(sql::query_as(AssertSqlSafe(query)).bind(owner).fetch_all(db).await?)
}

/// Adds a value, or takes the place of the one before.
pub(crate) async fn put(db: &mut Connection, project: &str, row: &SettingRow) -> Result<(), StoreError> {
    let query = "insert into settings
            (owner_id, name, project_id, function_id, secret, sealed, digest, author_id, updated_at)
        values ($1, $2, $3, $4, $5, $6, $7, $8, $9)
        on conflict (owner_id, name) do update set secret = excluded.secret, sealed = excluded.sealed,
            digest = excluded.digest, author_id = excluded.author_id, updated_at = excluded.updated_at";
    let function = (row.owner_id != project).then_some(&row.owner_id);
    let put = sql::query(query).bind(&row.owner_id).bind(&row.name).bind(project).bind(function);
    let put = put.bind(i64::from(row.secret)).bind(&row.sealed).bind(&row.digest).bind(&row.author_id);
    put.bind(row.updated_at).execute(db).await?;
    Ok(())
}

/// Returns whether it was a secret; none where there was nothing.
pub(crate) async fn remove(db: &mut Connection, owner: &str, name: &str) -> Result<Option<bool>, StoreError> {
    let query = "delete from settings where owner_id = $1 and name = $2 returning secret";
    let secret: Option<i64> = sql::query_scalar(query).bind(owner).bind(name).fetch_optional(db).await?;
    Ok(secret.map(|secret| secret != 0))
}

/// A function's own values as a deployment of it has them.
pub(crate) async fn copies(
    db: &mut Connection,
    deployment: &str,
    function: &str,
) -> Result<Vec<SettingRow>, StoreError> {
    let query = format!(
        "select {COLUMNS} from deployment_settings where deployment_id = $1 and owner_id = $2 order by name limit 1000"
    );
    let query = sql::query_as(sqlx::AssertSqlSafe(query)).bind(deployment).bind(function);
    Ok(query.fetch_all(db).await?)
}

/// A deployment's values.
pub(crate) async fn insert(
    db: &mut Connection,
    deployment: &str,
    settings: impl IntoIterator<Item = &SettingRow>,
) -> Result<(), StoreError> {
    for row in settings {
        let query = "insert into deployment_settings
                (deployment_id, name, owner_id, secret, sealed, digest, author_id, updated_at)
            values ($1, $2, $3, $4, $5, $6, $7, $8)";
        let insert = sql::query(query).bind(deployment).bind(&row.name).bind(&row.owner_id);
        let insert =
            insert.bind(i64::from(row.secret)).bind(&row.sealed).bind(&row.digest).bind(&row.author_id);
        insert.bind(row.updated_at).execute(&mut *db).await?;
    }
    Ok(())
}

/// Owner, name and sealed value of what a project and its functions have, in that order.
pub(crate) async fn of_project(
    db: &mut Connection,
    project: &str,
    after: (&str, &str),
    limit: i64,
) -> Result<Vec<(String, String, Vec<u8>)>, StoreError> {
    let query = "select owner_id, name, sealed from settings
        where project_id = $1 and (owner_id, name) > ($2, $3) order by owner_id, name limit $4";
    let query = sql::query_as(query).bind(project).bind(after.0).bind(after.1);
    Ok(query.bind(limit).fetch_all(db).await?)
}

/// Deployment, name, owner and sealed value of what a project's deployments have, but what is from before.
pub(crate) async fn of_deployments(
    db: &mut Connection,
    project: &str,
    after: (&str, &str),
    limit: i64,
) -> Result<Vec<(String, String, String, Vec<u8>)>, StoreError> {
    let query = "select s.deployment_id, s.name, s.owner_id, s.sealed from deployment_settings s
        join deployments d on d.id = s.deployment_id
        join functions f on f.id = d.function_id
        where f.project_id = $1 and s.owner_id is not null and (s.deployment_id, s.name) > ($2, $3)
        order by s.deployment_id, s.name limit $4";
    let query = sql::query_as(query).bind(project).bind(after.0).bind(after.1);
    Ok(query.bind(limit).fetch_all(db).await?)
}

/// The same values, sealed otherwise: owners, names, and what is sealed now.
pub(crate) async fn replace(db: &mut Connection, values: &[Named]) -> Result<(), StoreError> {
    super::replace_sealed(db, "settings", ["owner_id", "name"], values.iter().map(named)).await
}

/// The same values, sealed otherwise: deployments, names, and what is sealed now.
pub(crate) async fn replace_in_deployments(db: &mut Connection, values: &[Named]) -> Result<(), StoreError> {
    super::replace_sealed(db, "deployment_settings", ["deployment_id", "name"], values.iter().map(named))
        .await
}

/// Whose, which, and what is sealed.
type Named = (String, String, Vec<u8>);

fn named((whose, name, sealed): &Named) -> ([&String; 2], &Vec<u8>) {
    ([whose, name], sealed)
}

/// Values from before, in the order of deployments and names.
pub(crate) async fn former(
    db: &mut Connection,
    after: (&str, &str),
    limit: i64,
) -> Result<Vec<FormerRow>, StoreError> {
    let query = "select s.deployment_id, s.name, s.sealed, d.function_id, f.project_id,
            coalesce(f.current_deployment_id = d.id, false) as current, d.author_id, d.created_at
        from deployment_settings s
        join deployments d on d.id = s.deployment_id
        join functions f on f.id = d.function_id
        where s.digest is null and (s.deployment_id, s.name) > ($1, $2)
        order by s.deployment_id, s.name limit $3";
    Ok(sql::query_as(query).bind(after.0).bind(after.1).bind(limit).fetch_all(db).await?)
}

/// A value from before is one as all others.
pub(crate) async fn renew(db: &mut Connection, deployment: &str, row: &SettingRow) -> Result<(), StoreError> {
    let query = "update deployment_settings
        set owner_id = $3, secret = $4, sealed = $5, digest = $6, author_id = $7, updated_at = $8
        where deployment_id = $1 and name = $2";
    let update = sql::query(query).bind(deployment).bind(&row.name).bind(&row.owner_id);
    let update = update.bind(i64::from(row.secret));
    let update = update.bind(&row.sealed).bind(&row.digest).bind(&row.author_id);
    update.bind(row.updated_at).execute(db).await?;
    Ok(())
}
