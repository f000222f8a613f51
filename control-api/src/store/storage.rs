//! Pins, and which blocks a project has sent.

use af_contract::ContentId;
use sqlx::AssertSqlSafe;

use super::sql::{self, Connection};
use super::{Store, StoreError, parse, unsigned};

/// Ids in one statement: SQLite takes 32,766 values, PostgreSQL 65,535.
const IDS: usize = 1_000;

/// Content that a project keeps.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct PinRow {
    /// `pin_…`
    pub id: String,
    /// `prj_…`
    pub project_id: String,
    /// Its root.
    pub cid: String,
    /// As the project calls it.
    pub name: Option<String>,
    /// Of all its blocks, each once.
    pub bytes: i64,
    /// How many they are.
    pub blocks: i64,
    /// `usr_…`
    pub author_id: String,
    /// Milliseconds.
    pub created_at: i64,
}

/// What a project keeps.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// Of all pins, of all directories that its sites deployed and that are no pins, and of what its functions deployed; a block of several
    /// of them counts in each.
    pub bytes: u64,
    /// Of them, those of functions.
    pub function_bytes: u64,
    /// Of them, those of sites.
    pub site_bytes: u64,
    /// How many pins.
    pub pins: u64,
}

/// A block that a project has sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sent {
    pub cid: ContentId,
    pub touched_at: i64,
}

const COLUMNS: &str = "id, project_id, cid, name, bytes, blocks, author_id, created_at";

impl Store {
    pub(crate) async fn pin(&self, project: &str, cid: &str) -> Result<Option<PinRow>, StoreError> {
        let query = format!("select {COLUMNS} from pins where project_id = $1 and cid = $2");
        let query = sql::query_as(AssertSqlSafe(query)).bind(project).bind(cid);
        Ok(query.fetch_optional(&self.reader).await?)
    }

    /// As the first project calls it that has given it a name. Of private content nobody is told one.
    pub(crate) async fn pin_name(&self, cid: &str) -> Result<Option<String>, StoreError> {
        let query = "select name from pins where cid = $1 and name is not null
            and not exists (select 1 from pin_keys k where k.pin_id = pins.id) order by id limit 1";
        Ok(sql::query_scalar(query).bind(cid).fetch_optional(&self.reader).await?)
    }

    /// Oldest first.
    pub(crate) async fn pins_of(
        &self,
        project: &str,
        after: &str,
        limit: i64,
    ) -> Result<Vec<PinRow>, StoreError> {
        let query =
            format!("select {COLUMNS} from pins where project_id = $1 and id > $2 order by id limit $3");
        let query = sql::query_as(AssertSqlSafe(query));
        Ok(query.bind(project).bind(after).bind(limit).fetch_all(&self.reader).await?)
    }

    /// Whether a deployment of the project's functions or sites has this as its code, files or directory.
    pub(crate) async fn is_deployed(&self, project: &str, cid: &str) -> Result<bool, StoreError> {
        let query = "select exists (select 1 from deployments d join functions f on f.id = d.function_id
              where f.project_id = $1 and (d.code_cid = $2 or d.assets_cid = $2))
            or exists (select 1 from site_deployments d join sites s on s.id = d.site_id
              where s.project_id = $1 and d.root_cid = $2)";
        Ok(sql::query_scalar(query).bind(project).bind(cid).fetch_one(&self.reader).await?)
    }

    /// CIDs of the code, files and sites that a project has deployed, each once, in the order of CIDs.
    pub(crate) async fn roots_of(
        &self,
        project: &str,
        after: &str,
        limit: i64,
    ) -> Result<Vec<ContentId>, StoreError> {
        let query = "select cid from (
                select d.code_cid as cid from deployments d join functions f on f.id = d.function_id
                  where f.project_id = $1
                union select d.assets_cid from deployments d join functions f on f.id = d.function_id
                  where f.project_id = $1 and d.assets_cid is not null
                union select d.root_cid from site_deployments d join sites s on s.id = d.site_id
                  where s.project_id = $1) roots
            where cid > $2 order by cid limit $3";
        let rows: Vec<String> =
            sql::query_scalar(query).bind(project).bind(after).bind(limit).fetch_all(&self.reader).await?;
        rows.iter().map(|cid| parse("content id", cid)).collect()
    }

    /// Projects that have sent blocks, in the order of ids.
    pub(crate) async fn senders(&self, after: &str, limit: i64) -> Result<Vec<String>, StoreError> {
        let query = "select distinct project_id from project_blocks where project_id > $1
            order by project_id limit $2";
        Ok(sql::query_scalar(query).bind(after).bind(limit).fetch_all(&self.reader).await?)
    }

    /// Blocks that a project has sent, in the order of CIDs.
    pub(crate) async fn sent(&self, project: &str, after: &str, limit: i64) -> Result<Vec<Sent>, StoreError> {
        let query = "select cid, touched_at from project_blocks where project_id = $1 and cid > $2
            order by cid limit $3";
        let rows: Vec<(String, i64)> =
            sql::query_as(query).bind(project).bind(after).bind(limit).fetch_all(&self.reader).await?;
        let sent = rows.into_iter();
        sent.map(|(cid, touched_at)| Ok(Sent { cid: parse("content id", &cid)?, touched_at })).collect()
    }

    /// Blocks that any project has sent, `limit` at a time, in the order of CIDs.
    pub(crate) async fn all_sent(&self, after: &str, limit: i64) -> Result<Vec<ContentId>, StoreError> {
        let query = "select distinct cid from project_blocks where cid > $1 order by cid limit $2";
        let rows: Vec<String> =
            sql::query_scalar(query).bind(after).bind(limit).fetch_all(&self.reader).await?;
        rows.iter().map(|cid| parse("content id", cid)).collect()
    }
}

/// What a project keeps.
pub(crate) async fn usage(db: &mut Connection, project: &str) -> Result<Usage, StoreError> {
    let query = "select cast(coalesce(sum(bytes), 0) as bigint), count(*) from pins where project_id = $1";
    let (pinned, pins) = sql::query_as(query).bind(project).fetch_one(&mut *db).await?;
    let (pinned, site_bytes) = (unsigned("sum of bytes", pinned)?, site_bytes(db, project, None).await?);
    let query = "select cast(coalesce(sum(stored_bytes), 0) as bigint) from functions where project_id = $1";
    let of_functions = sql::query_scalar(query).bind(project).fetch_one(db).await?;
    let function_bytes = unsigned("sum of bytes", of_functions)?;
    let bytes = pinned.saturating_add(site_bytes).saturating_add(function_bytes);
    Ok(Usage { bytes, function_bytes, site_bytes, pins: unsigned("count", pins)? })
}

/// Of directories that a project's sites deployed, each once, and none that is pinned. Of the site `but`, only what it serves.
pub(crate) async fn site_bytes(
    db: &mut Connection,
    project: &str,
    but: Option<&str>,
) -> Result<u64, StoreError> {
    let query = "select cast(coalesce(sum(bytes), 0) as bigint) from (
            select d.root_cid, max(coalesce(d.stored_bytes, d.bytes)) as bytes
            from sites s join site_deployments d on d.site_id = s.id
            where s.project_id = $1 and (s.id <> $2 or d.id = s.current_deployment_id)
              and not exists (select 1 from pins p where p.project_id = $1 and p.cid = d.root_cid)
            group by d.root_cid) roots";
    let query = sql::query_scalar(query).bind(project).bind(but.unwrap_or_default());
    unsigned("sum of bytes", query.fetch_one(db).await?)
}

/// The bytes that count for a root that a project has pinned, or its sites have deployed; none: it has not.
pub(crate) async fn counted(
    db: &mut Connection,
    project: &str,
    cid: &str,
) -> Result<Option<u64>, StoreError> {
    let query = "select coalesce(
            (select bytes from pins where project_id = $1 and cid = $2),
            (select max(coalesce(d.stored_bytes, d.bytes)) from site_deployments d join sites s on s.id = d.site_id
                where s.project_id = $1 and d.root_cid = $2))";
    let found: Option<i64> = sql::query_scalar(query).bind(project).bind(cid).fetch_one(db).await?;
    found.map(|bytes| unsigned("sum of bytes", bytes)).transpose()
}

/// Bytes of all blocks that a project has sent and that are not swept yet.
pub(crate) async fn sent_bytes(db: &mut Connection, project: &str) -> Result<u64, StoreError> {
    let query = "select cast(coalesce(sum(bytes), 0) as bigint) from project_blocks where project_id = $1";
    unsigned("sum of bytes", sql::query_scalar(query).bind(project).fetch_one(db).await?)
}

pub(crate) async fn insert_pin(db: &mut Connection, pin: &PinRow) -> Result<(), StoreError> {
    let query = format!("insert into pins ({COLUMNS}) values ($1, $2, $3, $4, $5, $6, $7, $8)");
    let insert = sql::query(AssertSqlSafe(query)).bind(&pin.id).bind(&pin.project_id).bind(&pin.cid);
    let insert = insert.bind(&pin.name).bind(pin.bytes).bind(pin.blocks).bind(&pin.author_id);
    insert.bind(pin.created_at).execute(db).await?;
    Ok(())
}

pub(crate) async fn read_pin(
    db: &mut Connection,
    project: &str,
    cid: &str,
) -> Result<Option<PinRow>, StoreError> {
    let query = format!("select {COLUMNS} from pins where project_id = $1 and cid = $2");
    Ok(sql::query_as(AssertSqlSafe(query)).bind(project).bind(cid).fetch_optional(db).await?)
}

pub(crate) async fn rename_pin(db: &mut Connection, id: &str, name: &str) -> Result<(), StoreError> {
    sql::query("update pins set name = $2 where id = $1").bind(id).bind(name).execute(db).await?;
    Ok(())
}

/// Returns whether there was one.
pub(crate) async fn delete_pin(db: &mut Connection, project: &str, cid: &str) -> Result<bool, StoreError> {
    let query = "delete from pins where project_id = $1 and cid = $2";
    Ok(sql::query(query).bind(project).bind(cid).execute(db).await? == 1)
}

pub(crate) async fn add_place(db: &mut Connection, pin: &str, place: &str) -> Result<(), StoreError> {
    let query = "insert into pin_places (pin_id, place) values ($1, $2) on conflict do nothing";
    sql::query(query).bind(pin).bind(place).execute(db).await?;
    Ok(())
}

/// Which of these blocks the project has sent, and how many bytes they have.
pub(crate) async fn known(
    db: &mut Connection,
    project: &str,
    ids: &[ContentId],
) -> Result<Vec<(ContentId, u64)>, StoreError> {
    let mut known = Vec::with_capacity(ids.len());
    for ids in ids.chunks(IDS) {
        let places = sql::places(2, ids.len());
        let query =
            format!("select cid, bytes from project_blocks where project_id = $1 and cid in ({places})");
        let query = sql::query_as(AssertSqlSafe(query)).bind(project);
        let rows: Vec<(String, i64)> = query.bind_each(ids).fetch_all(&mut *db).await?;
        for (cid, bytes) in rows {
            known.push((parse("content id", &cid)?, unsigned("length", bytes)?));
        }
    }
    Ok(known)
}

/// Which of these blocks any project has sent.
pub(crate) async fn known_by_any(
    db: &mut Connection,
    ids: &[ContentId],
) -> Result<Vec<ContentId>, StoreError> {
    let mut known = Vec::new();
    for ids in ids.chunks(IDS) {
        let places = sql::places(1, ids.len());
        let query = format!("select distinct cid from project_blocks where cid in ({places})");
        let rows: Vec<(String,)> =
            sql::query_as(AssertSqlSafe(query)).bind_each(ids).fetch_all(&mut *db).await?;
        for (cid,) in rows {
            known.push(parse("content id", &cid)?);
        }
    }
    Ok(known)
}

/// Says that the project has sent these blocks, or needs them again.
pub(crate) async fn put_blocks(
    db: &mut Connection,
    project: &str,
    blocks: &[(ContentId, u64)],
    now: i64,
) -> Result<(), StoreError> {
    for blocks in blocks.chunks(IDS) {
        let rows: Vec<String> =
            (0..blocks.len()).map(|row| format!("($1, ${}, ${}, $2)", 3 + 2 * row, 4 + 2 * row)).collect();
        let query = format!(
            "insert into project_blocks (project_id, cid, bytes, touched_at) values {}
             on conflict (project_id, cid) do update set touched_at = excluded.touched_at",
            rows.join(", ")
        );
        let mut query = sql::query(AssertSqlSafe(query)).bind(project).bind(now);
        for (id, bytes) in blocks {
            query = query.bind(id.to_string()).bind(i64::try_from(*bytes).unwrap_or(i64::MAX));
        }
        query.execute(&mut *db).await?;
    }
    Ok(())
}

/// Forgets blocks of a project that were not touched since `cutoff`.
pub(crate) async fn forget_blocks(
    db: &mut Connection,
    project: &str,
    ids: &[ContentId],
    cutoff: i64,
) -> Result<(), StoreError> {
    for ids in ids.chunks(IDS) {
        let places = sql::places(3, ids.len());
        let query = format!(
            "delete from project_blocks where project_id = $1 and touched_at < $2 and cid in ({places})"
        );
        let query = sql::query(AssertSqlSafe(query)).bind(project).bind(cutoff);
        query.bind_each(ids).execute(&mut *db).await?;
    }
    Ok(())
}
