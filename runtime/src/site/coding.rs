//! Content codings (RFC 9110 section 12.5.3): which of the copies that lie compressed beside a file is sent.

use af_content::serving::quality::weight;
use http::HeaderMap;
use http::header::ACCEPT_ENCODING;

/// A coding that files can lie there in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Coding {
    /// As headers have it.
    pub name: &'static str,
    /// What the compressed copy's name has behind the file's.
    pub suffix: &'static str,
}

/// The smallest results first, which is what counts when a client likes several equally.
const CODINGS: [Coding; 3] = [
    Coding { name: "br", suffix: ".br" },
    Coding { name: "zstd", suffix: ".zst" },
    Coding { name: "gzip", suffix: ".gz" },
];

/// The codings that a client accepts and likes no less than the file as it is, best first.
pub fn accepted(headers: &HeaderMap) -> Vec<Coding> {
    if !headers.contains_key(ACCEPT_ENCODING) {
        return Vec::new();
    }
    // Named or not, a client that says nothing of the plain file takes it only if there is nothing else.
    let plain = quality(headers, "identity").unwrap_or(0);
    let mut liked: Vec<(u16, Coding)> = CODINGS
        .into_iter()
        .filter_map(|coding| Some((quality(headers, coding.name).or_else(|| quality(headers, "*"))?, coding)))
        .filter(|(quality, _)| *quality > 0 && *quality >= plain)
        .collect();
    liked.sort_by_key(|(quality, _)| std::cmp::Reverse(*quality));
    liked.into_iter().map(|(_, coding)| coding).collect()
}

/// How much a coding is liked, in thousandths, if it is listed.
fn quality(headers: &HeaderMap, coding: &str) -> Option<u16> {
    let values = headers.get_all(ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).find_map(|item| {
        let mut parts = item.split(';').map(str::trim);
        let name = parts.next()?;
        let same =
            name.eq_ignore_ascii_case(coding) || (coding == "gzip" && name.eq_ignore_ascii_case("x-gzip"));
        same.then(|| parts.find_map(weight).unwrap_or(1000))
    })
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn headers_and_what_is_sent_first() {
        for (header, expected) in [
            ("gzip, deflate, br, zstd", "br zstd gzip"),
            ("gzip", "gzip"),
            ("x-gzip", "gzip"),
            ("GZIP;Q=1.0", "gzip"),
            ("br;q=0.5, gzip", "gzip br"),
            ("br;q=0.001, gzip;q=0.002", "gzip br"),
            ("br;q=0, gzip", "gzip"),
            ("*", "br zstd gzip"),
            ("*;q=0", ""),
            ("br, *;q=0", "br"),
            ("*, br;q=0", "zstd gzip"),
            ("identity", ""),
            ("identity, gzip", "gzip"),
            ("identity;q=0.5, gzip;q=0.3, br;q=0.5", "br"),
            ("deflate", ""),
            ("gzip;q=2", ""),
            ("gzip;q=0.0001", ""),
            ("gzip;q=x", ""),
            ("gzip;level=9;q=0.1", "gzip"),
            ("", ""),
        ] {
            let mut headers = HeaderMap::new();
            headers.append(ACCEPT_ENCODING, HeaderValue::from_str(header).unwrap());
            let names: Vec<_> = accepted(&headers).into_iter().map(|coding| coding.name).collect();
            assert_eq!(names.join(" "), expected, "{header}");
        }
        assert_eq!(accepted(&HeaderMap::new()), []);
    }
}
