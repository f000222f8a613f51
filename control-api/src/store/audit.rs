//! Entries of the audit log. They are added and read, and never changed.

use sqlx::AssertSqlSafe;

use super::sql::{self, Connection};
use super::{Store, StoreError};

/// Who did what.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct AuditRow {
    /// `aud_…`
    pub id: String,
    /// Milliseconds.
    pub at: i64,
    /// `usr_…`
    pub user_id: String,
    /// `tok_…`
    pub token_id: String,
    /// `function.create`; of what was refused, what it needed: `functions:write`.
    pub action: String,
    /// `done` or `refused`.
    pub outcome: String,
    /// An id or a name.
    pub target: String,
    /// `prj_…`
    pub project_id: Option<String>,
    /// `org_…`
    pub organization_id: Option<String>,
    /// Where the request came from.
    pub address: Option<String>,
    /// The request's id in logs.
    pub request_id: Option<String>,
}

/// What entries are looked up by.
#[derive(Clone, Copy)]
pub(crate) enum By {
    Project,
    Organization,
    User,
}

impl Store {
    /// Entries before the one with the id `before`, newest first.
    pub(crate) async fn audit(
        &self,
        by: By,
        value: &str,
        before: Option<&str>,
        limit: i64,
    ) -> Result<Vec<AuditRow>, StoreError> {
        let column = match by {
            By::Project => "project_id",
            By::Organization => "organization_id",
            By::User => "user_id",
        };
        let query = format!(
            "select id, at, user_id, token_id, action, outcome, target, project_id, organization_id, address, request_id
            from audit where {column} = $1 and id < $2 order by id desc limit $3"
        );
        // After all ids.
        let before = before.unwrap_or("aud_~");
        let query = sql::query_as(AssertSqlSafe(query)).bind(value).bind(before).bind(limit);
        Ok(query.fetch_all(&self.reader).await?)
    }
}

/// When the newest entry was made. Cannot change before the transaction ends.
pub(crate) async fn latest(db: &mut Connection) -> Result<Option<i64>, StoreError> {
    let query = "select at from audit order by id desc limit 1";
    Ok(sql::query_scalar(query).fetch_optional(db).await?)
}

/// Adds an entry. Those of a project are its organization's, too.
pub(crate) async fn insert(db: &mut Connection, row: &AuditRow) -> Result<(), StoreError> {
    let query =
        "insert into audit (id, at, user_id, token_id, action, outcome, target, project_id, organization_id,
            address, request_id)
        values ($1, $2, $3, $4, $5, $6, $7, $8,
            coalesce($9, (select organization_id from projects where id = $8)), $10, $11)";
    let insert = sql::query(query).bind(&row.id).bind(row.at).bind(&row.user_id).bind(&row.token_id);
    let insert = insert.bind(&row.action).bind(&row.outcome).bind(&row.target).bind(&row.project_id);
    let insert = insert.bind(&row.organization_id).bind(&row.address).bind(&row.request_id);
    insert.execute(db).await?;
    Ok(())
}
