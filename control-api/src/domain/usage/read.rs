//! Reading what was used: whose, from when to when, in days or hours of UTC.

use af_contract::usage::{HOUR, Usage};
use chrono::{DateTime, Datelike};

use super::super::access::{self, Noun};
use super::super::{Actor, Error, Page, Start, State, now};
use super::{DAY, DAYS_KEPT, HOURS_KEPT};
pub(crate) use crate::store::usage::{Parts, Per};
use crate::store::usage::{parts, times, total, totals};

/// The first millisecond of the year 10000: clients cannot write down what is later.
const LATEST: i64 = 253_402_300_800_000;

/// Whose.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Of<'a> {
    /// What all of its projects used, those that are gone included.
    Organization(&'a str),
    /// What all of its functions and sites used, likewise.
    Project(&'a str),
    /// By its id.
    Function(&'a str),
    /// By its id.
    Site(&'a str),
}

/// From when to when, as it is asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked<'a> {
    /// Milliseconds; none: the beginning of this month.
    pub from: Option<i64>,
    /// Milliseconds; none: now.
    pub to: Option<i64>,
    /// `day` or `hour`; none: days.
    pub per: Option<&'a str>,
    /// Which page.
    pub start: Start<'a>,
}

/// From when to when, as it counts: whole days or hours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Period {
    /// Milliseconds, included.
    pub from: i64,
    /// Milliseconds, excluded.
    pub to: i64,
    /// In which parts.
    pub per: Per,
}

/// What was used in a period.
#[derive(Debug)]
pub(crate) struct Used {
    /// The period.
    pub period: Period,
    /// All of it.
    pub total: Usage,
    /// The days or hours in which something was: when each began.
    pub page: Page<(i64, Usage)>,
}

/// Something that belongs to somebody, and what it used.
#[derive(Debug)]
pub(crate) struct Part {
    /// `prj_…`, `fn_…` or `site_…`
    pub id: String,
    /// As its owner calls it.
    pub name: String,
    /// In the whole period.
    pub usage: Usage,
}

/// What somebody or something used.
///
/// # Errors
/// When the actor may not see it, or the period is none.
pub(crate) async fn read(state: &State, actor: &Actor, of: Of<'_>, asked: Asked<'_>) -> Result<Used, Error> {
    let subject = may_see(state, actor, of).await?;
    let period = asked.period(of, now())?;
    let Period { from, to, per } = period;
    let length = length(per);
    let is_one = |at: i64| (from..to).contains(&at) && at % length == 0;
    let (after, limit) = asked.start.by_time(is_one)?;
    let first = after.map_or(from, |after| after + length);
    let mut db = state.store.snapshot().await?;
    let total = total(&mut db, per, subject, (from, to)).await?;
    let rows = times(&mut db, per, subject, (first, to), limit).await?;
    Ok(Used { period, total, page: Page::of(rows, limit, |(at, _)| at.to_string()) })
}

/// What each project of an organization, or each function or site of a project, used, in the order of their ids: those that there are now.
///
/// # Errors
/// As for [`read`].
pub(crate) async fn list(
    state: &State,
    actor: &Actor,
    (kind, owner): (Parts, &str),
    asked: Asked<'_>,
) -> Result<(Period, Page<Part>), Error> {
    let (of, prefix) = match kind {
        Parts::Projects => (Of::Organization(owner), "prj"),
        Parts::Functions => (Of::Project(owner), "fn"),
        Parts::Sites => (Of::Project(owner), "site"),
    };
    may_see(state, actor, of).await?;
    let period = asked.period(of, now())?;
    let (after, limit) = asked.start.by_id(prefix)?;
    let mut db = state.store.snapshot().await?;
    let found = parts(&mut db, kind, owner, after, limit).await?;
    let ids: Vec<&str> = found.iter().map(|(id, _)| id.as_str()).collect();
    let mut used = totals(&mut db, &ids, (period.from, period.to)).await?;
    let part = |(id, name): (String, String)| {
        let usage = used.remove(&id).unwrap_or_default();
        Part { id, name, usage }
    };
    Ok((period, Page::of(found.into_iter().map(part).collect(), limit, |part| part.id.clone())))
}

/// Its id.
async fn may_see<'a>(state: &State, actor: &Actor, of: Of<'a>) -> Result<&'a str, Error> {
    let needed = Noun::Usage.read();
    match of {
        Of::Organization(id) => access::organization(state, actor, id, needed).await.map(|_| id),
        Of::Project(id) => access::project(state, actor, id, needed).await.map(|_| id),
        Of::Function(id) => access::function(state, actor, id, needed).await.map(|_| id),
        Of::Site(id) => access::site(state, actor, id, needed).await.map(|_| id),
    }
}

/// Milliseconds.
pub(crate) const fn length(per: Per) -> i64 {
    match per {
        Per::Hour => HOUR,
        Per::Day => DAY,
    }
}

impl Asked<'_> {
    fn period(self, of: Of<'_>, now: i64) -> Result<Period, Error> {
        let invalid = |detail: &str| Err(Error::invalid("invalid_usage_period", detail));
        let per = match (self.per, of) {
            (None | Some("day"), _) => Per::Day,
            (Some("hour"), Of::Function(_) | Of::Site(_)) => Per::Hour,
            (Some("hour"), _) => {
                return invalid(
                    "hours are kept of functions and sites only; ask for one of these, or leave per out",
                );
            }
            _ => return invalid("per is day, or hour for functions and sites"),
        };
        let (from, to) = (self.from.unwrap_or_else(|| month_of(now)), self.to.unwrap_or(now));
        if !(0..LATEST).contains(&from) || !(0..LATEST).contains(&to) {
            return invalid("from and to are milliseconds since 1970 UTC, and before the year 10000");
        }
        if to < from {
            return invalid(
                "to is before from; from is the beginning of this month where it is left out, and to is now",
            );
        }
        let length = length(per);
        let from = from - from % length;
        // What is a moment is the day or hour that it is in.
        let last = to.max(from + 1) - 1;
        let to = last - last % length + length;
        let (most, words) = match per {
            Per::Hour => (HOURS_KEPT, "62 days, for which hours are kept"),
            Per::Day => (DAYS_KEPT, "400 days, for which days are kept"),
        };
        if to - from > most {
            return invalid(&format!("this is more than {words}; ask for less at once"));
        }
        Ok(Period { from, to, per })
    }
}

/// When the month of UTC began that a moment is in, both milliseconds.
fn month_of(at: i64) -> i64 {
    let month = DateTime::from_timestamp_millis(at).and_then(|at| at.date_naive().with_day(1));
    month.map_or(0, |month| i64::from(month.to_epoch_days()) * DAY)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2024-02-29T10:30:00Z
    const NOW: i64 = 1_709_202_600_000;

    fn period(per: Option<&str>, from: Option<i64>, to: Option<i64>) -> Result<Period, Error> {
        Asked { from, to, per, start: Start::default() }.period(Of::Function("fn_1"), NOW)
    }

    #[test]
    fn a_period_is_whole_days_or_hours_and_begins_with_the_month() {
        let first = 1_706_745_600_000;
        let day = NOW - NOW % DAY;
        assert_eq!(period(None, None, None).unwrap(), Period { from: first, to: day + DAY, per: Per::Day });
        let hours = period(Some("hour"), Some(NOW - HOUR), None).unwrap();
        let hour = NOW - NOW % HOUR;
        assert_eq!(hours, Period { from: hour - HOUR, to: hour + HOUR, per: Per::Hour });
        // What ends where a day does ends there; what is a moment is its day.
        let exact = Period { from: day - DAY, to: day, per: Per::Day };
        assert_eq!(period(None, Some(day - DAY), Some(day)).unwrap(), exact);
        assert_eq!(period(None, Some(day - 1), Some(day - 1)).unwrap(), exact);
        assert_eq!(period(None, Some(day - DAY), Some(day - DAY)).unwrap(), exact);
        assert_eq!(month_of(first), first);
        assert_eq!(month_of(first - 1), first - 31 * DAY);
    }

    #[test]
    fn what_is_no_period_is_refused() {
        assert!(period(None, Some(NOW), Some(NOW - 1)).is_err());
        assert!(period(None, Some(-1), None).is_err());
        assert!(period(None, None, Some(i64::MAX)).is_err());
        assert!(period(Some("week"), None, None).is_err());
        assert!(period(None, Some(NOW - 399 * DAY), None).is_ok());
        assert!(period(None, Some(NOW - 400 * DAY), None).is_err());
        assert!(period(Some("hour"), Some(NOW - 62 * DAY + HOUR), None).is_ok());
        assert!(period(Some("hour"), Some(NOW - 62 * DAY - HOUR), None).is_err());
        let asked = Asked { from: None, to: None, per: Some("hour"), start: Start::default() };
        assert!(asked.period(Of::Project("prj_1"), NOW).is_err());
    }
}
