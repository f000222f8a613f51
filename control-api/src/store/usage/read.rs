//! Reading what was used: never more rows than a time has days or hours, for each of a page.

use std::collections::HashMap;

use af_contract::usage::Usage;
use sqlx::AssertSqlSafe;

use super::super::sql::{self, Connection};
use super::super::{StoreError, unsigned};
use super::Per;

const SUMS: &str = "cast(coalesce(sum(requests), 0) as bigint) as requests, cast(coalesce(sum(errors), 0) as bigint) as errors,
    cast(coalesce(sum(cpu_us), 0) as bigint) as cpu_us, cast(coalesce(sum(wall_us), 0) as bigint) as wall_us,
    cast(coalesce(sum(sent_bytes), 0) as bigint) as sent_bytes";

/// What belongs to something, each with a sum of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Parts {
    /// Of an organization.
    Projects,
    /// Of a project.
    Functions,
    /// Of a project.
    Sites,
}

impl Parts {
    const fn table(self) -> &'static str {
        match self {
            Self::Projects => "projects",
            Self::Functions => "functions",
            Self::Sites => "sites",
        }
    }

    const fn owner(self) -> &'static str {
        match self {
            Self::Projects => "organization_id",
            Self::Functions | Self::Sites => "project_id",
        }
    }
}

#[derive(sqlx::FromRow)]
struct Counts {
    requests: i64,
    errors: i64,
    cpu_us: i64,
    wall_us: i64,
    sent_bytes: i64,
}

#[derive(sqlx::FromRow)]
struct Counted {
    at: i64,
    #[sqlx(flatten)]
    counts: Counts,
}

#[derive(sqlx::FromRow)]
struct Summed {
    subject: String,
    #[sqlx(flatten)]
    counts: Counts,
}

impl Counts {
    fn usage(self) -> Result<Usage, StoreError> {
        let Self { requests, errors, cpu_us, wall_us, sent_bytes } = self;
        Ok(Usage {
            requests: unsigned("count", requests)?,
            errors: unsigned("count", errors)?,
            cpu_us: unsigned("count", cpu_us)?,
            wall_us: unsigned("count", wall_us)?,
            sent_bytes: unsigned("count", sent_bytes)?,
        })
    }
}

/// All that a subject used from a time on, and before another.
pub(crate) async fn total(
    db: &mut Connection,
    per: Per,
    subject: &str,
    (from, to): (i64, i64),
) -> Result<Usage, StoreError> {
    let (table, column) = (per.table(), per.column());
    let query = format!("select {SUMS} from {table} where subject = $1 and {column} >= $2 and {column} < $3");
    let query = sql::query_as(AssertSqlSafe(query)).bind(subject).bind(from).bind(to);
    let counts: Counts = query.fetch_one(db).await?;
    counts.usage()
}

/// The same by hours or days, the earliest first: when each began.
pub(crate) async fn times(
    db: &mut Connection,
    per: Per,
    subject: &str,
    (from, to): (i64, i64),
    limit: i64,
) -> Result<Vec<(i64, Usage)>, StoreError> {
    let (table, column) = (per.table(), per.column());
    let query = format!(
        "select {column} as at, requests, errors, cpu_us, wall_us, sent_bytes from {table}
         where subject = $1 and {column} >= $2 and {column} < $3 order by {column} limit $4"
    );
    let query = sql::query_as(AssertSqlSafe(query)).bind(subject).bind(from).bind(to).bind(limit);
    let rows: Vec<Counted> = query.fetch_all(db).await?;
    rows.into_iter().map(|row| Ok((row.at, row.counts.usage()?))).collect()
}

/// Ids and names of what there is now, in the order of ids.
pub(crate) async fn parts(
    db: &mut Connection,
    parts: Parts,
    owner: &str,
    after: &str,
    limit: i64,
) -> Result<Vec<(String, String)>, StoreError> {
    let query = format!(
        "select id, name from {} where {} = $1 and id > $2 order by id limit $3",
        parts.table(),
        parts.owner()
    );
    let query = sql::query_as(AssertSqlSafe(query)).bind(owner).bind(after).bind(limit);
    Ok(query.fetch_all(db).await?)
}

/// What each of a page used, by days; what is missing used nothing.
pub(crate) async fn totals(
    db: &mut Connection,
    subjects: &[&str],
    (from, to): (i64, i64),
) -> Result<HashMap<String, Usage>, StoreError> {
    if subjects.is_empty() {
        return Ok(HashMap::new());
    }
    let query = format!(
        "select subject, {SUMS} from usage_days where day >= $1 and day < $2 and subject in ({}) group by subject",
        sql::places(3, subjects.len())
    );
    let query = sql::query_as(AssertSqlSafe(query)).bind(from).bind(to).bind_each(subjects);
    let rows: Vec<Summed> = query.fetch_all(db).await?;
    rows.into_iter().map(|row| Ok((row.subject, row.counts.usage()?))).collect()
}
