//! What functions and sites used: taken from edges, each batch once, added up by hours and days, and by days for their projects and
//! organizations; and forgotten after a while.

pub(crate) mod read;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use af_contract::edge::{USAGE_PAUSE, USAGE_RECORDS, UsageBatch, UsageTaken};
use af_contract::usage::{HOUR, Usage, UsageRecord, hour_of};
use tracing::{info, warn};

use super::projects::commit;
use super::reports::Reporter;
use super::{Error, State, now};
use crate::store::Connection;
use crate::store::usage::{self, Forgotten, Owner, Per, UsageRow};

/// A day, milliseconds.
pub(super) const DAY: i64 = 24 * HOUR;

/// Hours are kept for so long, milliseconds: two months, for who looks at the one before.
pub(super) const HOURS_KEPT: i64 = 62 * DAY;

/// Days likewise: a year, and the month before.
pub(super) const DAYS_KEPT: i64 = 400 * DAY;

/// Sources of which nothing is heard are known for so long, milliseconds. An edge that was away for longer would have what it sends
/// again counted again, if that was taken and the answer was lost.
const SOURCES_KEPT: i64 = 90 * DAY;

/// Sources of an edge, each of them one of its starts; it sends what it has of the oldest first.
const SOURCES: i64 = 1_000;

/// Characters of a source, which are ASCII.
const SOURCE: usize = 64;

/// An edge that asked within so long is there, milliseconds.
const LATELY: i64 = 5 * 60 * 1_000;

/// For each edge that is there, another one waits so long between its batches, milliseconds: together they send 20 a second.
const PAUSE_PER_EDGE: u64 = 50;

/// An edge waits no longer than this, milliseconds: what it used shows up by then.
const LONGEST_PAUSE: u64 = 5 * 60 * 1_000;

/// What a batch adds.
#[derive(Debug, Default, PartialEq, Eq)]
struct Sums {
    hours: Vec<UsageRow>,
    days: Vec<UsageRow>,
    /// Records of what nobody knows.
    unknown: usize,
    /// Records of days that are kept no more.
    old: usize,
}

/// Adds what an edge counted. A batch counts once, however often it is sent, and all of it or nothing.
///
/// # Errors
/// When it is no batch, or the database fails; then it may be sent again, unless the database refuses what it says
/// ([`Error::is_final`]).
pub async fn take(state: &State, edge: Reporter<'_>, batch: &UsageBatch) -> Result<UsageTaken, Error> {
    let number = checked(batch)?;
    let now = now();
    let taken = UsageTaken { pause_ms: pause(state.store.edges_seen_since(now - LATELY).await?) };
    let last = state.store.usage_taken(edge.id, &batch.source).await?;
    if last.is_some_and(|last| last >= number) {
        return Ok(taken);
    }
    // Whose something is never changes, so it can be looked up before.
    let subjects: BTreeSet<&str> = batch.records.iter().map(|record| record.subject.as_str()).collect();
    let owners = state.store.owners(&Vec::from_iter(subjects)).await?;
    let sums = Sums::of(&batch.records, &owners, now);
    let source = Source { edge: edge.id, source: &batch.source, number, is_new: last.is_none() };
    match add(state, source, &sums, now).await {
        Ok(true) if sums.unknown + sums.old > 0 => {
            let Sums { unknown, old, .. } = sums;
            warn!(
                edge = edge.id,
                unknown, old, "an edge counted what nobody knows, or what is too old: it is left out"
            );
        }
        Ok(_) => {}
        Err(error) => {
            if error.is_final() {
                let source = std::error::Error::source(&error).map(ToString::to_string);
                warn!(edge = edge.id, %error, source, "the database refuses what an edge counted");
            }
            return Err(error);
        }
    }
    Ok(taken)
}

/// Whose batch.
#[derive(Clone, Copy)]
struct Source<'b> {
    edge: &'b str,
    source: &'b str,
    number: i64,
    /// Nothing of it was taken a moment ago.
    is_new: bool,
}

/// Returns whether anything was added: not if another server, or another request, was faster.
async fn add(state: &State, batch: Source<'_>, sums: &Sums, now: i64) -> Result<bool, Error> {
    // One at a time: batches of many edges leave the connections to others.
    let _turn = state.counting.acquire().await.map_err(|closed| Error::Internal(Box::new(closed)))?;
    let mut db = state.store.begin_counting().await?;
    if !usage::advance(&mut db, (batch.edge, batch.source), batch.number, now).await? {
        return Ok(false);
    }
    if batch.is_new {
        usage::keep_sources(&mut db, batch.edge, SOURCES).await?;
    }
    usage::add(&mut db, Per::Hour, &sums.hours).await?;
    usage::add(&mut db, Per::Day, &sums.days).await?;
    commit(db).await?;
    Ok(true)
}

/// Remembers whose a function or a site is that goes with this transaction: edges may tell later, and for the first time, that it was used.
pub(super) async fn remember(db: &mut Connection, subject: &str, project: &str) -> Result<(), Error> {
    Ok(usage::remember(db, subject, project, day_of(now())).await?)
}

/// The batch's number.
fn checked(batch: &UsageBatch) -> Result<i64, Error> {
    let UsageBatch { source, number, records } = batch;
    let is_source =
        (1..=SOURCE).contains(&source.len()) && source.bytes().all(|byte| byte.is_ascii_alphanumeric());
    let number = i64::try_from(*number).ok();
    if !is_source || records.len() > USAGE_RECORDS || !records.iter().all(UsageRecord::is_valid) {
        let detail = format!(
            "a batch has a source of 1 to {SOURCE} letters and digits, and at most {USAGE_RECORDS} records, each of an hour of UTC"
        );
        return Err(Error::invalid("invalid_usage", detail));
    }
    number.ok_or_else(|| Error::invalid("invalid_usage", "the number of a batch is less than 2^63"))
}

fn pause(edges: i64) -> u64 {
    let least = u64::try_from(USAGE_PAUSE.as_millis()).unwrap_or(LONGEST_PAUSE);
    let edges = u64::try_from(edges).unwrap_or_default();
    edges.saturating_mul(PAUSE_PER_EDGE).clamp(least, LONGEST_PAUSE)
}

impl Sums {
    /// Rows in the order of their subjects and times.
    fn of(records: &[UsageRecord], owners: &HashMap<String, Owner>, now: i64) -> Self {
        let mut sums = Self::default();
        let mut hours = BTreeMap::<(&str, i64), Usage>::new();
        let mut days = BTreeMap::<(&str, i64), (Option<&Owner>, Usage)>::new();
        let this = hour_of(now);
        for UsageRecord { subject, hour, usage } in records.iter().filter(|record| !record.usage.is_empty()) {
            let Some(owner) = owners.get(subject) else {
                sums.unknown += 1;
                continue;
            };
            // An edge's clock may be an hour ahead. What it counts by one that is wrong is used now.
            let hour = if *hour > this + HOUR { this } else { *hour };
            if day_of(hour) < day_of(now) - DAYS_KEPT {
                sums.old += 1;
                continue;
            }
            if hour >= this - HOURS_KEPT {
                hours.entry((subject, hour)).or_default().add(usage);
            }
            let whole = [Some(owner.project.as_str()), owner.organization.as_deref()];
            let (_, of_subject) =
                days.entry((subject, day_of(hour))).or_insert((Some(owner), Usage::default()));
            of_subject.add(usage);
            for whole in whole.into_iter().flatten() {
                days.entry((whole, day_of(hour))).or_default().1.add(usage);
            }
        }
        let row = |(subject, at): (&str, i64), owner: Option<&Owner>, usage| UsageRow {
            subject: subject.to_owned(),
            at,
            owner: owner.cloned(),
            usage,
        };
        sums.hours = hours.into_iter().map(|(key, usage)| row(key, None, usage)).collect();
        sums.days = days.into_iter().map(|(key, (owner, usage))| row(key, owner, usage)).collect();
        sums
    }
}

/// Forgets what is kept no more. How many rows that were.
///
/// # Errors
/// When the database fails; what is forgotten by then stays so.
pub(crate) async fn compact(state: &State) -> Result<u64, Error> {
    let now = now();
    let (hours, days) = (hour_of(now) - HOURS_KEPT, day_of(now) - DAYS_KEPT);
    let mut forgotten = 0;
    for (per, before) in [(Some(Per::Hour), hours), (Some(Per::Day), days), (None, now - SOURCES_KEPT)] {
        loop {
            let mut db = state.store.begin_counting().await?;
            let Forgotten { rows, is_all } = match per {
                Some(per) => usage::forget(&mut db, per, before).await?,
                None => usage::forget_sources(&mut db, before).await?,
            };
            commit(db).await?;
            forgotten += rows;
            if is_all {
                break;
            }
        }
    }
    Ok(forgotten)
}

/// As [`compact`], and says so.
pub(super) async fn tidy(state: &State) {
    match compact(state).await {
        Ok(0) => {}
        Ok(rows) => info!(rows, "forgot what was used long ago"),
        Err(error) => warn!(%error, "what was used long ago is kept until the next time"),
    }
}

/// When the day of UTC began that a moment is in, both milliseconds.
pub(super) const fn day_of(at: i64) -> i64 {
    at - at.rem_euclid(DAY)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 20_000 * DAY + 5 * HOUR + 7;

    fn record(subject: &str, hour: i64, requests: u64) -> UsageRecord {
        UsageRecord { subject: subject.into(), hour, usage: Usage { requests, ..Usage::default() } }
    }

    fn owners() -> HashMap<String, Owner> {
        let owner = |project: &str| Owner { project: project.into(), organization: Some("org_1".into()) };
        HashMap::from([("fn_1".into(), owner("prj_1")), ("site_1".into(), owner("prj_2"))])
    }

    fn rows(rows: &[UsageRow]) -> Vec<(&str, i64, u64)> {
        rows.iter().map(|row| (row.subject.as_str(), row.at, row.usage.requests)).collect()
    }

    #[test]
    fn what_is_used_is_added_up_for_its_owners_in_the_order_of_keys() {
        let this = hour_of(NOW);
        let day = day_of(NOW);
        let records = [
            record("site_1", this, 1),
            record("fn_1", this, 2),
            record("fn_1", this - HOUR, 4),
            record("fn_1", this - DAY, 8),
            record("fn_1", this, 16),
            record("fn_2", this, 32),
            record("fn_1", this, 0),
        ];
        let sums = Sums::of(&records, &owners(), NOW);
        let hours =
            [("fn_1", this - DAY, 8), ("fn_1", this - HOUR, 4), ("fn_1", this, 18), ("site_1", this, 1)];
        assert_eq!(rows(&sums.hours), hours);
        let days = [
            ("fn_1", day - DAY, 8),
            ("fn_1", day, 22),
            ("org_1", day - DAY, 8),
            ("org_1", day, 23),
            ("prj_1", day - DAY, 8),
            ("prj_1", day, 22),
            ("prj_2", day, 1),
            ("site_1", day, 1),
        ];
        assert_eq!(rows(&sums.days), days);
        assert_eq!((sums.unknown, sums.old), (1, 0));
        let owned: Vec<&str> =
            sums.days.iter().filter(|row| row.owner.is_some()).map(|row| row.subject.as_str()).collect();
        assert_eq!(owned, ["fn_1", "fn_1", "site_1"]);
    }

    #[test]
    fn clocks_that_are_wrong_count_now_and_what_is_kept_no_more_does_not() {
        let this = hour_of(NOW);
        let records = [
            record("fn_1", this + HOUR, 1),
            record("fn_1", this + 2 * HOUR, 2),
            record("fn_1", this - HOURS_KEPT, 4),
            record("fn_1", this - HOURS_KEPT - HOUR, 8),
            record("fn_1", day_of(NOW) - DAYS_KEPT, 16),
            record("fn_1", day_of(NOW) - DAYS_KEPT - HOUR, 32),
        ];
        let sums = Sums::of(&records, &owners(), NOW);
        let hours = [("fn_1", this - HOURS_KEPT, 4), ("fn_1", this, 2), ("fn_1", this + HOUR, 1)];
        assert_eq!(rows(&sums.hours), hours);
        let all: u64 =
            sums.days.iter().filter(|row| row.subject == "org_1").map(|row| row.usage.requests).sum();
        assert_eq!((all, sums.old), (31, 1));
    }

    #[test]
    fn where_there_are_many_edges_each_comes_less_often() {
        assert_eq!((pause(0), pause(200), pause(201)), (10_000, 10_000, 10_050));
        assert_eq!((pause(1_000), pause(i64::MAX)), (50_000, LONGEST_PAUSE));
    }
}
