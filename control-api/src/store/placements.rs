//! How far content is held at places other than this one.

use super::sql::{self, Connection};
use super::{Store, StoreError, left};

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

/// Rows of a page: a few milliseconds of the database's only writer.
pub(crate) const PAGE: i64 = 500;

/// Where a pin wants a place `$1`.
const PINNED: &str = "exists (select 1 from pin_places w where w.pin_id = p.id and w.place in ($1, '*'))";

/// Columns of what is deployed, and so wanted at all places.
const DEPLOYED: [(&str, &str); 3] =
    [("deployments", "code_cid"), ("deployments", "assets_cid"), ("site_deployments", "root_cid")];

/// Deployments themselves, where a place holds documents.
const MANIFESTS: (&str, &str) = ("deployments", "manifest_cid");

/// A place, and what it holds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PlaceKind<'a> {
    pub name: &'a str,
    pub documents: bool,
}

impl PlaceKind<'_> {
    /// Tables and columns with what is wanted there besides pins.
    fn deployed(self) -> impl Iterator<Item = (&'static str, &'static str)> {
        DEPLOYED.into_iter().chain(self.documents.then_some(MANIFESTS))
    }

    /// What is wanted there of CIDs that `only` accepts, as a query; `last` stands at the end of each of its parts.
    fn wanted(self, only: impl Fn(&str) -> String, last: impl Fn(&str) -> String) -> String {
        let pins = format!(
            "select distinct p.cid as cid from pins p where {} and {PINNED} {}",
            only("p.cid"),
            last("p.cid")
        );
        let deployed = self.deployed().map(|(table, column)| {
            let (only, last) = (only(column), last(column));
            format!("select distinct {column} as cid from {table} where {only} {last}")
        });
        let parts =
            std::iter::once(pins).chain(deployed).map(|part| format!("select cid from ({part}) part"));
        parts.collect::<Vec<_>>().join(" union ")
    }

    /// Whether a CID of `placements` is wanted there.
    fn is_wanted(self) -> String {
        let pins = format!("exists (select 1 from pins p where p.cid = placements.cid and {PINNED})");
        let deployed = self
            .deployed()
            .map(|(table, column)| format!("exists (select 1 from {table} where {column} = placements.cid)"));
        std::iter::once(pins).chain(deployed).collect::<Vec<_>>().join(" or ")
    }
}

/// One page of a comparison, in the order of CIDs.
#[derive(Debug)]
pub(crate) struct Compared {
    /// Those that differ.
    pub cids: Vec<String>,
    /// Where the next page begins; none: this was the last one.
    pub next: Option<String>,
}

impl From<Vec<(String, bool)>> for Compared {
    fn from(rows: Vec<(String, bool)>) -> Self {
        let full = i64::try_from(rows.len()).is_ok_and(|rows| rows >= PAGE);
        let next = rows.last().filter(|_| full).map(|(cid, _)| cid.clone());
        Self { cids: rows.into_iter().filter_map(|(cid, differs)| differs.then_some(cid)).collect(), next }
    }
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
            "select {COLUMNS} from placements where place = $1 and next_at <= $2 and leased_until <= $2
             order by next_at limit $3"
        );
        let query = sql::query_as(sqlx::AssertSqlSafe(query));
        Ok(query.bind(place).bind(now).bind(limit).fetch_all(&self.reader).await?)
    }

    /// When the next one is due at a place that is not due now.
    pub(crate) async fn next_placement(&self, place: &str, now: i64) -> Result<Option<i64>, StoreError> {
        let query = "select min(next_at) from placements where place = $1 and next_at > $2";
        Ok(sql::query_scalar(query).bind(place).bind(now).fetch_one(&self.reader).await?)
    }

    /// What is wanted at a place after a CID, and whether it is not even queued there.
    pub(crate) async fn lacking(&self, place: PlaceKind<'_>, after: &str) -> Result<Compared, StoreError> {
        // Each part is one page at most, read from its index: nothing is sorted but these.
        let wanted =
            place.wanted(|column| format!("{column} > $2"), |column| format!("order by {column} limit $3"));
        let query = format!(
            "select w.cid, h.cid is null or h.state in ('REMOVING', 'LEFT')
             from (select cid from ({wanted}) wanted order by cid limit $3) w
             left join placements h on h.cid = w.cid and h.place = $1 order by w.cid"
        );
        let query = sql::query_as(sqlx::AssertSqlSafe(query)).bind(place.name).bind(after).bind(PAGE);
        let rows: Vec<(String, bool)> = query.fetch_all(&self.reader).await?;
        Ok(rows.into())
    }

    /// What a place holds, or is to hold, after a CID, and whether nobody wants that any more.
    pub(crate) async fn unwanted(&self, place: PlaceKind<'_>, after: &str) -> Result<Compared, StoreError> {
        let query = format!(
            "select cid, not ({}) from placements
             where place = $1 and cid > $2 and state not in ('REMOVING', 'LEFT') order by cid limit $3",
            place.is_wanted()
        );
        let query = sql::query_as(sqlx::AssertSqlSafe(query)).bind(place.name).bind(after).bind(PAGE);
        let rows: Vec<(String, bool)> = query.fetch_all(&self.reader).await?;
        Ok(rows.into())
    }
}

/// Of these CIDs, a page at most, queues what the place lacks, and has removed what nobody wants there any more. What is wanted is
/// looked at here and now, whoever has found the CIDs, and when.
pub(crate) async fn reconcile(
    db: &mut Connection,
    place: PlaceKind<'_>,
    cids: &[String],
    now: i64,
) -> Result<(), StoreError> {
    let these = sql::places(3, cids.len());
    let wanted = place.wanted(|column| format!("{column} in ({these})"), |_| String::new());
    let query = format!(
        "insert into placements (cid, place, state, next_at, updated_at)
         select cid, $1, 'QUEUED', $2, $2 from ({wanted}) wanted where true
         on conflict (cid, place) do update set state = 'QUEUED', attempts = 0, next_at = $2, updated_at = $2
         where placements.state in ('REMOVING', 'LEFT')"
    );
    let query = sql::query(sqlx::AssertSqlSafe(query)).bind(place.name).bind(now);
    query.bind_each(cids).execute(&mut *db).await?;
    let query = format!(
        "update placements set state = 'REMOVING', attempts = 0, next_at = $2, updated_at = $2
         where place = $1 and state not in ('REMOVING', 'LEFT') and cid in ({these}) and not ({})",
        place.is_wanted()
    );
    let query = sql::query(sqlx::AssertSqlSafe(query)).bind(place.name).bind(now);
    query.bind_each(cids).execute(db).await?;
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

/// Takes a row, as it was read, until then. Returns whether nobody else has, or has changed it meanwhile.
pub(crate) async fn take(
    db: &mut Connection,
    row: &PlacementRow,
    now: i64,
    until: i64,
) -> Result<bool, StoreError> {
    let query = "update placements set leased_until = $3 where cid = $1 and place = $2 and leased_until <= $4
        and state = $5 and next_at = $6";
    let query = sql::query(query).bind(&row.cid).bind(&row.place).bind(until).bind(now);
    Ok(query.bind(&row.state).bind(row.next_at).execute(db).await? == 1)
}

/// Takes it for longer, or gives it back. Returns whether it was still had.
pub(crate) async fn keep(
    db: &mut Connection,
    row: &PlacementRow,
    before: i64,
    until: i64,
) -> Result<bool, StoreError> {
    let query = "update placements set leased_until = $3 where cid = $1 and place = $2 and leased_until = $4";
    let query = sql::query(query).bind(&row.cid).bind(&row.place).bind(until).bind(before);
    Ok(query.execute(db).await? == 1)
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
    sql::query(query).bind(&row.cid).bind(&row.place).execute(&mut *db).await?;
    left::gone(db, &row.cid).await
}
