//! Which headers go on, in both directions (RFC 9110 section 7.6.1), and how the framing is said anew.

use http::header::{
    CONNECTION, CONTENT_LENGTH, COOKIE, EXPECT, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE,
    TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, HeaderName, HeaderValue, Version};
use http_body::SizeHint;

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");
const TRAILERS: HeaderValue = HeaderValue::from_static("trailers");
const CONNECTION_TE: HeaderValue = HeaderValue::from_static("te");

/// Those of one connection, whatever `Connection` says.
const HOP_BY_HOP: [HeaderName; 9] = [
    CONNECTION,
    KEEP_ALIVE,
    PROXY_CONNECTION,
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    TE,
    TRANSFER_ENCODING,
    UPGRADE,
    HTTP2_SETTINGS,
];

/// Those that a client may name in `Connection` and that go on nonetheless: without them the message means something else.
const END_TO_END: [&str; 5] = ["host", "content-length", "content-type", "content-encoding", "authorization"];

/// Removes what is for one connection only.
pub(super) fn strip_hop_by_hop(headers: &mut HeaderMap) {
    if headers.contains_key(CONNECTION) {
        let named = headers.get_all(CONNECTION).iter().filter_map(|line| line.to_str().ok());
        let named = named.flat_map(|line| line.split(',')).map(str::trim);
        let named = named.filter(|name| !END_TO_END.iter().any(|kept| kept.eq_ignore_ascii_case(name)));
        let named: Vec<HeaderName> = named.filter_map(|name| name.parse().ok()).collect();
        for name in named {
            headers.remove(name);
        }
    }
    for name in HOP_BY_HOP {
        // Looking for what is not there costs a hash, and in most requests nothing is.
        headers.remove(name);
    }
}

/// A request's headers, as they go on.
pub(super) fn pass_request(headers: &mut HeaderMap, version: Version, body: &SizeHint) {
    let trailers = headers.get_all(TE).iter().any(accepts_trailers);
    strip_hop_by_hop(headers);
    if trailers {
        headers.insert(TE, TRAILERS);
    }
    // hyper has read the body as it is framed; a length that says otherwise must not go on (RFC 9112 section 6.3).
    if headers.contains_key(CONTENT_LENGTH) {
        match body.exact() {
            // One line, also where it was said twice.
            Some(length) => headers.insert(CONTENT_LENGTH, length.into()),
            None => headers.remove(CONTENT_LENGTH),
        };
    }
    if version == Version::HTTP_2 {
        join_cookies(headers);
    }
}

/// A response's headers, as they go on.
pub(super) fn pass_response(headers: &mut HeaderMap) {
    if headers.contains_key(TRANSFER_ENCODING) {
        headers.remove(CONTENT_LENGTH);
    }
    strip_hop_by_hop(headers);
}

/// What only HTTP/1.1 has: TE is for one connection, and so has to be named (RFC 9110 section 10.1.4).
pub(super) fn for_http1(headers: &mut HeaderMap) {
    if headers.contains_key(TE) {
        headers.insert(CONNECTION, CONNECTION_TE);
    }
}

/// What HTTP/2 has no use for.
pub(super) fn for_http2(headers: &mut HeaderMap) {
    headers.remove(CONNECTION);
    headers.remove(EXPECT);
}

fn accepts_trailers(line: &HeaderValue) -> bool {
    let names = |line: &str| line.split(',').any(|name| name.trim().eq_ignore_ascii_case("trailers"));
    line.to_str().is_ok_and(names)
}

/// HTTP/2 may have cut the cookies into pieces (RFC 9113 section 8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    let mut pieces = headers.get_all(COOKIE).iter();
    if pieces.next().is_none() || pieces.next().is_none() {
        return;
    }
    let pieces: Vec<&[u8]> = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    // Valid pieces make a valid whole.
    if let Ok(joined) = HeaderValue::from_bytes(&pieces.join(&b"; "[..])) {
        headers.insert(COOKIE, joined);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn headers(lines: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
        }
        headers
    }

    fn lines(headers: &HeaderMap) -> Vec<(&str, &str)> {
        let mut lines: Vec<_> =
            headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
        lines.sort_by_key(|(name, _)| *name);
        lines
    }

    /// What goes in, and what of it goes on.
    fn requests(given: &[(&str, &str)], expected: &[(&str, &str)]) {
        let mut headers = headers(given);
        pass_request(&mut headers, Version::HTTP_11, &SizeHint::with_exact(3));
        assert_eq!(lines(&headers), expected, "{given:?}");
    }

    #[test]
    fn what_is_for_one_connection_stays_behind() {
        requests(&[("connection", "keep-alive"), ("keep-alive", "timeout=5"), ("a", "1")], &[("a", "1")]);
        requests(&[("connection", "close, X-Secret"), ("x-secret", "1"), ("a", "1")], &[("a", "1")]);
        requests(
            &[("connection", "x-a"), ("connection", "X-B ,,x-c"), ("x-a", ""), ("x-b", ""), ("x-c", "")],
            &[],
        );
        requests(&[("te", "gzip, trailers;q=0.5"), ("connection", "te")], &[]);
        requests(&[("te", "gzip, Trailers"), ("connection", "te")], &[("te", "trailers")]);
        requests(&[("transfer-encoding", "chunked"), ("trailer", "x-sum")], &[("trailer", "x-sum")]);
        requests(
            &[("proxy-authorization", "Basic x"), ("proxy-connection", "close"), ("proxy-authenticate", "x")],
            &[],
        );
        requests(
            &[("upgrade", "h2c"), ("http2-settings", "x"), ("connection", "upgrade, http2-settings")],
            &[],
        );
    }

    #[test]
    fn a_client_cannot_have_what_counts_removed() {
        requests(
            &[
                ("connection", "Content-Length, Host, authorization"),
                ("authorization", "b"),
                ("content-length", "3"),
                ("host", "h"),
            ],
            &[("authorization", "b"), ("content-length", "3"), ("host", "h")],
        );
    }

    #[test]
    fn repeated_headers_stay_repeated() {
        let given = [("a", "1"), ("a", "2"), ("set-cookie", "x=1"), ("set-cookie", "y=2")];
        requests(&given, &given);
        let mut headers = headers(&given);
        pass_response(&mut headers);
        assert_eq!(lines(&headers), given);
    }

    #[test]
    fn a_length_that_is_not_the_bodys_stays_behind() {
        let mut request = headers(&[("content-length", "3")]);
        pass_request(&mut request, Version::HTTP_11, &SizeHint::default());
        assert_eq!(lines(&request), []);
        let mut twice = headers(&[("content-length", "3"), ("content-length", "3, 3")]);
        pass_request(&mut twice, Version::HTTP_11, &SizeHint::with_exact(3));
        assert_eq!(lines(&twice), [("content-length", "3")]);
        let mut response = headers(&[("content-length", "3"), ("transfer-encoding", "chunked")]);
        pass_response(&mut response);
        assert_eq!(lines(&response), []);
    }

    #[test]
    fn cookies_that_http2_cut_are_joined() {
        let mut cut = headers(&[("cookie", "a=1"), ("cookie", "b=2; c=3"), ("cookie", "d=4")]);
        pass_request(&mut cut, Version::HTTP_2, &SizeHint::with_exact(0));
        assert_eq!(lines(&cut), [("cookie", "a=1; b=2; c=3; d=4")]);
    }

    proptest! {
        /// Nothing that is named goes on, everything that is not does, in its order.
        #[test]
        fn what_is_named_and_only_that_stays_behind(
            given in prop::collection::vec(("(x-)?[a-d]{1,2}|keep-alive|te|upgrade|host|content-length", "[a-z0-9]{0,3}"), 0..12),
            named in prop::collection::vec("(X-)?[a-dA-D]{1,2}|host|close|é|", 0..6),
            separator in "[ \t]?,[ \t]?",
        ) {
            let mut headers = HeaderMap::new();
            for (name, value) in &given {
                headers.append(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
            }
            let named: Vec<String> = named.into_iter().filter(|name| name.is_ascii()).collect();
            headers.append(CONNECTION, named.join(&separator).parse().unwrap());
            strip_hop_by_hop(&mut headers);
            let kept = |name: &str| {
                let hop = HOP_BY_HOP.iter().any(|hop| hop == name);
                let mentioned = named.iter().any(|other| other.eq_ignore_ascii_case(name));
                !hop && (!mentioned || END_TO_END.contains(&name))
            };
            for (name, _) in &given {
                let expected: Vec<&str> = given.iter()
                    .filter(|(other, _)| other == name && kept(name)).map(|(_, value)| value.as_str()).collect();
                let found: Vec<&str> = headers.get_all(name.as_str()).iter().map(|value| value.to_str().unwrap()).collect();
                prop_assert_eq!(found, expected, "{}", name);
            }
            prop_assert!(!headers.contains_key(CONNECTION));
        }
    }
}
