//! Deployments: an index of manifests.

use super::reports::{reason, rollout, status};
use super::sql::{self, Connection};
use super::{Store, StoreError, parse};
use af_contract::ContentId;

/// A deployment.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct DeploymentRow {
    /// `dep_…`
    pub id: String,
    /// `fn_…`
    pub function_id: String,
    /// Of the function, now.
    pub slug: String,
    /// Counts up from 1 within the function.
    pub number: i64,
    /// The deployment's identity.
    pub manifest_cid: String,
    /// The component.
    pub code_cid: String,
    /// Of the component.
    pub blake3: String,
    /// Of the component, bytes.
    pub size: i64,
    /// What the component exports.
    pub world: String,
    /// The directory of files that it may read.
    pub assets_cid: Option<String>,
    /// Whether its code and files are encrypted.
    pub private: bool,
    /// When its function is called without a request, as JSON.
    pub triggers: Option<String>,
    /// Why it was made.
    pub message: Option<String>,
    /// What its component was built from, as whoever deployed it says.
    pub source_hash: Option<String>,
    /// The interfaces that the component needs, as JSON; none: from before this was written down.
    pub imports: Option<String>,
    /// What it may reach, as JSON; none: from before this was written down.
    pub capabilities: Option<String>,
    /// `usr_…`
    pub author_id: String,
    /// Who that is.
    pub author: String,
    /// Milliseconds.
    pub created_at: i64,
    /// What it may do that the active one could not when it was made, as JSON.
    pub widens: Option<String>,
    /// Who allowed that (`usr_…`).
    pub approver_id: Option<String>,
    /// Not 0: it becomes active when it is allowed.
    pub activates: i64,
    /// `DEPLOYING`, `ACTIVE` or `FAILED`, as the edges report, of what is to answer; else `INACTIVE`.
    pub status: String,
    /// Why an edge cannot use it.
    pub status_reason: Option<String>,
}

/// What a deployment is made of.
pub(crate) struct Contents {
    pub deployment: String,
    pub manifest: ContentId,
    pub code: ContentId,
    pub assets: Option<ContentId>,
}

const SELECT: &str = concat!(
    "select d.id, d.function_id, f.slug, d.number, d.manifest_cid, d.code_cid, d.blake3, d.size,
    d.world, d.assets_cid, exists (select 1 from content_keys k where k.deployment_id = d.id) as private, d.triggers, d.message, d.source_hash, d.imports,
    d.capabilities, d.author_id, u.name as author, d.created_at,
    d.widens, d.approver_id, d.activates, ",
    reason!(),
    " as status_reason, ",
    status!(),
    " as status from deployments d join functions f on f.id = d.function_id join users u on u.id = d.author_id ",
    rollout!()
);

impl Store {
    pub(crate) async fn deployment(&self, id: &str) -> Result<Option<DeploymentRow>, StoreError> {
        let query = format!("{SELECT} where d.id = $1");
        Ok(sql::query_as(sqlx::AssertSqlSafe(query)).bind(id).fetch_optional(&self.reader).await?)
    }

    /// Content of every deployment, `limit` at a time, in the order of ids.
    pub(crate) async fn contents(&self, after: &str, limit: i64) -> Result<Vec<Contents>, StoreError> {
        let query = "select id, manifest_cid, code_cid, assets_cid from deployments where id > $1 order by id limit $2";
        let rows: Vec<(String, String, String, Option<String>)> =
            sql::query_as(query).bind(after).bind(limit).fetch_all(&self.reader).await?;
        let parsed = rows.into_iter().map(|(deployment, manifest, code, assets)| {
            Ok(Contents {
                deployment,
                manifest: parse("content id", &manifest)?,
                code: parse("content id", &code)?,
                assets: assets.map(|assets| parse("content id", &assets)).transpose()?,
            })
        });
        parsed.collect()
    }
}

/// The deployment as the transaction sees it.
pub(crate) async fn read(db: &mut Connection, id: &str) -> Result<Option<DeploymentRow>, StoreError> {
    let query = format!("{SELECT} where d.id = $1");
    Ok(sql::query_as(sqlx::AssertSqlSafe(query)).bind(id).fetch_optional(db).await?)
}

/// The id of what function `f` ran before what it runs: by when each was made active last.
pub(super) const PREVIOUS: &str =
    "(select p.id from deployments p where p.function_id = f.id and p.activated_at is not null
    and p.id <> f.current_deployment_id and (p.widens is null or p.approver_id is not null)
    order by p.activated_at desc limit 1)";

/// What a function ran before what it runs.
pub(crate) async fn previous(
    db: &mut Connection,
    function: &str,
) -> Result<Option<DeploymentRow>, StoreError> {
    let query = format!("{SELECT} where d.id = (select {PREVIOUS} from functions f where f.id = $1)");
    Ok(sql::query_as(sqlx::AssertSqlSafe(query)).bind(function).fetch_optional(db).await?)
}

/// A function is about to run a deployment.
pub(crate) async fn activated(
    db: &mut Connection,
    function: &str,
    id: &str,
    now: i64,
) -> Result<(), StoreError> {
    // In the order of what happened, whatever the clock says.
    let query = "update deployments set activated_at = coalesce(
            (select max(activated_at) + 1 from deployments where function_id = $1 and activated_at >= $3), $3)
        where id = $2";
    sql::query(query).bind(function).bind(id).bind(now).execute(db).await?;
    Ok(())
}

/// Somebody has allowed a deployment what it wants.
pub(crate) async fn approve(db: &mut Connection, row: &DeploymentRow, now: i64) -> Result<(), StoreError> {
    let query = "update deployments set approver_id = $2, approved_at = $3, widens = $4 where id = $1";
    let update = sql::query(query).bind(&row.id).bind(&row.approver_id).bind(now).bind(&row.widens);
    update.execute(db).await?;
    Ok(())
}

/// Whether it is or was what its function runs. Migration 0021, which did not know it, took previews and candidates to have been so when they
/// were made; those are not trusted, nor is what is older than what it was made for.
pub(crate) async fn was_active(db: &mut Connection, id: &str) -> Result<bool, StoreError> {
    let query = "select count(*) from deployments where id = $1 and activated_at is not null
        and (activates <> 0 or activated_at <> created_at)";
    let count: i64 = sql::query_scalar(query).bind(id).fetch_one(db).await?;
    Ok(count > 0)
}

/// The highest number of a function's deployments, 0 when there is none.
pub(crate) async fn last_number(db: &mut Connection, function: &str) -> Result<i64, StoreError> {
    let query = "select coalesce(max(number), 0) from deployments where function_id = $1";
    Ok(sql::query_scalar(query).bind(function).fetch_one(db).await?)
}

/// Of a function, as the transaction sees it, without those that wait for an approval.
pub(crate) async fn count(db: &mut Connection, function: &str) -> Result<i64, StoreError> {
    // Taken off: both are counted in an index then.
    let query = "select (select count(*) from deployments where function_id = $1)
        - (select count(*) from deployments where function_id = $1 and widens is not null and approver_id is null)";
    Ok(sql::query_scalar(query).bind(function).fetch_one(db).await?)
}

/// Of all functions of a project, as the transaction sees it, without those that wait for an approval.
pub(crate) async fn count_of_project(db: &mut Connection, project: &str) -> Result<i64, StoreError> {
    let query =
        "select (select count(*) from functions f join deployments d on d.function_id = f.id where f.project_id = $1)
        - (select count(*) from functions f join deployments d on d.function_id = f.id
            where f.project_id = $1 and d.widens is not null and d.approver_id is null)";
    Ok(sql::query_scalar(query).bind(project).fetch_one(db).await?)
}

/// Enters a deployment, whose blocks have so many bytes. What the function has deployed before counts once.
pub(crate) async fn insert(db: &mut Connection, row: &DeploymentRow, bytes: i64) -> Result<(), StoreError> {
    let assets = row.assets_cid.as_deref().unwrap_or_default();
    let query = "select coalesce(stored_bytes, size) from deployments
        where function_id = $1 and code_cid = $2 and coalesce(assets_cid, '') = $3 limit 1";
    let known = sql::query_scalar(query).bind(&row.function_id).bind(&row.code_cid).bind(assets);
    let known: Option<i64> = known.fetch_optional(&mut *db).await?;
    if known.is_none() {
        let query = "update functions set stored_bytes = stored_bytes + $2 where id = $1";
        sql::query(query).bind(&row.function_id).bind(bytes).execute(&mut *db).await?;
    }
    let query = "insert into deployments
        (id, function_id, number, manifest_cid, code_cid, blake3, size, world, assets_cid, triggers,
         author_id, created_at, message, source_hash, imports, capabilities,
         widens, approver_id, activates, stored_bytes)
        values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20)";
    let insert = sql::query(query).bind(&row.id).bind(&row.function_id);
    let insert = insert.bind(row.number).bind(&row.manifest_cid).bind(&row.code_cid).bind(&row.blake3);
    let insert = insert.bind(row.size).bind(&row.world).bind(&row.assets_cid).bind(&row.triggers);
    let insert = insert.bind(&row.author_id).bind(row.created_at).bind(&row.message);
    let insert = insert.bind(&row.source_hash).bind(&row.imports).bind(&row.capabilities);
    let insert = insert.bind(&row.widens).bind(&row.approver_id).bind(row.activates);
    let insert = insert.bind(known.unwrap_or(bytes));
    insert.execute(db).await?;
    Ok(())
}

impl DeploymentRow {
    /// Whether it may not run yet.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        self.widens.is_some() && self.approver_id.is_none()
    }

    pub(crate) fn manifest(&self) -> Result<ContentId, StoreError> {
        parse("content id", &self.manifest_cid)
    }
}
