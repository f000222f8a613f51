//! Deployments of sites: which directory a site had when.

use super::sql::{self, Connection};
use super::{Store, StoreError, parse};
use af_contract::ContentId;

/// A deployment of a site.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct SiteDeploymentRow {
    /// `sdp_…`
    pub id: String,
    /// `site_…`
    pub site_id: String,
    /// Counts up from 1 within the site.
    pub number: i64,
    /// The directory.
    pub root_cid: String,
    /// Files in it.
    pub files: i64,
    /// Of all files together.
    pub bytes: i64,
    /// Of all its blocks, each once; none: from before this was written down.
    pub stored_bytes: Option<i64>,
    /// `usr_…`
    pub author_id: String,
    /// Milliseconds.
    pub created_at: i64,
}

const COLUMNS: &str = "id, site_id, number, root_cid, files, bytes, stored_bytes, author_id, created_at";

impl Store {
    pub(crate) async fn site_deployment(&self, id: &str) -> Result<Option<SiteDeploymentRow>, StoreError> {
        read(&mut self.read().await?, id).await
    }

    /// Newest first; `before` is a number, exclusive.
    pub(crate) async fn site_deployments_of(
        &self,
        site: &str,
        before: i64,
        limit: i64,
    ) -> Result<Vec<SiteDeploymentRow>, StoreError> {
        let query = format!(
            "select {COLUMNS} from site_deployments where site_id = $1 and number < $2
             order by number desc limit $3"
        );
        let query = sql::query_as(sqlx::AssertSqlSafe(query));
        Ok(query.bind(site).bind(before).bind(limit).fetch_all(&self.reader).await?)
    }

    /// The newest of each of these sites of a project, newest first.
    pub(crate) async fn newest_site_deployments(
        &self,
        project: &str,
        sites: &[String],
        each: i64,
    ) -> Result<Vec<SiteDeploymentRow>, StoreError> {
        let places = sql::places(3, sites.len());
        let query = format!(
            "select {COLUMNS} from (select d.*, row_number() over (partition by d.site_id order by d.number desc) as place
                from site_deployments d join sites s on s.id = d.site_id
                where s.project_id = $1 and d.site_id in ({places})) numbered
             where place <= $2 order by site_id, number desc"
        );
        let query = sql::query_as(sqlx::AssertSqlSafe(query)).bind(project).bind(each);
        let query = sites.iter().fold(query, |query, site| query.bind(site));
        Ok(query.fetch_all(&self.reader).await?)
    }

    /// Id and directory of every deployment, `limit` at a time, in the order of ids.
    pub(crate) async fn site_roots(
        &self,
        after: &str,
        limit: i64,
    ) -> Result<Vec<(String, ContentId)>, StoreError> {
        let query = "select id, root_cid from site_deployments where id > $1 order by id limit $2";
        let rows: Vec<(String, String)> =
            sql::query_as(query).bind(after).bind(limit).fetch_all(&self.reader).await?;
        rows.into_iter().map(|(id, root)| Ok((id, parse("content id", &root)?))).collect()
    }
}

/// The highest number of a site's deployments, 0 when there is none.
pub(crate) async fn last_number(db: &mut Connection, site: &str) -> Result<i64, StoreError> {
    let query = "select coalesce(max(number), 0) from site_deployments where site_id = $1";
    Ok(sql::query_scalar(query).bind(site).fetch_one(db).await?)
}

/// One, as the transaction sees it.
pub(crate) async fn read(db: &mut Connection, id: &str) -> Result<Option<SiteDeploymentRow>, StoreError> {
    let query = format!("select {COLUMNS} from site_deployments where id = $1");
    Ok(sql::query_as(sqlx::AssertSqlSafe(query)).bind(id).fetch_optional(db).await?)
}

/// Deletes a site's deployments but the newest `keep`, what it serves, and the one before that. Returns the ids.
pub(crate) async fn prune(db: &mut Connection, site: &str, keep: i64) -> Result<Vec<String>, StoreError> {
    let query = "delete from site_deployments where site_id = $1
        and number < (select number from site_deployments where site_id = $1 order by number desc limit 1 offset $2)
        and number < (select coalesce(max(d.number), 0) from site_deployments d where d.site_id = $1 and d.number <
            (select c.number from sites s join site_deployments c on c.id = s.current_deployment_id where s.id = $1))
        returning id";
    Ok(sql::query_scalar(query).bind(site).bind(keep.saturating_sub(1)).fetch_all(db).await?)
}

/// Deletes a site's oldest deployment, unless it is what the site serves, or the one before that. Returns its id.
pub(crate) async fn drop_oldest(db: &mut Connection, site: &str) -> Result<Option<String>, StoreError> {
    let query = "delete from site_deployments
        where id = (select id from site_deployments where site_id = $1 order by number limit 1)
        and number < (select coalesce(max(d.number), 0) from site_deployments d where d.site_id = $1 and d.number <
            (select c.number from sites s join site_deployments c on c.id = s.current_deployment_id where s.id = $1))
        returning id";
    Ok(sql::query_scalar(query).bind(site).fetch_optional(db).await?)
}

pub(crate) async fn insert(db: &mut Connection, row: &SiteDeploymentRow) -> Result<(), StoreError> {
    let query =
        format!("insert into site_deployments ({COLUMNS}) values ($1, $2, $3, $4, $5, $6, $7, $8, $9)");
    let insert = sql::query(sqlx::AssertSqlSafe(query)).bind(&row.id).bind(&row.site_id).bind(row.number);
    let insert = insert.bind(&row.root_cid).bind(row.files).bind(row.bytes).bind(row.stored_bytes);
    insert.bind(&row.author_id).bind(row.created_at).execute(db).await?;
    Ok(())
}
