//! Builds: source code that is to become a deployment. And deployments with them, as clients see both: one list.

use sqlx::AssertSqlSafe;

use super::reports::{reason, rollout, status};
use super::sql::{self, Connection};
use super::{Store, StoreError};

/// Ids in one statement.
const IDS: usize = 500;

/// A deployment, or source code on its way to be one.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct DeployedRow {
    /// `dep_…`
    pub id: String,
    /// `fn_…`
    pub function_id: String,
    /// What was sent: source code, or the component.
    pub cid: String,
    /// Of the component.
    pub blake3: Option<String>,
    /// The directory of files that it may read.
    pub assets_cid: Option<String>,
    /// `DEPLOYING` or `FAILED`, by its build or by what the edges report; `ACTIVE` where one answers by it; else `INACTIVE`.
    pub status: String,
    /// Why it failed, or what it waits for.
    pub reason: Option<String>,
    /// Milliseconds.
    pub created_at: i64,
    /// Milliseconds.
    pub updated_at: i64,
}

/// Source code on its way to be a deployment.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct BuildRow {
    /// `dep_…`: of the deployment that it is to be.
    pub id: String,
    /// `fn_…`
    pub function_id: String,
    /// The source code.
    pub source_cid: String,
    /// The directory of files that it may read.
    pub assets_cid: Option<String>,
    /// `DEPLOYING`, `BUILT` or `FAILED`.
    pub status: String,
    /// Why it failed.
    pub reason: Option<String>,
    /// `usr_…`
    pub author_id: String,
    /// Milliseconds.
    pub created_at: i64,
    /// Milliseconds.
    pub updated_at: i64,
}

const DEPLOYMENTS: &str = concat!(
    "select d.id, d.function_id, coalesce(b.source_cid, d.code_cid) as cid, d.blake3, d.assets_cid, ",
    status!(),
    " as status, case when d.widens is not null and d.approver_id is null then
        'it is stored, but may do more than the active deployment, so it waits until an admin or owner allows it (af functions approve): '
        || replace(replace(replace(d.widens, '\",\"', ', '), '[\"', ''), '\"]', '')
    else coalesce(",
    reason!(),
    ", b.reason) end as reason,
    d.created_at, coalesce(b.updated_at, d.created_at) as updated_at
    from deployments d join functions f on f.id = d.function_id left join builds b on b.id = d.id ",
    rollout!()
);

const BUILDS: &str =
    "select b.id, b.function_id, b.source_cid as cid, cast(null as text) as blake3, b.assets_cid,
    b.status, b.reason, b.created_at, b.updated_at
    from builds b join functions f on f.id = b.function_id where b.status <> 'BUILT'";

impl Store {
    pub(crate) async fn deployed(&self, id: &str) -> Result<Option<DeployedRow>, StoreError> {
        let query = format!("{DEPLOYMENTS} where d.id = $1 union all {BUILDS} and b.id = $1");
        Ok(sql::query_as(AssertSqlSafe(query)).bind(id).fetch_optional(&self.reader).await?)
    }

    pub(crate) async fn build(&self, id: &str) -> Result<Option<BuildRow>, StoreError> {
        let query = "select id, function_id, source_cid, assets_cid, status, reason, author_id, created_at, updated_at
            from builds where id = $1";
        Ok(sql::query_as(query).bind(id).fetch_optional(&self.reader).await?)
    }

    /// Those of a function, newest first; `before` is an id, exclusive; with `cid`, those of that content.
    pub(crate) async fn deployed_of(
        &self,
        function: &str,
        cid: Option<&str>,
        before: &str,
        limit: i64,
    ) -> Result<Vec<DeployedRow>, StoreError> {
        let query = format!(
            "select * from (select * from ({DEPLOYMENTS} where d.function_id = $1 and d.id < $2
                and ($3 is null or coalesce(b.source_cid, d.code_cid) = $3) order by d.id desc limit $4) built
             union all select * from ({BUILDS} and b.function_id = $1 and b.id < $2
                and ($3 is null or b.source_cid = $3) order by b.id desc limit $4) unbuilt) deployed
             order by id desc limit $4"
        );
        let query = sql::query_as(AssertSqlSafe(query)).bind(function).bind(before).bind(cid).bind(limit);
        Ok(query.fetch_all(&self.reader).await?)
    }

    /// Those with these ids that are of a project's functions.
    pub(crate) async fn deployed_in(
        &self,
        project: &str,
        ids: &[String],
    ) -> Result<Vec<DeployedRow>, StoreError> {
        let mut found = Vec::new();
        for ids in ids.chunks(IDS) {
            let places = sql::places(2, ids.len());
            let query = format!("{DEPLOYMENTS} where f.project_id = $1 and d.id in ({places})");
            let query = sql::query_as(AssertSqlSafe(query)).bind(project);
            found.extend(query.bind_each(ids).fetch_all(&self.reader).await?);
        }
        Ok(found)
    }

    /// The newest of each of these functions of a project, newest first.
    pub(crate) async fn newest_deployed(
        &self,
        project: &str,
        functions: &[String],
        each: i64,
    ) -> Result<Vec<DeployedRow>, StoreError> {
        let mut found = Vec::new();
        for functions in functions.chunks(IDS) {
            let places = sql::places(3, functions.len());
            let query = format!(
                "select id, function_id, cid, blake3, assets_cid, status, reason, created_at, updated_at from
                 (select u.*, row_number() over (partition by u.function_id order by u.id desc) as place from
                   ({DEPLOYMENTS} where f.project_id = $1 and d.function_id in ({places})
                    union all {BUILDS} and f.project_id = $1 and b.function_id in ({places})) u) numbered
                 where place <= $2 order by function_id, id desc"
            );
            let query = sql::query_as(AssertSqlSafe(query)).bind(project).bind(each);
            found.extend(query.bind_each(functions).fetch_all(&self.reader).await?);
        }
        Ok(found)
    }
}

/// `server` builds it, and is believed to until `until`.
pub(crate) async fn insert(
    db: &mut Connection,
    row: &BuildRow,
    server: &str,
    until: i64,
) -> Result<(), StoreError> {
    let query = "insert into builds
        (id, function_id, source_cid, assets_cid, status, reason, author_id, created_at, updated_at, server_id,
            leased_until)
        values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)";
    let insert = sql::query(query).bind(&row.id).bind(&row.function_id).bind(&row.source_cid);
    let insert = insert.bind(&row.assets_cid).bind(&row.status).bind(&row.reason).bind(&row.author_id);
    let insert = insert.bind(row.created_at).bind(row.updated_at).bind(server).bind(until);
    insert.execute(db).await?;
    Ok(())
}

/// Whether a function has a build that has not ended.
pub(crate) async fn is_deploying(db: &mut Connection, function: &str) -> Result<bool, StoreError> {
    let query = "select id from builds where function_id = $1 and status = 'DEPLOYING' limit 1";
    let found: Option<String> = sql::query_scalar(query).bind(function).fetch_optional(db).await?;
    Ok(found.is_some())
}

/// How many builds of a project have not ended.
pub(crate) async fn unfinished(db: &mut Connection, project: &str) -> Result<i64, StoreError> {
    let query = "select count(*) from builds b join functions f on f.id = b.function_id
        where b.status = 'DEPLOYING' and f.project_id = $1";
    Ok(sql::query_scalar(query).bind(project).fetch_one(db).await?)
}

/// How many builds of a user have not ended.
pub(crate) async fn unfinished_of(db: &mut Connection, user: &str) -> Result<i64, StoreError> {
    let query = "select count(*) from builds where status = 'DEPLOYING' and author_id = $1";
    Ok(sql::query_scalar(query).bind(user).fetch_one(db).await?)
}

/// Removes the builds of a function that failed, but the newest `keep`.
pub(crate) async fn forget_failed(db: &mut Connection, function: &str, keep: i64) -> Result<(), StoreError> {
    let query =
        "delete from builds where function_id = $1 and status = 'FAILED' and id <= (select id from builds
        where function_id = $1 and status = 'FAILED' order by id desc limit 1 offset $2)";
    sql::query(query).bind(function).bind(keep).execute(db).await?;
    Ok(())
}

/// Ends a build of a server. Returns whether it was not ended before, and is still there.
pub(crate) async fn finish(
    db: &mut Connection,
    (id, server): (&str, &str),
    status: &str,
    reason: Option<&str>,
    now: i64,
) -> Result<bool, StoreError> {
    let query = "update builds set status = $3, reason = $4, updated_at = $5
        where id = $1 and server_id = $2 and status = 'DEPLOYING'";
    let query = sql::query(query).bind(id).bind(server).bind(status).bind(reason).bind(now);
    Ok(query.execute(db).await? == 1)
}

/// A server is still at work at these.
pub(crate) async fn lease(
    db: &mut Connection,
    server: &str,
    ids: &[String],
    until: i64,
) -> Result<(), StoreError> {
    for ids in ids.chunks(IDS) {
        let places = sql::places(3, ids.len());
        let query = format!(
            "update builds set leased_until = $2 where status = 'DEPLOYING' and server_id = $1 and id in ({places})"
        );
        let query = sql::query(AssertSqlSafe(query)).bind(server).bind(until);
        query.bind_each(ids).execute(&mut *db).await?;
    }
    Ok(())
}

/// Ends what is built by servers that have not said for too long that they do. Returns how many builds those are.
pub(crate) async fn interrupt(db: &mut Connection, reason: &str, now: i64) -> Result<u64, StoreError> {
    let query = "update builds set status = 'FAILED', reason = $1, updated_at = $2
        where status = 'DEPLOYING' and (leased_until is null or leased_until < $2)";
    Ok(sql::query(query).bind(reason).bind(now).execute(db).await?)
}
