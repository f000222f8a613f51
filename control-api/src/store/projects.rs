//! Projects.

use sqlx::AssertSqlSafe;

use super::sql::{self, Connection};
use super::{Store, StoreError};

/// A project.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct ProjectRow {
    /// `prj_…`
    pub id: String,
    /// `org_…`
    pub organization_id: Option<String>,
    /// Free text.
    pub name: String,
    /// Deployments that stay, of the newest; none: the platform's default.
    pub keep_newest: Option<i64>,
    /// How old deployments stay in any case; none: the platform's default.
    pub keep_for_seconds: Option<i64>,
    /// Milliseconds.
    pub created_at: i64,
    /// Milliseconds.
    pub updated_at: i64,
}

const COLUMNS: &str =
    "p.id, p.organization_id, p.name, p.keep_newest, p.keep_for_seconds, p.created_at, p.updated_at";

impl Store {
    pub(crate) async fn project(&self, id: &str) -> Result<Option<ProjectRow>, StoreError> {
        let query = format!("select {COLUMNS} from projects p where p.id = $1");
        Ok(sql::query_as(AssertSqlSafe(query)).bind(id).fetch_optional(&self.reader).await?)
    }

    /// Projects that the user is a member of, by themselves or by an organization.
    pub(crate) async fn projects_of(
        &self,
        user: &str,
        after: &str,
        limit: i64,
    ) -> Result<Vec<ProjectRow>, StoreError> {
        let query = format!(
            "select {COLUMNS} from project_members m join projects p on p.id = m.project_id
             where m.user_id = $1 and p.id > $2
             union select {COLUMNS} from organization_members m
             join projects p on p.organization_id = m.organization_id
             where m.user_id = $1 and p.id > $2 order by 1 limit $3"
        );
        let query = sql::query_as(AssertSqlSafe(query));
        Ok(query.bind(user).bind(after).bind(limit).fetch_all(&self.reader).await?)
    }
}

/// The project as the transaction sees it.
pub(crate) async fn read(db: &mut Connection, id: &str) -> Result<Option<ProjectRow>, StoreError> {
    let query = format!("select {COLUMNS} from projects p where p.id = $1");
    Ok(sql::query_as(AssertSqlSafe(query)).bind(id).fetch_optional(db).await?)
}

/// As the transaction sees it.
pub(crate) async fn count(db: &mut Connection, organization: &str) -> Result<i64, StoreError> {
    let query = "select count(*) from projects where organization_id = $1";
    Ok(sql::query_scalar(query).bind(organization).fetch_one(db).await?)
}

pub(crate) async fn insert(db: &mut Connection, project: &ProjectRow) -> Result<(), StoreError> {
    let query = "insert into projects (id, organization_id, name, created_at, updated_at)
        values ($1, $2, $3, $4, $5)";
    let insert = sql::query(query).bind(&project.id).bind(&project.organization_id).bind(&project.name);
    insert.bind(project.created_at).bind(project.updated_at).execute(db).await?;
    Ok(())
}

/// Writes everything that can change.
pub(crate) async fn update(db: &mut Connection, project: &ProjectRow) -> Result<(), StoreError> {
    let query = "update projects set name = $2, updated_at = $3, keep_newest = $4, keep_for_seconds = $5 where id = $1";
    let update = sql::query(query).bind(&project.id).bind(&project.name).bind(project.updated_at);
    update.bind(project.keep_newest).bind(project.keep_for_seconds).execute(db).await?;
    Ok(())
}

/// Removes a project that has no functions, no sites and no pins. Returns whether it was removed.
pub(crate) async fn delete_empty(db: &mut Connection, id: &str) -> Result<bool, StoreError> {
    let query = "delete from projects
        where id = $1 and not exists (select 1 from functions where project_id = $1)
        and not exists (select 1 from sites where project_id = $1)
        and not exists (select 1 from pins where project_id = $1)";
    Ok(sql::query(query).bind(id).execute(db).await? == 1)
}
