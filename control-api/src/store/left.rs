//! What projects have unpinned, for as long as another place may still have it.

use super::sql::{self, Connection};
use super::{Store, StoreError};

/// Content that was unpinned.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct LeftRow {
    /// Its root.
    pub cid: String,
    /// As the project called it; of private content nothing.
    pub name: Option<String>,
    /// Milliseconds.
    pub unpinned_at: i64,
}

impl Store {
    /// What a project has unpinned and places still have, in the order of CIDs.
    pub(crate) async fn left_by(
        &self,
        project: &str,
        after: &str,
        limit: i64,
    ) -> Result<Vec<LeftRow>, StoreError> {
        let query = "select cid, name, unpinned_at from unpinned u where project_id = $1 and cid > $2
            and exists (select 1 from placements h where h.cid = u.cid and h.state in ('REMOVING', 'LEFT'))
            order by cid limit $3";
        Ok(sql::query_as(query).bind(project).bind(after).bind(limit).fetch_all(&self.reader).await?)
    }
}

/// Remembers a pin that is about to be deleted, if another place knows its content.
pub(crate) async fn remember(
    db: &mut Connection,
    project: &str,
    cid: &str,
    now: i64,
) -> Result<(), StoreError> {
    let query = "insert into unpinned (project_id, cid, name, unpinned_at)
        select p.project_id, p.cid,
          case when exists (select 1 from pin_keys k where k.pin_id = p.id) then null else p.name end, $3
        from pins p where p.project_id = $1 and p.cid = $2
          and exists (select 1 from placements h where h.cid = p.cid)
        on conflict (project_id, cid) do update set name = excluded.name, unpinned_at = excluded.unpinned_at";
    sql::query(query).bind(project).bind(cid).bind(now).execute(db).await?;
    Ok(())
}

/// It is pinned again.
pub(crate) async fn forget(db: &mut Connection, project: &str, cid: &str) -> Result<(), StoreError> {
    let query = "delete from unpinned where project_id = $1 and cid = $2";
    sql::query(query).bind(project).bind(cid).execute(db).await?;
    Ok(())
}

/// Forgets it for all projects, if no place knows it any more.
pub(crate) async fn gone(db: &mut Connection, cid: &str) -> Result<(), StoreError> {
    let query =
        "delete from unpinned where cid = $1 and not exists (select 1 from placements where cid = $1)";
    sql::query(query).bind(cid).execute(db).await?;
    Ok(())
}
