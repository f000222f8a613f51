//! Which addresses guests may reach: the public internet, and what the operator opens besides. A name is resolved,
//! its addresses are checked, and the connection goes to an address that was checked: what the name
//! means a moment later does not matter.

use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper_util::rt::TokioIo;
pub use ipnet::IpNet;
use ipnet::{Ipv4Net, Ipv6Net};
use tokio::net::TcpStream;
use tower_service::Service;

/// How long a connection to one address may take.
pub const CONNECT: Duration = Duration::from_secs(10);

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum EgressError {
    /// The URL names no host, or one that cannot be asked for.
    #[error("the URL has no usable host")]
    Host,
    /// The name is unknown or the resolver failed.
    #[error("the name cannot be resolved")]
    Resolve(#[source] io::Error),
    /// It means addresses that guests may not reach.
    #[error("the address is not one that functions may reach")]
    Prohibited,
    /// Nobody answers there.
    #[error("no connection")]
    Connect(#[source] io::Error),
}

/// The policy. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Egress {
    opened: Arc<[IpNet]>,
    names: Names,
}

/// Who says what a name means.
#[derive(Clone, Debug, Default)]
enum Names {
    /// The system's resolver.
    #[default]
    System,
    /// A hostile one.
    #[cfg(test)]
    Scripted(fn(u16) -> Vec<SocketAddr>),
}

impl Names {
    async fn resolve(&self, name: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        match self {
            Self::System => Ok(tokio::net::lookup_host((name, port)).await?.collect()),
            #[cfg(test)]
            Self::Scripted(answer) => Ok(answer(port)),
        }
    }
}

impl Egress {
    /// The public internet and these networks.
    #[must_use]
    pub fn new(opened: &[IpNet]) -> Self {
        Self { opened: opened.into(), names: Names::default() }
    }

    /// Whether guests may reach an address.
    #[must_use]
    pub fn permits(&self, address: IpAddr) -> bool {
        is_public(address) || self.opened.iter().any(|network| network.contains(&address))
    }

    /// A connection to where a URI leads, if one of its addresses is permitted.
    ///
    /// # Errors
    /// When there is none.
    pub async fn connect(self, uri: Uri) -> Result<TokioIo<TcpStream>, EgressError> {
        let host = uri.host().ok_or(EgressError::Host)?;
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let default = if uri.scheme_str() == Some("https") { 443 } else { 80 };
        let port = uri.port_u16().unwrap_or(default);
        // RFC 6761 section 6.3: such names are this machine, and no resolver's business.
        let local = host.to_ascii_lowercase().trim_end_matches('.').ends_with(".localhost");
        let name = if local { "localhost" } else { host };
        let resolved = self.names.resolve(name, port).await.map_err(EgressError::Resolve)?;
        let mut failed = EgressError::Prohibited;
        for address in resolved.into_iter().filter(|address| self.permits(address.ip())) {
            match connect(address).await {
                Ok(stream) => return Ok(stream),
                Err(error) => failed = EgressError::Connect(error),
            }
        }
        Err(failed)
    }
}

async fn connect(address: SocketAddr) -> io::Result<TokioIo<TcpStream>> {
    let connecting = tokio::time::timeout(CONNECT, TcpStream::connect(address));
    let stream = connecting.await.map_err(|_| io::ErrorKind::TimedOut)??;
    stream.set_nodelay(true)?;
    Ok(TokioIo::new(stream))
}

/// As a connector of hyper's client.
impl Service<Uri> for Egress {
    type Response = TokioIo<TcpStream>;
    type Error = EgressError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, EgressError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), EgressError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        Box::pin(self.clone().connect(uri))
    }
}

/// Whether an address is one of the public internet: globally reachable by the IANA registries of special
/// purpose addresses, and no other way to write an address that is not.
#[must_use]
pub fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => !SPECIAL_V4.iter().any(|network| network.contains(&address)),
        // Everything else, mapped and translated IPv4 addresses included, is special.
        IpAddr::V6(address) => {
            GLOBAL_UNICAST.contains(&address) && !SPECIAL_V6.iter().any(|network| network.contains(&address))
        }
    }
}

const fn v4(a: u8, b: u8, c: u8, d: u8, bits: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), bits)
}

const fn v6(a: u16, b: u16, bits: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::new(a, b, 0, 0, 0, 0, 0, 0), bits)
}

/// <https://www.iana.org/assignments/iana-ipv4-special-registry>, multicast and the former class E.
const SPECIAL_V4: [Ipv4Net; 15] = [
    v4(0, 0, 0, 0, 8),
    v4(10, 0, 0, 0, 8),
    v4(100, 64, 0, 0, 10),
    v4(127, 0, 0, 0, 8),
    v4(169, 254, 0, 0, 16),
    v4(172, 16, 0, 0, 12),
    v4(192, 0, 0, 0, 24),
    v4(192, 0, 2, 0, 24),
    v4(192, 88, 99, 0, 24),
    v4(192, 168, 0, 0, 16),
    v4(198, 18, 0, 0, 15),
    v4(198, 51, 100, 0, 24),
    v4(203, 0, 113, 0, 24),
    v4(224, 0, 0, 0, 4),
    v4(240, 0, 0, 0, 4),
];

/// All global unicast addresses that were ever given out.
const GLOBAL_UNICAST: Ipv6Net = v6(0x2000, 0, 3);

/// <https://www.iana.org/assignments/iana-ipv6-special-registry> within it: protocol assignments (Teredo among
/// them), documentation, and 6to4, which holds IPv4 addresses.
const SPECIAL_V6: [Ipv6Net; 4] =
    [v6(0x2001, 0, 23), v6(0x2001, 0xdb8, 32), v6(0x2002, 0, 16), v6(0x3fff, 0, 20)];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_the_public_internet_is_public() {
        for public in [
            "1.1.1.1",
            "9.255.255.255",
            "11.0.0.0",
            "172.15.255.255",
            "172.32.0.0",
            "223.255.255.255",
            "2606:4700:4700::1111",
            "2a00:1450:4001:80b::200e",
            "2001:200::1",
        ] {
            assert!(is_public(public.parse().unwrap()), "{public}");
        }
        for special in [
            "0.0.0.0",
            "10.1.2.3",
            "100.64.0.1",
            "127.0.0.1",
            "127.255.255.254",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.8",
            "192.168.0.1",
            "198.19.0.1",
            "224.0.0.1",
            "239.1.1.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::ffff:8.8.8.8",
            "::127.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b:1::1",
            "100::1",
            "2001::1",
            "2001:db8::1",
            "2002:7f00:1::",
            "3fff::1",
            "5f00::1",
            "fc00::1",
            "fd00:ec2::254",
            "fe80::1",
            "fec0::1",
            "ff02::1",
        ] {
            assert!(!is_public(special.parse().unwrap()), "{special}");
        }
    }

    #[test]
    fn an_operator_opens_what_was_meant_and_no_more() {
        let egress = Egress::new(&["127.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()]);
        assert!(egress.permits("127.0.0.1".parse().unwrap()));
        assert!(egress.permits("fd12::1".parse().unwrap()));
        assert!(!egress.permits("10.0.0.1".parse().unwrap()));
        assert!(!egress.permits("::ffff:127.0.0.1".parse().unwrap()), "the same place, written otherwise");
        assert!(!egress.permits("::1".parse().unwrap()));
    }

    #[tokio::test]
    async fn a_name_that_changes_its_answer_leads_to_no_other_address() {
        use std::sync::atomic::{AtomicUsize, Ordering};
        static ASKED: AtomicUsize = AtomicUsize::new(0);
        let address = |last: u8, port: u16| SocketAddr::from(([127, 0, 0, last], port));
        let open = tokio::net::TcpListener::bind(address(2, 0)).await.unwrap();
        let port = open.local_addr().unwrap().port();
        let closed = tokio::net::TcpListener::bind(address(1, port)).await.unwrap();
        // Opened, forbidden, both: another answer each time that somebody asks.
        let answer = |port| match ASKED.fetch_add(1, Ordering::Relaxed) % 3 {
            0 => vec![SocketAddr::from(([127, 0, 0, 2], port))],
            1 => vec![SocketAddr::from(([127, 0, 0, 1], port))],
            _ => vec![SocketAddr::from(([127, 0, 0, 1], port)), SocketAddr::from(([127, 0, 0, 2], port))],
        };
        let egress =
            Egress { names: Names::Scripted(answer), ..Egress::new(&["127.0.0.2/32".parse().unwrap()]) };
        for _ in 0..10 {
            let uri: Uri = format!("http://rebinding.example:{port}/").parse().unwrap();
            assert!(egress.clone().connect(uri.clone()).await.is_ok());
            assert!(matches!(egress.clone().connect(uri.clone()).await, Err(EgressError::Prohibited)));
            assert!(egress.clone().connect(uri).await.is_ok());
        }
        assert_eq!(ASKED.load(Ordering::Relaxed), 30, "asked once for each connection");
        assert!(
            futures::FutureExt::now_or_never(closed.accept()).is_none(),
            "nobody came to the forbidden one"
        );
    }

    proptest! {
        #[test]
        fn no_address_that_holds_a_special_one_is_public(bits: u32) {
            let inner = Ipv4Addr::from_bits(bits);
            let [a, b] = [(bits >> 16) as u16, (bits & 0xffff) as u16];
            // Mapped, compatible, NAT64, 6to4.
            for outer in [inner.to_ipv6_mapped(), inner.to_ipv6_compatible(),
                Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, a, b), Ipv6Addr::new(0x2002, a, b, 0, 0, 0, 0, 1)]
            {
                prop_assert!(!is_public(outer.into()));
            }
            prop_assert!(!is_public(inner.into()) || !(inner.is_private() || inner.is_loopback() || inner.is_link_local()
                || inner.is_multicast() || inner.is_broadcast() || inner.is_unspecified() || inner.is_documentation()));
        }
    }
}
