//! Values of options: what is none is refused with what it has to be.

use std::num::NonZeroU32;
use std::ops::RangeInclusive;
use std::time::UNIX_EPOCH;

use af_contract::{ContentId, ContentIdError, limits};

/// Milliseconds.
const DAY: i64 = 86_400_000;

/// A value, or what counts where there is none.
#[derive(Clone, Debug)]
pub enum Part<T> {
    Default,
    Is(T),
}

impl<T> Part<T> {
    /// None: what counts where there is none.
    pub fn value(self) -> Option<T> {
        match self {
            Self::Default => None,
            Self::Is(value) => Some(value),
        }
    }
}

/// A whole number in a range.
pub fn whole<T: TryFrom<u64>>(
    range: RangeInclusive<u64>,
) -> impl Fn(&str) -> Result<T, String> + Clone + Send + Sync + 'static {
    move |text| {
        let number = text.parse().ok().filter(|number| range.contains(number));
        let number = number.and_then(|number| T::try_from(number).ok());
        number.ok_or_else(|| format!("give a whole number from {} to {}", range.start(), range.end()))
    }
}

/// A whole number as large as 32 bits have it.
pub fn count() -> impl Fn(&str) -> Result<u32, String> + Clone + Send + Sync + 'static {
    whole(0..=u32::MAX.into())
}

/// As many deployments as a quota may allow.
pub fn deployments() -> impl Fn(&str) -> Result<u32, String> + Clone + Send + Sync + 'static {
    whole(limits::LEAST_DEPLOYMENTS.into()..=u32::MAX.into())
}

/// Of a hundred.
pub fn percent() -> impl Fn(&str) -> Result<u8, String> + Clone + Send + Sync + 'static {
    |text| whole(0..=100)(text).map_err(|_| "give a whole number of percent, 0 to 100".to_owned())
}

/// A number of requests per second.
pub fn rate() -> impl Fn(&str) -> Result<NonZeroU32, String> + Clone + Send + Sync + 'static {
    let most = limits::REQUESTS_PER_SECOND;
    move |text| {
        let number = whole::<u32>(1..=most.get().into())(text)?;
        Ok(NonZeroU32::new(number).unwrap_or(most))
    }
}

/// A CID, also as links have it: `ipfs://CID` and `/ipfs/CID`.
pub fn cid(text: &str) -> Result<ContentId, String> {
    let cid = text.strip_prefix("ipfs://").or_else(|| text.strip_prefix("/ipfs/")).unwrap_or(text);
    let cid = cid.strip_suffix('/').unwrap_or(cid);
    if let Some((root, _)) = cid.split_once('/')
        && let Ok(root) = ContentId::parse(root)
    {
        return Err(format!(
            "a path within content is not followed here; give the CID of what it leads to, or get all of {root}"
        ));
    }
    ContentId::parse(cid).map_err(|error| match error {
        ContentIdError::Syntax { source, .. } => format!(
            "it cannot be read ({source}); a CID looks like bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e"
        ),
        error => error.to_string(),
    })
}

/// A length of time.
pub fn duration(text: &str) -> Result<humantime::Duration, String> {
    text.parse().map_err(|_| "give a time with its unit, such as 90s, 15m, 24h or 30d".to_owned())
}

/// A day or a month of UTC; times are milliseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Days {
    pub begin: i64,
    /// When the next one begins.
    pub end: i64,
    /// When the month begins that it is, or is of.
    pub month: i64,
}

/// `2026-11-01` or `2026-11`.
pub fn days(text: &str) -> Result<Days, String> {
    let none = || "give a day such as 2026-11-01, or a month such as 2026-11".to_owned();
    let begin_of = |date: &str| {
        let time = humantime::parse_rfc3339(&format!("{date}T00:00:00Z")).ok()?;
        i64::try_from(time.duration_since(UNIX_EPOCH).ok()?.as_millis()).ok()
    };
    let is_date = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-');
    let of = text.get(..7).filter(|_| is_date).ok_or_else(none)?;
    let month = begin_of(&format!("{of}-01")).ok_or_else(none)?;
    // The first day that the month does not have.
    let after = (29..=32).find(|day| begin_of(&format!("{of}-{day}")).is_none()).ok_or_else(none)?;
    if text.len() == of.len() {
        return Ok(Days { begin: month, end: month + (after - 1) * DAY, month });
    }
    let begin = begin_of(text).ok_or_else(none)?;
    Ok(Days { begin, end: begin + DAY, month })
}

/// What `value` reads, or `default`.
pub fn default_or<T>(
    value: impl Fn(&str) -> Result<T, String> + Clone + Send + Sync + 'static,
) -> impl Fn(&str) -> Result<Part<T>, String> + Clone + Send + Sync + 'static {
    move |text| match text {
        "default" => Ok(Part::Default),
        text => value(text).map(Part::Is).map_err(|why| format!("{why}; or default")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_and_months_are_of_the_calendar() {
        let february = 1_706_745_600_000;
        assert_eq!(days("2024-02"), Ok(Days { begin: february, end: february + 29 * DAY, month: february }));
        let last = february + 28 * DAY;
        assert_eq!(days("2024-02-29"), Ok(Days { begin: last, end: last + DAY, month: february }));
        assert_eq!(days("2023-12").unwrap().end, february - 31 * DAY);
        // Whose end cannot be written down.
        assert_eq!(days("9999-12").unwrap().end, days("9999-12-31").unwrap().end);
        for wrong in
            ["2023-02-29", "2024-13", "2024-00", "2024-2-1", "24-02-01", "2024", "yesterday", "1969-12", ""]
        {
            assert!(days(wrong).is_err(), "{wrong}");
        }
    }
}
