//! Functions.

use super::sql::{self, Connection};
use super::{Store, StoreError, taken};

/// A function.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct FunctionRow {
    /// `fn_…`
    pub id: String,
    /// `prj_…`
    pub project_id: String,
    /// Unique in the project.
    pub name: String,
    /// Unique on the platform.
    pub slug: String,
    /// `ACTIVE` or `INACTIVE`, as its owner wants it.
    pub status: String,
    /// What answers.
    pub current_deployment_id: Option<String>,
    /// What edges say of that: `DEPLOYING`, `READY` or `FAILED`; none: nobody asked them.
    pub reported: Option<String>,
    /// The status of its newest build: `DEPLOYING`, `BUILT` or `FAILED`; none: nothing was ever built for it.
    pub build: Option<String>,
    /// Its route table, as JSON.
    pub routes: Option<String>,
    /// Deployments that stay, of the newest; none: as its project says.
    pub keep_newest: Option<i64>,
    /// How old deployments stay in any case; none: as its project says.
    pub keep_for_seconds: Option<i64>,
    /// Milliseconds.
    pub created_at: i64,
    /// Milliseconds.
    pub updated_at: i64,
}

const SELECT: &str = "select f.id, f.project_id, f.name, f.slug, f.status, f.current_deployment_id,
    c.reported, (select b.status from builds b where b.function_id = f.id order by b.id desc limit 1) as build, f.routes, f.keep_newest,
    f.keep_for_seconds, f.created_at, f.updated_at
    from functions f left join deployments c on c.id = f.current_deployment_id";

impl Store {
    pub(crate) async fn function(&self, id: &str) -> Result<Option<FunctionRow>, StoreError> {
        let query = format!("{SELECT} where f.id = $1");
        Ok(sql::query_as(sqlx::AssertSqlSafe(query)).bind(id).fetch_optional(&self.reader).await?)
    }

    /// A project's functions, all or the one with a name.
    pub(crate) async fn functions_of(
        &self,
        project: &str,
        name: Option<&str>,
        after: &str,
        limit: i64,
    ) -> Result<Vec<FunctionRow>, StoreError> {
        let query = format!(
            "{SELECT} where f.project_id = $1 and ($2 is null or f.name = $2) and f.id > $3
             order by f.id limit $4"
        );
        let query = sql::query_as(sqlx::AssertSqlSafe(query));
        Ok(query.bind(project).bind(name).bind(after).bind(limit).fetch_all(&self.reader).await?)
    }
}

/// The function as the transaction sees it.
pub(crate) async fn read(db: &mut Connection, id: &str) -> Result<Option<FunctionRow>, StoreError> {
    let query = format!("{SELECT} where f.id = $1");
    Ok(sql::query_as(sqlx::AssertSqlSafe(query)).bind(id).fetch_optional(db).await?)
}

/// A project's functions that run something, in the order of ids.
pub(crate) async fn deployed(
    db: &mut Connection,
    project: &str,
    limit: i64,
) -> Result<Vec<FunctionRow>, StoreError> {
    let query = format!(
        "{SELECT} where f.project_id = $1 and f.current_deployment_id is not null order by f.id limit $2"
    );
    Ok(sql::query_as(sqlx::AssertSqlSafe(query)).bind(project).bind(limit).fetch_all(db).await?)
}

/// As the transaction sees it.
pub(crate) async fn count(db: &mut Connection, project: &str) -> Result<i64, StoreError> {
    let query = "select count(*) from functions where project_id = $1";
    Ok(sql::query_scalar(query).bind(project).fetch_one(db).await?)
}

pub(crate) async fn insert(db: &mut Connection, function: &FunctionRow) -> Result<(), StoreError> {
    let query = "insert into functions (id, project_id, name, slug, status, routes, created_at, updated_at)
        values ($1, $2, $3, $4, $5, $6, $7, $8)";
    let insert = sql::query(query).bind(&function.id).bind(&function.project_id).bind(&function.name);
    let insert = insert.bind(&function.slug).bind(&function.status).bind(&function.routes);
    insert.bind(function.created_at).bind(function.updated_at).execute(db).await.map_err(taken)?;
    Ok(())
}

/// Writes everything that can change.
pub(crate) async fn update(db: &mut Connection, function: &FunctionRow) -> Result<(), StoreError> {
    let query = "update functions
        set name = $2, slug = $3, status = $4, current_deployment_id = $5, routes = $6, updated_at = $7,
        keep_newest = $8, keep_for_seconds = $9 where id = $1";
    let update = sql::query(query).bind(&function.id).bind(&function.name).bind(&function.slug);
    let update = update.bind(&function.status).bind(&function.current_deployment_id).bind(&function.routes);
    let update = update.bind(function.updated_at).bind(function.keep_newest).bind(function.keep_for_seconds);
    update.execute(db).await.map_err(taken)?;
    Ok(())
}

pub(crate) async fn delete(db: &mut Connection, id: &str) -> Result<(), StoreError> {
    let query = "update functions set current_deployment_id = null where id = $1";
    sql::query(query).bind(id).execute(&mut *db).await?;
    sql::query("delete from functions where id = $1").bind(id).execute(db).await?;
    Ok(())
}

impl FunctionRow {
    /// What it is doing: `ACTIVE`, `INACTIVE`, `DEPLOYING` or `FAILED`. One that has neither code nor routes answers nobody, and so is
    /// `INACTIVE` as one that is switched off.
    #[must_use]
    pub fn status(&self) -> &'static str {
        match (self.build.as_deref(), self.reported.as_deref()) {
            _ if self.status == "INACTIVE" => "INACTIVE",
            (Some("DEPLOYING"), _) | (_, Some("DEPLOYING")) => "DEPLOYING",
            (_, Some("FAILED")) => "FAILED",
            // One that runs something goes on with that.
            (Some("FAILED"), _) if self.current_deployment_id.is_none() => "FAILED",
            _ if self.current_deployment_id.is_none() && self.routes.is_none() => "INACTIVE",
            _ => "ACTIVE",
        }
    }
}
