//! Pages of lists: where one starts, how long it is, and where the next one starts.

use af_contract::ContentId;

use super::Error;

/// Items of a page, at most.
pub const PAGE: i64 = 100;

/// Letters and digits of an id behind its prefix, at most: a ULID has 26.
const ID: usize = 26;

/// Bytes of a name that a list is sorted by, at most.
const NAME: usize = 255;

/// One page of a list.
#[derive(Debug)]
pub struct Page<T> {
    /// The items.
    pub items: Vec<T>,
    /// Where the next page starts; none: this was the last.
    pub next: Option<String>,
}

/// Which page is asked for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Start<'a> {
    /// `next` of the page before; empty: the first page.
    pub after: &'a str,
    /// Items, at most [`PAGE`]; none: as many.
    pub limit: Option<u32>,
}

impl<'a> From<&'a str> for Start<'a> {
    fn from(after: &'a str) -> Self {
        Self { after, limit: None }
    }
}

impl<'a> From<&'a String> for Start<'a> {
    fn from(after: &'a String) -> Self {
        Self::from(after.as_str())
    }
}

impl<'a> Start<'a> {
    /// In a list that is sorted by ids with this prefix: behind which one, and how many.
    ///
    /// # Errors
    /// When the cursor is no such id, or the limit is none.
    pub(super) fn by_id(self, prefix: &str) -> Result<(&'a str, i64), Error> {
        let id = self.after.strip_prefix(prefix).and_then(|rest| rest.strip_prefix('_'));
        let is_id = |id: &str| {
            (1..=ID).contains(&id.len())
                && id.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
        };
        if self.after.is_empty() || id.is_some_and(is_id) {
            Ok((self.after, self.limit()?))
        } else {
            Err(unknown())
        }
    }

    /// In one that is sorted by names.
    ///
    /// # Errors
    /// When the cursor can be no name, or the limit is none.
    pub(super) fn by_name(self) -> Result<(&'a str, i64), Error> {
        if self.after.len() > NAME || self.after.chars().any(char::is_control) {
            return Err(unknown());
        }
        Ok((self.after, self.limit()?))
    }

    /// In one that is sorted by CIDs.
    ///
    /// # Errors
    /// When the cursor is no CID, or the limit is none.
    pub(super) fn by_content(self) -> Result<(&'a str, i64), Error> {
        if self.after.is_empty() || ContentId::parse(self.after).is_ok() {
            return Ok((self.after, self.limit()?));
        }
        Err(unknown())
    }

    /// In one that is sorted by numbers, the highest first.
    ///
    /// # Errors
    /// When the cursor is no number, or the limit is none.
    pub(super) fn by_number(self) -> Result<(i64, i64), Error> {
        let before = match self.after {
            "" => i64::MAX,
            number => number.parse().ok().filter(|number| *number > 0).ok_or_else(unknown)?,
        };
        Ok((before, self.limit()?))
    }

    /// In one that is sorted by times, the earliest first: behind which one, of those that it can have.
    ///
    /// # Errors
    /// When the cursor is no such time, or the limit is none.
    pub(super) fn by_time(self, is_one: impl Fn(i64) -> bool) -> Result<(Option<i64>, i64), Error> {
        let after = match self.after {
            "" => None,
            time => Some(time.parse().ok().filter(|time| is_one(*time)).ok_or_else(unknown)?),
        };
        Ok((after, self.limit()?))
    }

    fn limit(self) -> Result<i64, Error> {
        let limit = self.limit.map_or(PAGE, i64::from);
        if (1..=PAGE).contains(&limit) {
            return Ok(limit);
        }
        Err(Error::invalid("invalid_limit", format!("a page has 1 to {PAGE} items; limit cannot be {limit}")))
    }
}

impl<T> Page<T> {
    /// Makes a page of what was read with this limit.
    pub(super) fn of(items: Vec<T>, limit: i64, cursor: impl Fn(&T) -> String) -> Self {
        let full = i64::try_from(items.len()).is_ok_and(|count| count >= limit);
        let next = if full { items.last().map(cursor) } else { None };
        Self { items, next }
    }
}

fn unknown() -> Error {
    Error::invalid("invalid_cursor", "after is the next of a page of this list; leave it out to begin anew")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_what_a_page_of_the_list_ended_with() {
        let ulid = "fn_01m8cqvhrfs0000000000000ab";
        assert_eq!(Start::from(ulid).by_id("fn").unwrap(), (ulid, PAGE));
        assert_eq!(Start::from("").by_id("fn").unwrap(), ("", PAGE));
        for wrong in
            ["garbage", "fn_", "fn", "dep_1", "fn_A", "fn_%", "fn_1 ", "fn_012345678901234567890123456"]
        {
            assert!(Start::from(wrong).by_id("fn").is_err(), "{wrong}");
        }
        assert_eq!(Start::from("7").by_number().unwrap(), (7, PAGE));
        assert_eq!(Start::from("").by_number().unwrap(), (i64::MAX, PAGE));
        for wrong in ["0", "-1", "x", "9223372036854775808"] {
            assert!(Start::from(wrong).by_number().is_err(), "{wrong}");
        }
        assert_eq!(Start::from("7").by_time(|time| time == 7).unwrap(), (Some(7), PAGE));
        assert_eq!(Start::from("").by_time(|_| false).unwrap(), (None, PAGE));
        assert!(
            Start::from("8").by_time(|time| time == 7).is_err()
                && Start::from("x").by_time(|_| true).is_err()
        );
        assert!(Start::from("a\0").by_name().is_err());
        for (limit, fits) in [(0, false), (1, true), (100, true), (101, false), (u32::MAX, false)] {
            assert_eq!(Start { after: "", limit: Some(limit) }.by_id("fn").is_ok(), fits, "{limit}");
        }
    }
}
