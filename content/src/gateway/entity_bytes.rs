//! `entity-bytes`: which bytes of a file a client wants the blocks of
//! (<https://specs.ipfs.tech/http-gateways/trustless-gateway/#entity-bytes-request-query-parameter>).

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

/// `from:to`, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntityBytes {
    from: Place,
    /// `None` is `*`, the end.
    to: Option<Place>,
}

/// A byte of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    FromStart(u64),
    /// 1 is the last byte.
    FromEnd(u64),
}

/// The text is no such range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a range of bytes looks like 0:1023, 512:* or -1024:*")]
pub struct EntityBytesError;

/// What a range is of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// These bytes.
    Bytes(Range<u64>),
    /// None, though it begins within the file.
    Nothing,
    /// None, since it begins behind the end.
    Outside,
}

impl EntityBytes {
    /// What it is of a file of this length.
    #[must_use]
    pub fn of(&self, size: u64) -> Wanted {
        let start = match self.from {
            Place::FromStart(at) => at,
            Place::FromEnd(back) => size.saturating_sub(back),
        };
        let end = match self.to {
            None => size,
            Some(Place::FromStart(at)) => at.saturating_add(1).min(size),
            // The byte itself is included, and one before the start is none.
            Some(Place::FromEnd(back)) => {
                size.checked_sub(back).map_or(0, |at| at.saturating_add(1).min(size))
            }
        };
        if size > 0 && start >= size {
            Wanted::Outside
        } else if start >= end {
            Wanted::Nothing
        } else {
            Wanted::Bytes(start..end)
        }
    }
}

impl FromStr for EntityBytes {
    type Err = EntityBytesError;

    fn from_str(text: &str) -> Result<Self, EntityBytesError> {
        let (from, to) = text.split_once(':').ok_or(EntityBytesError)?;
        let from = place(from)?;
        let to = if to == "*" { None } else { Some(place(to)?) };
        match (from, to) {
            (Place::FromStart(from), Some(Place::FromStart(to))) if from > to => Err(EntityBytesError),
            (Place::FromEnd(from), Some(Place::FromEnd(to))) if from < to => Err(EntityBytesError),
            _ => Ok(Self { from, to }),
        }
    }
}

fn place(text: &str) -> Result<Place, EntityBytesError> {
    let (back, digits) = text.strip_prefix('-').map_or((false, text), |digits| (true, digits));
    // `parse` would take a plus sign, too.
    if digits.is_empty() || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return Err(EntityBytesError);
    }
    let number = digits.parse().map_err(|_| EntityBytesError)?;
    Ok(if back { Place::FromEnd(number) } else { Place::FromStart(number) })
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FromStart(at) => write!(f, "{at}"),
            Self::FromEnd(back) => write!(f, "-{back}"),
        }
    }
}

impl fmt::Display for EntityBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.to {
            Some(to) => write!(f, "{}:{to}", self.from),
            None => write!(f, "{}:*", self.from),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_ten_bytes() {
        for (text, expected) in [
            ("0:*", Wanted::Bytes(0..10)),
            ("0:0", Wanted::Bytes(0..1)),
            ("2:5", Wanted::Bytes(2..6)),
            ("5:99", Wanted::Bytes(5..10)),
            ("5:18446744073709551615", Wanted::Bytes(5..10)),
            ("-3:*", Wanted::Bytes(7..10)),
            ("-99:*", Wanted::Bytes(0..10)),
            ("-99:-3", Wanted::Bytes(0..8)),
            ("2:-1", Wanted::Bytes(2..10)),
            ("2:-0", Wanted::Bytes(2..10)),
            ("5:-8", Wanted::Nothing),
            ("0:-11", Wanted::Nothing),
            ("10:*", Wanted::Outside),
            ("99:100", Wanted::Outside),
            ("-0:*", Wanted::Outside),
        ] {
            assert_eq!(text.parse::<EntityBytes>().unwrap().of(10), expected, "{text}");
        }
        assert_eq!("0:*".parse::<EntityBytes>().unwrap().of(0), Wanted::Nothing);
    }

    #[test]
    fn what_is_no_range_is_refused() {
        for text in [
            "",
            ":",
            "0",
            "0:",
            ":0",
            "*:0",
            "*:*",
            "5:4",
            "-1:-2",
            "+1:2",
            "0:+1",
            "a:b",
            "0:1:2",
            "--1:*",
            "0x1:*",
            "1 :2",
            "18446744073709551616:*",
        ] {
            assert_eq!(text.parse::<EntityBytes>(), Err(EntityBytesError), "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_bytes_that_are_there_or_refused(text in "-?[0-9]{0,20}:?-?[0-9*]{0,20}", size: u64) {
            let Ok(range) = text.parse::<EntityBytes>() else { return Ok(()) };
            proptest::prop_assert_eq!(range.to_string().parse::<EntityBytes>().unwrap(), range);
            if let Wanted::Bytes(bytes) = range.of(size) {
                proptest::prop_assert!(bytes.start < bytes.end && bytes.end <= size);
            }
        }
    }
}
