//! `Accept` (RFC 9110 section 12.5.1): what a client would like, best first.

use http::HeaderMap;
use http::header::ACCEPT;

use crate::serving::quality::weight;

/// What is looked at of a header: no client names more, and a longer list is work for nothing.
const RANGES: usize = 32;

/// One entry of the header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MediaRange<'a> {
    /// Such as `application/vnd.ipld.car` or `*/*`, as it was written.
    pub name: &'a str,
    parameters: &'a str,
}

impl<'a> MediaRange<'a> {
    /// A parameter's value, without quotes.
    pub fn parameter(&self, name: &str) -> Option<&'a str> {
        let mut parameters = self.parameters.split(';').filter_map(|parameter| parameter.split_once('='));
        let (_, value) = parameters.find(|(known, _)| known.trim().eq_ignore_ascii_case(name))?;
        Some(value.trim().trim_matches('"'))
    }
}

/// What a client would like, best first; of what it likes equally, what it names first. Refused types are left out.
pub fn ranges(headers: &HeaderMap) -> Vec<MediaRange<'_>> {
    let values = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let entries = values.flat_map(|value| value.split(',')).map(str::trim).filter(|entry| !entry.is_empty());
    let mut liked: Vec<(u16, MediaRange<'_>)> = entries.take(RANGES).map(range).collect();
    liked.retain(|(quality, _)| *quality > 0);
    // Stable: what is equal stays in its order.
    liked.sort_by_key(|(quality, _)| std::cmp::Reverse(*quality));
    liked.into_iter().map(|(_, range)| range).collect()
}

fn range(entry: &str) -> (u16, MediaRange<'_>) {
    let (name, parameters) = entry.split_once(';').unwrap_or((entry, ""));
    let quality = parameters.split(';').map(str::trim).find_map(weight).unwrap_or(1000);
    (quality, MediaRange { name: name.trim(), parameters })
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn names(header: &str) -> String {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_str(header).unwrap());
        ranges(&headers).iter().map(|range| range.name).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn what_is_liked_best_comes_first() {
        for (header, expected) in [
            ("text/html", "text/html"),
            ("a/b;q=0.5, c/d", "c/d a/b"),
            ("a/b;q=0.5, c/d;q=0.5, e/f;q=0.501", "e/f a/b c/d"),
            ("a/b;q=0, */*", "*/*"),
            ("a/b;q=x", ""),
            (" , a/b ; x=y ; q=0.1 ,", "a/b"),
            ("", ""),
        ] {
            assert_eq!(names(header), expected, "{header}");
        }
    }

    #[test]
    fn parameters_are_found_however_they_are_written() {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static("a/b; Version=1;dups=\"y\" ;q=0.4"));
        let ranges = ranges(&headers);
        let range = &ranges[0];
        assert_eq!((range.parameter("version"), range.parameter("dups")), (Some("1"), Some("y")));
        assert_eq!(range.parameter("order"), None);
    }

    proptest::proptest! {
        #[test]
        fn any_header_is_a_bounded_list(header in "[a-z/*;=q0-9., \"]{0,200}") {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT, HeaderValue::from_str(&header).unwrap());
            proptest::prop_assert!(ranges(&headers).len() <= RANGES);
        }
    }
}
