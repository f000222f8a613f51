//! What a backend is told about who asked: `Forwarded` (RFC 7239), `X-Forwarded-*`, `Via`. What the client itself says
//! of this is dropped, unless it is a trusted proxy, whose word is added to.

use std::fmt::Write;
use std::net::IpAddr;

use http::header::{FORWARDED, VIA};
use http::{HeaderMap, HeaderName, HeaderValue, Version};

use super::error::ProxyError;
use crate::listen::{Peer, TrustedProxies, X_FORWARDED_FOR};

const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// What proxies of every make call theirs, and backends believe.
const PREFIX: &str = "x-forwarded-";

/// Not of that form, and believed as well.
const X_REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");

/// By what name this edge is known in `Via`.
const PSEUDONYM: &str = "af";

/// How often a request may pass an edge: a site before a function before another one, and not a route to itself.
const PASSES: usize = 5;

/// Says who asked, for what, and how.
///
/// # Errors
/// When the request came through here too often.
pub(super) fn tell(
    headers: &mut HeaderMap,
    peer: &Peer,
    trusted: &TrustedProxies,
    host: &str,
    version: Version,
) -> Result<(), ProxyError> {
    let address = peer.address.ip().to_canonical();
    let is_trusted = trusted.contains(address);
    if !is_trusted {
        drop_claims(headers);
    }
    // It is an address, a word and a host, which are all valid in a header.
    let value = |text: &str| HeaderValue::from_str(text).ok();
    let mut text = String::with_capacity(96);
    // Writing to a string cannot fail.
    let _written = write!(text, "{address}");
    extend(headers, X_FORWARDED_FOR, value(&text));
    if !(is_trusted && headers.contains_key(X_FORWARDED_HOST)) {
        insert(headers, X_FORWARDED_HOST, value(host));
    }
    let scheme = peer.scheme();
    if !(is_trusted && headers.contains_key(X_FORWARDED_PROTO)) {
        headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static(scheme));
    }
    text.clear();
    element(&mut text, address, host, scheme);
    extend(headers, FORWARDED, value(&text));
    via(headers, version)
}

fn insert(headers: &mut HeaderMap, name: HeaderName, value: Option<HeaderValue>) {
    if let Some(value) = value {
        headers.insert(name, value);
    }
}

/// To the right of what is there, in one line: not every backend reads several.
fn extend(headers: &mut HeaderMap, name: HeaderName, value: Option<HeaderValue>) {
    let Some(value) = value else { return };
    let mut entries: Vec<&[u8]> = headers.get_all(&name).iter().map(HeaderValue::as_bytes).collect();
    if entries.is_empty() {
        headers.insert(name, value);
        return;
    }
    entries.push(value.as_bytes());
    // Valid entries make a valid line.
    insert(headers, name, HeaderValue::from_bytes(&entries.join(&b", "[..])).ok());
}

fn drop_claims(headers: &mut HeaderMap) {
    let claims = headers.keys().filter(|name| name.as_str().starts_with(PREFIX));
    let claims: Vec<HeaderName> = claims.cloned().collect();
    for name in claims {
        headers.remove(name);
    }
    headers.remove(FORWARDED);
    headers.remove(X_REAL_IP);
}

/// RFC 7239 section 4: IPv6 addresses and hosts with a port are no tokens and so quoted.
fn element(text: &mut String, address: IpAddr, host: &str, scheme: &str) {
    // Writing to a string cannot fail.
    let _written = match address {
        IpAddr::V4(address) => write!(text, "for={address}"),
        IpAddr::V6(address) => write!(text, "for=\"[{address}]\""),
    };
    let token = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    let _written = if host.bytes().all(token) {
        write!(text, ";host={host};proto={scheme}")
    } else if host.contains(['"', '\\']) {
        write!(text, ";proto={scheme}")
    } else {
        write!(text, ";host=\"{host}\";proto={scheme}")
    };
}

fn via(headers: &mut HeaderMap, version: Version) -> Result<(), ProxyError> {
    let lines = headers.get_all(VIA).iter().filter_map(|line| line.to_str().ok());
    let passes = lines
        .flat_map(|line| line.split(','))
        .filter(|entry| entry.split_ascii_whitespace().nth(1).is_some_and(|by| by == PSEUDONYM));
    if passes.count() >= PASSES {
        return Err(ProxyError::Loop);
    }
    headers.append(
        VIA,
        HeaderValue::from_static(match version {
            Version::HTTP_2 => "2.0 af",
            Version::HTTP_10 => "1.0 af",
            _ => "1.1 af",
        }),
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::listen::TlsPeer;

    fn told(from: &str, host: &str, given: &[(&'static str, &str)]) -> Vec<String> {
        let trusted = TrustedProxies::new(&["10.0.0.0/8".parse().unwrap()]);
        let mut peer = Peer::plain(from.parse().unwrap());
        if from.starts_with('[') {
            peer.tls = Some(TlsPeer::default());
        }
        let mut headers = HeaderMap::new();
        for (name, value) in given {
            headers.append(HeaderName::from_static(name), value.parse().unwrap());
        }
        tell(&mut headers, &peer, &trusted, host, Version::HTTP_11).unwrap();
        let mut lines: Vec<String> =
            headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
        // Names in order, lines of one name as they are.
        lines.sort_by_key(|line| line.split_once(':').unwrap().0.to_owned());
        lines
    }

    #[test]
    fn a_backend_learns_who_asked_for_what() {
        assert_eq!(
            told("198.51.100.7:4711", "shop.example.com", &[]),
            [
                "forwarded: for=198.51.100.7;host=shop.example.com;proto=http",
                "via: 1.1 af",
                "x-forwarded-for: 198.51.100.7",
                "x-forwarded-host: shop.example.com",
                "x-forwarded-proto: http",
            ],
        );
        assert_eq!(
            told("[2001:db8::7]:4711", "shop.localhost:8080", &[]),
            [
                "forwarded: for=\"[2001:db8::7]\";host=\"shop.localhost:8080\";proto=https",
                "via: 1.1 af",
                "x-forwarded-for: 2001:db8::7",
                "x-forwarded-host: shop.localhost:8080",
                "x-forwarded-proto: https",
            ],
        );
    }

    const CLAIMS: [(&str, &str); 7] = [
        ("forwarded", "for=1.1.1.1"),
        ("x-forwarded-for", "1.1.1.1"),
        ("x-forwarded-host", "bank.example"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-port", "443"),
        ("x-real-ip", "1.1.1.1"),
        ("via", "1.1 other"),
    ];

    #[test]
    fn a_clients_own_claims_are_dropped() {
        let mut expected = told("198.51.100.7:4711", "h", &[]);
        expected.insert(1, "via: 1.1 other".to_owned());
        assert_eq!(told("198.51.100.7:4711", "h", &CLAIMS), expected);
        assert_eq!(told("[::ffff:198.51.100.7]:1", "h", &CLAIMS).join("\n").matches("1.1.1.1").count(), 0);
    }

    #[test]
    fn a_trusted_proxys_claims_are_added_to() {
        assert_eq!(
            told("10.0.0.1:4711", "h", &CLAIMS),
            [
                "forwarded: for=1.1.1.1, for=10.0.0.1;host=h;proto=http",
                "via: 1.1 other",
                "via: 1.1 af",
                "x-forwarded-for: 1.1.1.1, 10.0.0.1",
                "x-forwarded-host: bank.example",
                "x-forwarded-port: 443",
                "x-forwarded-proto: https",
                "x-real-ip: 1.1.1.1",
            ],
        );
    }

    #[test]
    fn a_route_to_itself_ends() {
        let (mut headers, trusted) = (HeaderMap::new(), TrustedProxies::default());
        let peer = Peer::plain("198.51.100.7:1".parse().unwrap());
        let passed =
            (0..20).take_while(|_| tell(&mut headers, &peer, &trusted, "h", Version::HTTP_11).is_ok());
        assert_eq!(passed.count(), PASSES);
    }
}
