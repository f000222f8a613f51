//! The operator's own proxies and balancers: what they say of a client's address is believed, what others say is not.

use std::net::IpAddr;
use std::sync::Arc;

use http::HeaderMap;
use http::header::HeaderName;
use ipnet::IpNet;

/// Where proxies write who asked them, each to the right of what it was told.
pub const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Networks of trusted proxies; by default none. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct TrustedProxies(Arc<[IpNet]>);

impl TrustedProxies {
    /// Those in these networks.
    #[must_use]
    pub fn new(networks: &[IpNet]) -> Self {
        Self(networks.into())
    }

    /// Whether a connection from this address is a trusted proxy's.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        // A listener on [::] shows IPv4 addresses as mapped ones.
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(&address))
    }

    /// Who sent a request that came over a connection from `address`: the right-most address in `X-Forwarded-For` that
    /// is no trusted proxy's, if the connection is one's. An entry that is no address ends the search, since nothing
    /// left of it can be believed.
    #[must_use]
    pub fn client(&self, address: IpAddr, headers: &HeaderMap) -> IpAddr {
        let mut client = address.to_canonical();
        if self.0.is_empty() || !self.contains(client) {
            return client;
        }
        let lines = headers.get_all(X_FORWARDED_FOR).iter().rev();
        for line in lines {
            let Ok(line) = line.to_str() else { return client };
            for entry in line.rsplit(',') {
                let Some(said) = parse(entry.trim()) else { return client };
                client = said;
                if !self.contains(client) {
                    return client;
                }
            }
        }
        client
    }
}

/// An address, also with a port as some balancers write it.
fn parse(text: &str) -> Option<IpAddr> {
    let plain = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    let address =
        plain.parse().or_else(|_| text.parse().map(|with_port: std::net::SocketAddr| with_port.ip()));
    address.ok().map(|address: IpAddr| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn client(connection: &str, lines: &[&'static str]) -> String {
        let trusted = TrustedProxies::new(&["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()]);
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(X_FORWARDED_FOR, HeaderValue::from_static(line));
        }
        trusted.client(connection.parse().unwrap(), &headers).to_string()
    }

    #[test]
    fn the_client_is_the_right_most_address_that_is_not_trusted() {
        assert_eq!(client("10.0.0.1", &["198.51.100.7"]), "198.51.100.7");
        assert_eq!(client("10.0.0.1", &["1.1.1.1, 198.51.100.7, 10.2.3.4"]), "198.51.100.7");
        assert_eq!(client("10.0.0.1", &["1.1.1.1", "198.51.100.7", "10.2.3.4"]), "198.51.100.7");
        assert_eq!(client("::ffff:10.0.0.1", &["2001:db8::9"]), "2001:db8::9", "mapped");
        assert_eq!(client("fd00::1", &["[2001:db8::9]:443"]), "2001:db8::9", "with a port");
        assert_eq!(client("fd00::1", &["198.51.100.7:4711"]), "198.51.100.7");
    }

    #[test]
    fn a_strangers_word_counts_for_nothing() {
        assert_eq!(client("198.51.100.1", &["10.0.0.9"]), "198.51.100.1");
        assert_eq!(client("::ffff:198.51.100.1", &["10.0.0.9"]), "198.51.100.1");
    }

    #[test]
    fn what_is_no_address_ends_the_search_at_the_last_good_one() {
        assert_eq!(client("10.0.0.1", &["1.1.1.1, unknown, 10.0.0.7"]), "10.0.0.7");
        assert_eq!(client("10.0.0.1", &["1.1.1.1,, 10.0.0.7"]), "10.0.0.7");
        assert_eq!(client("10.0.0.1", &[]), "10.0.0.1");
        assert_eq!(client("10.0.0.1", &["10.0.0.7, 10.0.0.8"]), "10.0.0.7", "all of them trusted");
    }
}
