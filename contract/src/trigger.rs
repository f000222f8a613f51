//! Triggers: when a function is called without a request from outside, and at which path.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, SecondsFormat, Utc};
use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use serde::{Deserialize, Serialize};

use crate::limits::{CRON_BYTES, TRIGGER_PATH_BYTES, TRIGGERS};

/// Tells a function why it is called. Only the edge itself can send it: what a client sends is dropped.
pub const TRIGGER_HEADER: &str = "af-trigger";

/// Tells a function for which moment it is called, in RFC 3339; as [`TRIGGER_HEADER`] only from the edge.
pub const SCHEDULED_AT_HEADER: &str = "af-scheduled-at";

/// Moments in UTC, to the minute: five fields (minute, hour, day of the month, month, day of the week) or one of
/// `@hourly`, `@daily`, `@weekly`, `@monthly` and `@yearly`. One space between fields.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CronExpression(String);

/// A path with an optional query, as a request's first line has it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TriggerPath(String);

/// Calls a function at a path whenever the time comes. As text: `*/5 * * * *=/path`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trigger {
    /// When.
    pub cron: CronExpression,
    /// Where.
    pub path: TriggerPath,
}

/// A trigger's time has come: what the control plane tells an edge.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tick {
    /// `fn_…`
    pub function: String,
    /// `dep_…`: whose schedule it is.
    pub deployment: String,
    /// Where the function answers, with the trigger's path.
    pub url: String,
    /// The moment that it is for, milliseconds since 1970 UTC.
    pub scheduled_at: i64,
}

/// What a function answered to a tick.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answered {
    /// Of the response; an edge that had none tells the one that a client would have got.
    pub status: Option<u16>,
    /// Why there was no response, or not all of it.
    pub error: Option<String>,
}

/// Why triggers are refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TriggerError {
    /// Not a cron expression.
    #[error(
        "{text:?} is not a cron expression: {reason}; use five fields in UTC such as \"*/5 * * * *\", or @hourly, @daily, @weekly, @monthly, @yearly"
    )]
    Cron {
        /// What was given.
        text: String,
        /// The parser's word.
        reason: String,
    },
    /// Such as the 30th of February.
    #[error("{0:?} names a moment that never comes")]
    Never(String),
    /// Not a path.
    #[error(
        "{0:?} is not a trigger's path; it begins with / and has at most {TRIGGER_PATH_BYTES} bytes, others than letters, digits and -._~!$&'()*+,;=:@/? as %XX"
    )]
    Path(String),
    /// The text of a trigger without its path.
    #[error("{0:?} is not a trigger; one looks like \"*/5 * * * *=/path\"")]
    Form(String),
    /// More than [`TRIGGERS`].
    #[error("{0} triggers are too many; a function may have at most {TRIGGERS}")]
    Count(usize),
    /// The same twice.
    #[error("the trigger \"{0}\" is there twice")]
    Twice(Trigger),
}

impl CronExpression {
    /// Checks an expression and puts one space between its fields.
    ///
    /// # Errors
    /// When it is none, or names no moment that ever comes.
    pub fn parse(text: &str) -> Result<Self, TriggerError> {
        if text.len() > CRON_BYTES {
            let reason = format!("it has more than {CRON_BYTES} bytes");
            return Err(TriggerError::Cron { text: shortened(text), reason });
        }
        let text = text.split_ascii_whitespace().collect::<Vec<_>>().join(" ");
        let refused = |reason: String| TriggerError::Cron { text: shortened(&text), reason };
        if !text.is_ascii() {
            return Err(refused("it has characters outside of ASCII".into()));
        }
        parser().parse(&text).map_err(|error| refused(error.to_string().trim_end_matches('.').to_owned()))?;
        let expression = Self(text);
        match expression.next_after(0) {
            Some(_) => Ok(expression),
            None => Err(TriggerError::Never(expression.0)),
        }
    }

    /// The first moment after `millis`, both in milliseconds since 1970 UTC. `None`: there is none in this calendar.
    #[must_use]
    pub fn next_after(&self, millis: i64) -> Option<i64> {
        let next = self.cron()?.find_next_occurrence(&utc(millis)?, false).ok()?;
        Some(next.timestamp_millis())
    }

    /// The last moment until `millis`, which may be one itself.
    #[must_use]
    pub fn last_until(&self, millis: i64) -> Option<i64> {
        // To the second: the search compares whole seconds and keeps the fraction.
        let whole = millis - millis.rem_euclid(1_000);
        let last = self.cron()?.find_previous_occurrence(&utc(whole)?, true).ok()?;
        Some(last.timestamp_millis())
    }

    /// The expression as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Made when it is needed: it takes 10 KB, and an edge that knows a manifest never asks.
    fn cron(&self) -> Option<Cron> {
        parser().parse(&self.0).ok()
    }
}

impl TriggerPath {
    /// Checks a path.
    ///
    /// # Errors
    /// When a request could not have it, or it is too long.
    pub fn parse(text: &str) -> Result<Self, TriggerError> {
        // RFC 3986, sections 3.3 and 3.4.
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/?%".contains(&b);
        let fits = text.starts_with('/') && text.len() <= TRIGGER_PATH_BYTES && text.bytes().all(allowed);
        if fits { Ok(Self(text.to_owned())) } else { Err(TriggerError::Path(shortened(text))) }
    }

    /// The path as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Answered {
    /// Nothing.
    #[must_use]
    pub fn failed(error: &str) -> Self {
        Self { status: None, error: Some(error.to_owned()) }
    }

    /// Whether the function did what it was called for.
    #[must_use]
    pub fn is_success(&self) -> bool {
        self.error.is_none() && self.status.is_some_and(|status| status < 500)
    }
}

/// Milliseconds since 1970 UTC as RFC 3339, to the second.
#[must_use]
pub fn rfc3339(millis: i64) -> String {
    utc(millis).unwrap_or_default().to_rfc3339_opts(SecondsFormat::Secs, true)
}

/// Checks what a function may have of them.
///
/// # Errors
/// When they are too many, or one is there twice.
pub fn check(triggers: &[Trigger]) -> Result<(), TriggerError> {
    if triggers.len() > TRIGGERS {
        return Err(TriggerError::Count(triggers.len()));
    }
    let mut sorted: Vec<&Trigger> = triggers.iter().collect();
    sorted.sort();
    let mut pairs = sorted.iter().zip(sorted.iter().skip(1));
    match pairs.find(|(one, next)| one == next) {
        Some((twice, _)) => Err(TriggerError::Twice((*twice).clone())),
        None => Ok(()),
    }
}

fn parser() -> CronParser {
    CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build()
}

fn utc(millis: i64) -> Option<DateTime<Utc>> {
    DateTime::from_timestamp_millis(millis)
}

fn shortened(text: &str) -> String {
    text.chars().take(80).collect()
}

impl FromStr for Trigger {
    type Err = TriggerError;

    fn from_str(text: &str) -> Result<Self, TriggerError> {
        // No expression has an equals sign; a path may.
        let (cron, path) = text.split_once('=').ok_or_else(|| TriggerError::Form(shortened(text)))?;
        Ok(Self { cron: CronExpression::parse(cron)?, path: TriggerPath::parse(path)? })
    }
}

impl fmt::Display for Trigger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.cron.as_str(), self.path.as_str())
    }
}

macro_rules! text {
    ($name:ident) => {
        impl TryFrom<String> for $name {
            type Error = TriggerError;

            fn try_from(text: String) -> Result<Self, TriggerError> {
                Self::parse(&text)
            }
        }

        impl FromStr for $name {
            type Err = TriggerError;

            fn from_str(text: &str) -> Result<Self, TriggerError> {
                Self::parse(text)
            }
        }

        impl From<$name> for String {
            fn from(value: $name) -> Self {
                value.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

text!(CronExpression);
text!(TriggerPath);

#[cfg(test)]
mod tests {
    use super::*;

    fn millis(text: &str) -> i64 {
        DateTime::parse_from_rfc3339(text).unwrap().timestamp_millis()
    }

    #[test]
    fn the_next_moment_is_the_first_one_later() {
        for (cron, from, next) in [
            ("* * * * *", "2026-01-01T00:00:00Z", "2026-01-01T00:01:00Z"),
            ("* * * * *", "2026-01-01T00:00:59.999Z", "2026-01-01T00:01:00Z"),
            ("*/5 * * * *", "2026-01-01T00:05:00.001Z", "2026-01-01T00:10:00Z"),
            ("0 3 * * *", "2026-01-01T03:00:00Z", "2026-01-02T03:00:00Z"),
            ("30 9 * * mon-fri", "2026-01-02T10:00:00Z", "2026-01-05T09:30:00Z"),
            ("0 0 1 jan,JUL *", "2026-01-01T00:00:00Z", "2026-07-01T00:00:00Z"),
            ("0 0 29 2 *", "2026-01-01T00:00:00Z", "2028-02-29T00:00:00Z"),
            // A day of the month or one of the week, as cron has always had it.
            ("0 0 13 * 5", "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"),
            ("@hourly", "2026-12-31T23:59:59Z", "2027-01-01T00:00:00Z"),
            ("@weekly", "2026-01-01T00:00:00Z", "2026-01-04T00:00:00Z"),
        ] {
            let found = CronExpression::parse(cron).unwrap().next_after(millis(from));
            assert_eq!(found, Some(millis(next)), "{cron} after {from}");
        }
    }

    #[test]
    fn the_last_moment_may_be_now() {
        for (cron, until, last) in [
            ("* * * * *", "2026-01-01T00:00:00Z", "2026-01-01T00:00:00Z"),
            ("* * * * *", "2026-01-01T00:00:59.999Z", "2026-01-01T00:00:00Z"),
            ("0 3 * * *", "2026-01-01T02:59:59Z", "2025-12-31T03:00:00Z"),
        ] {
            let found = CronExpression::parse(cron).unwrap().last_until(millis(until));
            assert_eq!(found, Some(millis(last)), "{cron} until {until}");
        }
    }

    #[test]
    fn other_texts_are_refused() {
        let long = format!("{} * * * *", "0,".repeat(CRON_BYTES));
        for text in [
            "",
            "*",
            "* * * *",
            "* * * * * *",
            "*/5 * * * * * *",
            "60 * * * *",
            "* 24 * * *",
            "* * 0 * *",
            "* * * 13 *",
            "* * * * 8",
            "@reboot",
            "@",
            "a b c d e",
            "5-1 * * * *",
            "*/0 * * * *",
            "é * * * *",
            &long,
        ] {
            assert!(matches!(CronExpression::parse(text), Err(TriggerError::Cron { .. })), "{text}");
        }
        for text in ["0 0 30 2 *", "0 0 31 4,6,9,11 *"] {
            assert_eq!(CronExpression::parse(text), Err(TriggerError::Never(text.into())));
        }
        for path in ["", "tick", "/a b", "/a#b", "/\"", "/ü", &format!("/{}", "a".repeat(TRIGGER_PATH_BYTES))]
        {
            assert!(matches!(TriggerPath::parse(path), Err(TriggerError::Path(_))), "{path}");
        }
    }

    #[test]
    fn a_trigger_is_read_as_it_is_shown() {
        let trigger: Trigger = " */5  *\t* * * =/tick?a=b".parse().unwrap();
        assert_eq!(trigger.to_string(), "*/5 * * * *=/tick?a=b");
        assert_eq!(serde_json::to_string(&trigger).unwrap(), r#"{"cron":"*/5 * * * *","path":"/tick?a=b"}"#);
        assert!(matches!("*/5 * * * *".parse::<Trigger>(), Err(TriggerError::Form(_))));
        assert_eq!(check(&[trigger.clone(), trigger.clone()]), Err(TriggerError::Twice(trigger.clone())));
        assert_eq!(check(&vec![trigger; TRIGGERS + 1]), Err(TriggerError::Count(TRIGGERS + 1)));
    }

    proptest::proptest! {
        #[test]
        fn moments_go_forward_by_a_minute_or_more(
            fields in "(\\*|[0-5]?[0-9]|[0-2][0-9]-[3-5][0-9]|[0-9],[1-5][0-9])(/[1-9][0-9]?)? (\\*|1?[0-9]|2-9)(/[1-9])? (\\*|[1-9]|[12][0-9]|L|15W)(/[1-9])? (\\*|[1-9]|jan|2-6)(/[1-9])? (\\*|[0-7]|mon-fri|tue#2|sunL)",
            from in 0i64..4_000_000_000_000,
        ) {
            if let Ok(cron) = CronExpression::parse(&fields) {
                let next = cron.next_after(from).unwrap();
                let then = cron.next_after(next).unwrap();
                proptest::prop_assert!(next > from && next % 60_000 == 0, "{} {}", from, next);
                proptest::prop_assert!(then >= next + 60_000);
                proptest::prop_assert_eq!(cron.last_until(next), Some(next));
                proptest::prop_assert_eq!(cron.last_until(then - 1), Some(next));
                proptest::prop_assert_eq!(CronExpression::parse(cron.as_str()).unwrap(), cron);
            }
        }

        #[test]
        fn any_text_is_a_trigger_or_refused(text in "\\PC{0,40}|[@a-z]{0,12}") {
            let _either = text.parse::<Trigger>().is_ok() || CronExpression::parse(&text).is_ok();
        }
    }
}
