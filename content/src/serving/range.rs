//! `Range` (RFC 9110 section 14): which bytes of a file are wanted.

use std::ops::Range;

/// None of the wanted bytes is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unsatisfiable;

/// The bytes that a `Range` header asks for, of a file of `size` bytes; `None` when the whole file is to be sent:
/// without a header, with one that is malformed or of another unit (which are to be ignored), and when several
/// ranges are asked for, which a server need not honour: they are what makes a small request an expensive one.
///
/// # Errors
/// When it begins behind the end.
pub fn wanted(header: Option<&[u8]>, size: u64) -> Result<Option<Range<u64>>, Unsatisfiable> {
    let Some((first, last)) = header.and_then(parse) else { return Ok(None) };
    let range = match (first, last) {
        (Some(first), Some(last)) if first > last => return Ok(None),
        (Some(first), last) => first..last.map_or(size, |last| last.saturating_add(1)).min(size),
        // The last so many bytes.
        (None, Some(many)) => size.saturating_sub(many)..size,
        (None, None) => return Ok(None),
    };
    if range.is_empty() { Err(Unsatisfiable) } else { Ok(Some(range)) }
}

/// First and last position of the one range.
fn parse(header: &[u8]) -> Option<(Option<u64>, Option<u64>)> {
    let (unit, set) = std::str::from_utf8(header).ok()?.split_once('=')?;
    let (first, last) = set.trim_matches([' ', '\t']).split_once('-')?;
    // A second range has a comma, which is no digit.
    unit.eq_ignore_ascii_case("bytes").then_some((position(first)?, position(last)?))
}

/// A number; more than any file has counts as the most there is.
fn position(digits: &str) -> Option<Option<u64>> {
    if digits.is_empty() {
        return Some(None);
    }
    digits.bytes().all(|digit| digit.is_ascii_digit()).then(|| Some(digits.parse().unwrap_or(u64::MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_and_what_they_ask_for_of_ten_bytes() {
        let whole = Ok(None);
        for (header, expected) in [
            ("bytes=0-0", Ok(Some(0..1))),
            ("bytes=0-", Ok(Some(0..10))),
            ("bytes=3-5", Ok(Some(3..6))),
            ("bytes=9-9", Ok(Some(9..10))),
            ("bytes=9-99", Ok(Some(9..10))),
            ("bytes=5-18446744073709551615", Ok(Some(5..10))),
            ("bytes=5-99999999999999999999999", Ok(Some(5..10))),
            ("bytes=-1", Ok(Some(9..10))),
            ("bytes=-10", Ok(Some(0..10))),
            ("bytes=-99", Ok(Some(0..10))),
            ("Bytes= 1-2 ", Ok(Some(1..3))),
            ("bytes=10-", Err(Unsatisfiable)),
            ("bytes=10-20", Err(Unsatisfiable)),
            ("bytes=99999999999999999999999-", Err(Unsatisfiable)),
            ("bytes=-0", Err(Unsatisfiable)),
            ("bytes=5-3", whole.clone()),
            ("bytes=-", whole.clone()),
            ("bytes=", whole.clone()),
            ("bytes", whole.clone()),
            ("bytes=a-b", whole.clone()),
            ("bytes=+1-2", whole.clone()),
            ("bytes=1 - 2", whole.clone()),
            ("bytes=0-1,3-4", whole.clone()),
            ("lines=1-2", whole.clone()),
            ("", whole.clone()),
        ] {
            assert_eq!(wanted(Some(header.as_bytes()), 10), expected, "{header}");
        }
        assert_eq!(wanted(None, 10), whole);
        assert_eq!(wanted(Some(b"bytes=\xff-"), 10), whole);
        assert_eq!(wanted(Some(b"bytes=0-"), 0), Err(Unsatisfiable));
    }

    proptest::proptest! {
        #[test]
        fn any_header_asks_for_bytes_that_are_there(
            header in "(bytes=)?[0-9]{0,22}-?[0-9]{0,22}[, -]?[0-9]{0,3}",
            size: u64,
        ) {
            if let Ok(Some(range)) = wanted(Some(header.as_bytes()), size) {
                proptest::prop_assert!(range.start < range.end && range.end <= size);
            }
        }
    }
}
