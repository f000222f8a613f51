//! How far content is held at places other than this one.

use super::sql::{self, Connection};
use super::{Store, StoreError};

/// One CID at one place.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct PlacementRow {
    /// The root.
    pub cid: String,
    /// The place's name.
    pub place: String,
    /// `QUEUED`, `PINNING`, `PINNED`, `FAILED`, `REMOVING` or `LEFT`.
    pub state: String,
    /// What the place calls it.
    pub request: Option<String>,
    /// What the place says of it, for people.
    pub detail: Option<String>,
    /// Whether it can be removed there no more.
    pub permanent: bool,
    /// In a row that failed, or that found it on its way.
    pub attempts: i64,
    /// What the last attempt found amiss.
    pub error: Option<String>,
    /// When it is looked at next, milliseconds.
    pub next_at: i64,
    /// Milliseconds.
    pub updated_at: i64,
}

const COLUMNS: &str =
    "cid, place, state, request, detail, permanent <> 0 as permanent, attempts, error, next_at, updated_at";

/// In `pin_places`: at all places there are, and will be. No place is called so.
pub(crate) const EVERYWHERE: &str = "*";

/// What is to be held at the place `$1`: what pins say, and all that is deployed.
const WANTED: &str =
    "select p.cid from pin_places w join pins p on p.id = w.pin_id where w.place in ($1, '*')
    union select code_cid from deployments
    union select assets_cid from deployments where assets_cid is not null
    union select root_cid from site_deployments";

/// Deployments themselves, where a place holds documents.
const MANIFESTS: &str = "union select manifest_cid from deployments";

/// A place, and what it holds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PlaceKind<'a> {
    pub name: &'a str,
    pub documents: bool,
}

impl Store {
    /// Where a CID is held, and how far.
    pub(crate) async fn placements(&self, cid: &str) -> Result<Vec<PlacementRow>, StoreError> {
        let query = format!("select {COLUMNS} from placements where cid = $1 order by place limit 100");
        Ok(sql::query_as(sqlx::AssertSqlSafe(query)).bind(cid).fetch_all(&self.reader).await?)
    }

    /// What is due at a place.
    pub(crate) async fn due_placements(
        &self,
        place: &str,
        now: i64,
        limit: i64,
    ) -> Result<Vec<PlacementRow>, StoreError> {
        let query = format!(
            "select {COLUMNS} from placements where place = $1 and next_at <= $2 order by next_at limit $3"
        );
        let query = sql::query_as(sqlx::AssertSqlSafe(query));
        Ok(query.bind(place).bind(now).bind(limit).fetch_all(&self.reader).await?)
    }

    /// When the next one is due at a place that is not due now.
    pub(crate) async fn next_placement(&self, place: &str, now: i64) -> Result<Option<i64>, StoreError> {
        let query = "select min(next_at) from placements where place = $1 and next_at > $2";
        Ok(sql::query_scalar(query).bind(place).bind(now).fetch_one(&self.reader).await?)
    }
}

/// Queues what the place lacks, and has removed what nobody wants there any more.
pub(crate) async fn reconcile(db: &mut Connection, place: PlaceKind<'_>, now: i64) -> Result<(), StoreError> {
    let wanted = format!("{WANTED} {}", if place.documents { MANIFESTS } else { "" });
    let place = place.name;
    let query = format!(
        "insert into placements (cid, place, state, next_at, updated_at)
         select cid, $1, 'QUEUED', $2, $2 from ({wanted}) wanted where true
         on conflict (cid, place) do update set state = 'QUEUED', attempts = 0, next_at = $2, updated_at = $2
         where placements.state in ('REMOVING', 'LEFT')"
    );
    sql::query(sqlx::AssertSqlSafe(query)).bind(place).bind(now).execute(&mut *db).await?;
    let query = format!(
        "update placements set state = 'REMOVING', attempts = 0, next_at = $2, updated_at = $2
         where place = $1 and state not in ('REMOVING', 'LEFT') and cid not in ({wanted})"
    );
    sql::query(sqlx::AssertSqlSafe(query)).bind(place).bind(now).execute(db).await?;
    Ok(())
}

/// Writes what an attempt came to, unless somebody has wanted something else meanwhile.
pub(crate) async fn update(db: &mut Connection, row: &PlacementRow, before: &str) -> Result<(), StoreError> {
    let query = "update placements set state = $3, request = $4, attempts = $5, error = $6, next_at = $7,
        updated_at = $8, detail = $9, permanent = $10 where cid = $1 and place = $2 and state = $11";
    let update = sql::query(query).bind(&row.cid).bind(&row.place).bind(&row.state).bind(&row.request);
    let update = update.bind(row.attempts).bind(&row.error).bind(row.next_at).bind(row.updated_at);
    update.bind(&row.detail).bind(i64::from(row.permanent)).bind(before).execute(db).await?;
    Ok(())
}

/// Remembers what the place calls it and says of it, whatever is wanted of it now.
pub(crate) async fn remember(db: &mut Connection, row: &PlacementRow) -> Result<(), StoreError> {
    let query =
        "update placements set request = $3, detail = $4, permanent = $5 where cid = $1 and place = $2";
    let query = sql::query(query).bind(&row.cid).bind(&row.place).bind(&row.request);
    query.bind(&row.detail).bind(i64::from(row.permanent)).execute(db).await?;
    Ok(())
}

/// It is gone there; unless it is wanted again meanwhile.
pub(crate) async fn delete(db: &mut Connection, row: &PlacementRow) -> Result<(), StoreError> {
    let query = "delete from placements where cid = $1 and place = $2 and state = 'REMOVING'";
    sql::query(query).bind(&row.cid).bind(&row.place).execute(db).await?;
    Ok(())
}
