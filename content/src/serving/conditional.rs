//! Conditional requests (RFC 9110 section 13). Content has no times, only its CID: whoever knows a file by its
//! entity tag knows it for good. Conditions on times are ignored, as they are to be where there are none.

use http::header::{IF_MATCH, IF_NONE_MATCH, IF_RANGE, RANGE};
use http::{HeaderMap, HeaderName, HeaderValue};

/// What a request's conditions mean for a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Send it.
    Send,
    /// The client has it, under this tag.
    NotModified(HeaderValue),
    /// The client wants another one.
    Failed,
}

/// Judges a GET or HEAD request for the file whose entity tag this is, which is its CID in quotes.
pub fn judge(headers: &HeaderMap, tag: &str) -> Verdict {
    if headers.contains_key(IF_MATCH) && !matches(headers, &IF_MATCH, Compare::Strong, tag) {
        return Verdict::Failed;
    }
    match known(headers, &IF_NONE_MATCH, Compare::Weak, tag).map(HeaderValue::from_str) {
        Some(Ok(known)) => Verdict::NotModified(known),
        // A tag was matched, so it has no other characters than a CID.
        Some(Err(_)) | None => Verdict::Send,
    }
}

/// The `Range` header, if its condition holds: a client continues only what it began with.
pub fn range<'a>(headers: &'a HeaderMap, tag: &str) -> Option<&'a [u8]> {
    let same = headers.get(IF_RANGE).is_none_or(|condition| condition.as_bytes() == tag.as_bytes());
    headers.get(RANGE).filter(|_| same).map(HeaderValue::as_bytes)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Compare {
    Strong,
    Weak,
}

fn matches(headers: &HeaderMap, name: &HeaderName, compare: Compare, tag: &str) -> bool {
    known(headers, name, compare, tag).is_some()
}

/// The listed tag that is the file's. `*` is every file's.
fn known<'a>(headers: &'a HeaderMap, name: &HeaderName, compare: Compare, tag: &'a str) -> Option<&'a str> {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    // No tag of ours has a comma in it, so one that has is cut into pieces that are none of ours, either.
    let listed = values.flat_map(|value| value.split(',')).map(str::trim);
    listed.filter_map(|listed| same(listed, compare, tag)).next()
}

fn same<'a>(listed: &'a str, compare: Compare, tag: &'a str) -> Option<&'a str> {
    if listed == "*" {
        return Some(tag);
    }
    // A weak tag is the file's after it was compressed on the way to the client.
    let weak = listed.strip_prefix("W/").is_some_and(|listed| listed == tag);
    (listed == tag || (weak && compare == Compare::Weak)).then_some(listed)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TAG: &str = "\"bafkreia\"";

    fn headers(name: HeaderName, value: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.append(name, HeaderValue::from_str(value).unwrap());
        headers
    }

    #[test]
    fn whoever_has_the_file_is_told_so() {
        for (value, known) in [
            ("\"bafkreia\"", Some("\"bafkreia\"")),
            ("W/\"bafkreia\"", Some("W/\"bafkreia\"")),
            ("\"x\", \"bafkreia\"", Some("\"bafkreia\"")),
            ("\"x\" ,W/\"bafkreia\"", Some("W/\"bafkreia\"")),
            ("*", Some(TAG)),
            ("\"bafkreia-br\"", None),
            ("\"bafkreiab\"", None),
            ("\"bafkrei\"", None),
            ("bafkreia", None),
            ("\"bafkreia", None),
            ("w/\"bafkreia\"", None),
            ("", None),
        ] {
            let expected = match known {
                Some(known) => Verdict::NotModified(HeaderValue::from_str(known).unwrap()),
                None => Verdict::Send,
            };
            assert_eq!(judge(&headers(IF_NONE_MATCH, value), TAG), expected, "{value}");
        }
        let mut several = headers(IF_NONE_MATCH, "\"x\"");
        several.append(IF_NONE_MATCH, HeaderValue::from_static("\"bafkreia\""));
        assert!(matches!(judge(&several, TAG), Verdict::NotModified(_)));
        assert_eq!(judge(&HeaderMap::new(), TAG), Verdict::Send);
    }

    #[test]
    fn whoever_wants_another_file_gets_none() {
        for (value, expected) in [
            ("\"bafkreia\"", Verdict::Send),
            ("*", Verdict::Send),
            ("\"x\", \"bafkreia\"", Verdict::Send),
            ("\"x\"", Verdict::Failed),
            // Weak tags never match here.
            ("W/\"bafkreia\"", Verdict::Failed),
        ] {
            assert_eq!(judge(&headers(IF_MATCH, value), TAG), expected, "{value}");
        }
        // First things first (section 13.2.2).
        let mut both = headers(IF_MATCH, "\"x\"");
        both.append(IF_NONE_MATCH, HeaderValue::from_static(TAG));
        assert_eq!(judge(&both, TAG), Verdict::Failed);
    }

    #[test]
    fn conditions_on_times_are_ignored() {
        for name in [http::header::IF_MODIFIED_SINCE, http::header::IF_UNMODIFIED_SINCE] {
            let headers = headers(name, "Thu, 01 Jan 1970 00:00:00 GMT");
            assert_eq!(judge(&headers, TAG), Verdict::Send);
        }
    }

    #[test]
    fn a_range_counts_only_for_the_file_that_it_was_of() {
        let mut asked = headers(RANGE, "bytes=1-2");
        assert_eq!(range(&asked, TAG), Some(&b"bytes=1-2"[..]));
        for (condition, counts) in [
            (TAG, true),
            ("W/\"bafkreia\"", false),
            ("\"bafkreia-br\"", false),
            ("\"x\"", false),
            ("Thu, 01 Jan 1970 00:00:00 GMT", false),
        ] {
            asked.insert(IF_RANGE, HeaderValue::from_str(condition).unwrap());
            assert_eq!(range(&asked, TAG).is_some(), counts, "{condition}");
        }
    }
}
