//! What functions, sites, projects and organizations used, and which batches of it were taken. No rule looks at these tables, and no row
//! of them refers to another.

mod read;

use std::collections::HashMap;

use af_contract::usage::Usage;
use sqlx::AssertSqlSafe;

use super::sql::{self, Connection, Transaction};
use super::{Store, StoreError};

pub(crate) use self::read::{Parts, parts, times, total, totals};

/// Of a row: programs that read JSON have whole numbers up to here, and the sum of as many rows as there are days fits into 64 bits.
const MOST: i64 = 1 << 53;

/// Rows and ids of a statement: few different ones, so that they stay prepared, and the largest has 2,304 values (SQLite: 32,766 at most).
const SIZES: [usize; 5] = [256, 64, 16, 4, 1];

/// Rows that are forgotten at once.
const STEP: i64 = 1_000;

/// By which time is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Per {
    Hour,
    Day,
}

/// Whose a function or a site is, or was.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Owner {
    pub project: String,
    pub organization: Option<String>,
}

/// What is to be added.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct UsageRow {
    pub subject: String,
    /// When the hour or day began, milliseconds.
    pub at: i64,
    /// By days, of functions and sites.
    pub owner: Option<Owner>,
    pub usage: Usage,
}

#[derive(sqlx::FromRow)]
struct Owned {
    id: String,
    project_id: Option<String>,
    organization_id: Option<String>,
}

impl Per {
    const fn table(self) -> &'static str {
        match self {
            Self::Hour => "usage_hours",
            Self::Day => "usage_days",
        }
    }

    const fn column(self) -> &'static str {
        match self {
            Self::Hour => "hour",
            Self::Day => "day",
        }
    }
}

impl Store {
    /// A transaction that adds to what is used or forgets it. On PostgreSQL it takes no turn: nothing else that is written follows from
    /// these tables, and who adds locks rows in the order of their keys, so that hundreds of edges keep nobody from changing anything.
    pub(crate) async fn begin_counting(&self) -> Result<Transaction, StoreError> {
        let pool = if self.is_shared() { &self.reader } else { &self.writer };
        Ok(pool.begin_without_turn().await?)
    }

    /// The last batch that was taken of an edge's source.
    pub(crate) async fn usage_taken(&self, edge: &str, source: &str) -> Result<Option<i64>, StoreError> {
        let query = "select number from usage_sources where edge = $1 and source = $2";
        Ok(sql::query_scalar(query).bind(edge).bind(source).fetch_optional(&self.reader).await?)
    }

    /// Edges that have asked since then.
    pub(crate) async fn edges_seen_since(&self, at: i64) -> Result<i64, StoreError> {
        let query = "select count(*) from edges where seen_at > $1";
        Ok(sql::query_scalar(query).bind(at).fetch_one(&self.reader).await?)
    }

    /// Whose functions and sites are; of those that are gone, whose they were when they were used last.
    pub(crate) async fn owners(&self, subjects: &[&str]) -> Result<HashMap<String, Owner>, StoreError> {
        let (functions, others): (Vec<&str>, Vec<&str>) =
            subjects.iter().partition(|subject| subject.starts_with("fn_"));
        let sites: Vec<&str> = others.into_iter().filter(|subject| subject.starts_with("site_")).collect();
        let mut owners = HashMap::new();
        for (table, ids) in [("functions", functions), ("sites", sites)] {
            self.add_owners(&mut owners, &ids, |places| {
                format!(
                    "select s.id, s.project_id, p.organization_id from {table} s
                     join projects p on p.id = s.project_id where s.id in ({places})"
                )
            })
            .await?;
        }
        let gone: Vec<&str> =
            subjects.iter().copied().filter(|subject| !owners.contains_key(*subject)).collect();
        let last = |column: &str| {
            format!(
                "(select d.{column} from usage_days d where d.subject = v.column1 order by d.day desc limit 1)"
            )
        };
        let (project, organization) = (last("project_id"), last("organization_id"));
        self.add_owners(&mut owners, &gone, |places| {
            let rows = places.replace(", ", "), (");
            format!(
                "select v.column1 as id, {project} as project_id,
                 (select o.id from organizations o where o.id = {organization}) as organization_id
                 from (values ({rows})) as v"
            )
        })
        .await?;
        Ok(owners)
    }

    async fn add_owners(
        &self,
        owners: &mut HashMap<String, Owner>,
        ids: &[&str],
        query: impl Fn(&str) -> String,
    ) -> Result<(), StoreError> {
        for ids in pieces(ids) {
            let query = query(&sql::places(1, ids.len()));
            let query = sql::query_as(AssertSqlSafe(query)).bind_each(ids);
            let found: Vec<Owned> = query.fetch_all(&self.reader).await?;
            owners.extend(found.into_iter().filter_map(|Owned { id, project_id, organization_id }| {
                Some((id, Owner { project: project_id?, organization: organization_id }))
            }));
        }
        Ok(())
    }
}

/// Takes a batch's number as the last one of its source. `false`: one that is not lower was taken.
pub(crate) async fn advance(
    db: &mut Connection,
    (edge, source): (&str, &str),
    number: i64,
    at: i64,
) -> Result<bool, StoreError> {
    let query = "insert into usage_sources (edge, source, number, taken_at) values ($1, $2, $3, $4)
        on conflict (edge, source) do update set number = excluded.number, taken_at = excluded.taken_at
        where usage_sources.number < excluded.number";
    let advanced = sql::query(query).bind(edge).bind(source).bind(number).bind(at).execute(db).await?;
    Ok(advanced > 0)
}

/// Forgets those of an edge's sources that it has not used for the longest time, but for so many.
pub(crate) async fn keep_sources(db: &mut Connection, edge: &str, most: i64) -> Result<(), StoreError> {
    let query = "delete from usage_sources where edge = $1 and taken_at <
        (select taken_at from usage_sources where edge = $1 order by taken_at desc limit 1 offset $2)";
    sql::query(query).bind(edge).bind(most - 1).execute(db).await?;
    Ok(())
}

/// An edge was removed.
pub(crate) async fn forget_edge(db: &mut Connection, edge: &str) -> Result<(), StoreError> {
    sql::query("delete from usage_sources where edge = $1").bind(edge).execute(db).await?;
    Ok(())
}

/// An organization was removed, which has no projects any more.
pub(crate) async fn forget_organization(db: &mut Connection, id: &str) -> Result<(), StoreError> {
    sql::query("delete from usage_days where subject = $1").bind(id).execute(db).await?;
    Ok(())
}

/// Remembers for a day whose a function or a site is that goes: edges may tell later for the first time that it was used.
pub(crate) async fn remember(
    db: &mut Connection,
    subject: &str,
    project: &str,
    day: i64,
) -> Result<(), StoreError> {
    let query = "insert into usage_days (subject, day, project_id, organization_id, requests, errors, cpu_us, wall_us, sent_bytes)
        select $1, cast($2 as bigint), p.id, p.organization_id, 0, 0, 0, 0, 0 from projects p where p.id = $3
        on conflict (subject, day) do nothing";
    sql::query(query).bind(subject).bind(day).bind(project).execute(db).await?;
    Ok(())
}

/// Adds rows, each of another subject or time, and in the order of these: two servers that add at once then wait for each other in turn.
pub(crate) async fn add(db: &mut Connection, per: Per, rows: &[UsageRow]) -> Result<(), StoreError> {
    let (table, column) = (per.table(), per.column());
    let owners = if per == Per::Day { ", project_id, organization_id" } else { "" };
    let width = if per == Per::Day { 9 } else { 7 };
    let sum = |count: &str| {
        let than = format!("{MOST} - excluded.{count}");
        format!(
            "{count} = case when {table}.{count} > {than} then {MOST} else {table}.{count} + excluded.{count} end"
        )
    };
    let sums = ["requests", "errors", "cpu_us", "wall_us", "sent_bytes"].map(sum).join(", ");
    for rows in pieces(rows) {
        let query = format!(
            "insert into {table} (subject, {column}, requests, errors, cpu_us, wall_us, sent_bytes{owners})
             values {} on conflict (subject, {column}) do update set {sums}",
            sql::rows(rows.len(), width)
        );
        let mut query = sql::query(AssertSqlSafe(query));
        for UsageRow { subject, at, owner, usage } in rows {
            let Usage { requests, errors, cpu_us, wall_us, sent_bytes } = usage;
            query = query.bind(subject).bind(*at);
            for count in [requests, errors, cpu_us, wall_us, sent_bytes] {
                query = query.bind(i64::try_from(*count).unwrap_or(MOST).min(MOST));
            }
            if per == Per::Day {
                query = query.bind(owner.as_ref().map(|owner| owner.project.as_str()));
                query = query.bind(owner.as_ref().and_then(|owner| owner.organization.as_deref()));
            }
        }
        query.execute(&mut *db).await?;
    }
    Ok(())
}

/// Forgets hours or days before this one, a step of them. How many rows that were; fewer than [`STEP`]: that was all.
pub(crate) async fn forget(db: &mut Connection, per: Per, before: i64) -> Result<Forgotten, StoreError> {
    let (table, column) = (per.table(), per.column());
    let query = format!(
        "delete from {table} where (subject, {column}) in
         (select subject, {column} from {table} where {column} < $1 order by {column} limit $2)"
    );
    step(db, query, before).await
}

/// Forgets sources that were not heard of since then, likewise.
pub(crate) async fn forget_sources(db: &mut Connection, before: i64) -> Result<Forgotten, StoreError> {
    let query = "delete from usage_sources where (edge, source) in
        (select edge, source from usage_sources where taken_at < $1 order by taken_at limit $2)";
    step(db, query.to_owned(), before).await
}

/// What came of a step.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Forgotten {
    pub rows: u64,
    pub is_all: bool,
}

async fn step(db: &mut Connection, query: String, before: i64) -> Result<Forgotten, StoreError> {
    let rows = sql::query(AssertSqlSafe(query)).bind(before).bind(STEP).execute(db).await?;
    Ok(Forgotten { rows, is_all: i64::try_from(rows).is_ok_and(|rows| rows < STEP) })
}

/// In pieces of few sizes.
fn pieces<T>(mut all: &[T]) -> impl Iterator<Item = &[T]> {
    std::iter::from_fn(move || {
        let size = SIZES.into_iter().find(|size| *size <= all.len())?;
        let (piece, rest) = all.split_at(size);
        all = rest;
        Some(piece)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_all_and_of_few_sizes() {
        let all: Vec<u32> = (0..1_003).collect();
        let found: Vec<&[u32]> = pieces(&all).collect();
        assert_eq!(found.concat(), all);
        assert!(found.iter().all(|piece| SIZES.contains(&piece.len())) && found.len() < 20);
        assert_eq!(pieces::<u32>(&[]).count(), 0);
    }
}
