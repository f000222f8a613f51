//! Sites.

use super::sql::{self, Connection};
use super::{Store, StoreError, taken};

/// A site.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct SiteRow {
    /// `site_…`
    pub id: String,
    /// `prj_…`
    pub project_id: String,
    /// Unique in the project.
    pub name: String,
    /// Unique on the platform, functions' included.
    pub slug: String,
    /// What is served.
    pub current_deployment_id: Option<String>,
    /// Its directory.
    pub root_cid: Option<String>,
    /// Milliseconds.
    pub created_at: i64,
    /// Milliseconds.
    pub updated_at: i64,
}

const SELECT: &str = "select s.id, s.project_id, s.name, s.slug, s.current_deployment_id, d.root_cid,
    s.created_at, s.updated_at from sites s left join site_deployments d on d.id = s.current_deployment_id";

impl Store {
    pub(crate) async fn site(&self, id: &str) -> Result<Option<SiteRow>, StoreError> {
        let query = format!("{SELECT} where s.id = $1");
        Ok(sql::query_as(sqlx::AssertSqlSafe(query)).bind(id).fetch_optional(&self.reader).await?)
    }

    pub(crate) async fn site_by_slug(
        &self,
        project: &str,
        slug: &str,
    ) -> Result<Option<SiteRow>, StoreError> {
        let query = format!("{SELECT} where s.slug = $1 and s.project_id = $2");
        let query = sql::query_as(sqlx::AssertSqlSafe(query)).bind(slug).bind(project);
        Ok(query.fetch_optional(&self.reader).await?)
    }

    /// A project's sites, all or the one with a name.
    pub(crate) async fn sites_of(
        &self,
        project: &str,
        name: Option<&str>,
        after: &str,
        limit: i64,
    ) -> Result<Vec<SiteRow>, StoreError> {
        let query = format!(
            "{SELECT} where s.project_id = $1 and ($2 is null or s.name = $2) and s.id > $3
             order by s.id limit $4"
        );
        let query = sql::query_as(sqlx::AssertSqlSafe(query));
        Ok(query.bind(project).bind(name).bind(after).bind(limit).fetch_all(&self.reader).await?)
    }
}

/// The site as the transaction sees it.
pub(crate) async fn read(db: &mut Connection, id: &str) -> Result<Option<SiteRow>, StoreError> {
    let query = format!("{SELECT} where s.id = $1");
    Ok(sql::query_as(sqlx::AssertSqlSafe(query)).bind(id).fetch_optional(db).await?)
}

/// As the transaction sees it.
pub(crate) async fn count(db: &mut Connection, project: &str) -> Result<i64, StoreError> {
    let query = "select count(*) from sites where project_id = $1";
    Ok(sql::query_scalar(query).bind(project).fetch_one(db).await?)
}

pub(crate) async fn insert(db: &mut Connection, site: &SiteRow) -> Result<(), StoreError> {
    let query = "insert into sites (id, project_id, name, slug, created_at, updated_at)
        values ($1, $2, $3, $4, $5, $6)";
    let insert = sql::query(query).bind(&site.id).bind(&site.project_id).bind(&site.name).bind(&site.slug);
    insert.bind(site.created_at).bind(site.updated_at).execute(db).await.map_err(taken)?;
    Ok(())
}

/// Writes everything that can change.
pub(crate) async fn update(db: &mut Connection, site: &SiteRow) -> Result<(), StoreError> {
    let query = "update sites set name = $2, slug = $3, current_deployment_id = $4, updated_at = $5
        where id = $1";
    let update = sql::query(query).bind(&site.id).bind(&site.name).bind(&site.slug);
    let update = update.bind(&site.current_deployment_id).bind(site.updated_at);
    update.execute(db).await.map_err(taken)?;
    Ok(())
}

pub(crate) async fn delete(db: &mut Connection, id: &str) -> Result<(), StoreError> {
    let query = "update sites set current_deployment_id = null where id = $1";
    sql::query(query).bind(id).execute(&mut *db).await?;
    sql::query("delete from sites where id = $1").bind(id).execute(db).await?;
    Ok(())
}
