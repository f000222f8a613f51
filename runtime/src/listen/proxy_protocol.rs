//! The PROXY protocol, version 2: what a balancer that passes bytes on says of the client, before the first of them.
//! <https://www.haproxy.org/download/3.2/doc/proxy-protocol.txt>. Version 1, a line of text, is refused: every balancer
//! that sends it can send this one.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt};

use super::TrustedProxies;

/// A balancer sends the header with its first packet.
const TIMEOUT: Duration = Duration::from_secs(5);

const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";

/// The signature, version and command, family, length.
const FIXED: usize = 16;

/// Addresses and what may follow them: with a client certificate's names and checksums it is some hundred bytes.
const VARIABLE: usize = 2048;

/// Why a connection from a trusted balancer is closed.
#[derive(Debug, thiserror::Error)]
pub enum ProxyProtocolError {
    /// It begins otherwise, or with version 1.
    #[error("the connection does not begin with a PROXY header of version 2")]
    Signature,
    /// A command that is neither LOCAL nor PROXY.
    #[error("the PROXY header has an unknown command")]
    Command,
    /// More than any balancer sends.
    #[error("the PROXY header has {0} bytes after its fixed part; at most {VARIABLE} are accepted")]
    TooLong(usize),
    /// Too short for the addresses that it announces.
    #[error("the PROXY header is too short for its addresses")]
    Truncated,
    /// The balancer was too slow.
    #[error("the PROXY header did not come in time")]
    Late,
    /// The connection broke.
    #[error("the PROXY header cannot be read")]
    Io(#[from] io::Error),
}

/// Whose connections begin with a PROXY header: those of trusted proxies, if the operator said so. Others are served
/// as they come: a header from them is no HTTP and so refused.
#[derive(Clone, Debug, Default)]
pub struct ProxyProtocol {
    senders: Option<TrustedProxies>,
}

impl ProxyProtocol {
    /// From these.
    #[must_use]
    pub fn from(senders: TrustedProxies) -> Self {
        Self { senders: Some(senders) }
    }

    /// The client's address: the connection's, or what the header says, which is read and no byte more.
    ///
    /// # Errors
    /// When a trusted proxy sends no good header: what follows cannot be told apart from it, so the connection is of no use.
    pub async fn client(
        &self,
        stream: &mut (impl AsyncRead + Unpin),
        address: SocketAddr,
    ) -> Result<SocketAddr, ProxyProtocolError> {
        if !self.senders.as_ref().is_some_and(|senders| senders.contains(address.ip())) {
            return Ok(address);
        }
        // In a box: without a header to read, a connection has no room for one.
        let read = Box::pin(tokio::time::timeout(TIMEOUT, read(stream)));
        Ok(read.await.map_err(|_| ProxyProtocolError::Late)??.unwrap_or(address))
    }
}

async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Result<Option<SocketAddr>, ProxyProtocolError> {
    let mut fixed = [0; FIXED];
    stream.read_exact(&mut fixed).await?;
    let (kind, length) = parse_fixed(&fixed)?;
    let mut variable = [0; VARIABLE];
    let variable = variable.get_mut(..length).ok_or(ProxyProtocolError::TooLong(length))?;
    stream.read_exact(variable).await?;
    parse_addresses(kind, variable)
}

/// What the addresses are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    V4,
    V6,
    /// The balancer's own connection (a health check), or a family without addresses of ours: the connection's counts.
    Own,
}

fn parse_fixed(fixed: &[u8; FIXED]) -> Result<(Kind, usize), ProxyProtocolError> {
    let [signature @ .., version, family, high, low] = fixed;
    if *signature != SIGNATURE || version >> 4 != 2 {
        return Err(ProxyProtocolError::Signature);
    }
    let kind = match (version & 0xf, family >> 4) {
        (0, _) => Kind::Own,
        (1, 1) => Kind::V4,
        (1, 2) => Kind::V6,
        (1, _) => Kind::Own,
        _ => return Err(ProxyProtocolError::Command),
    };
    let length = usize::from(u16::from_be_bytes([*high, *low]));
    if length > VARIABLE { Err(ProxyProtocolError::TooLong(length)) } else { Ok((kind, length)) }
}

/// Source and destination address, source and destination port, and more that does not matter.
fn parse_addresses(kind: Kind, variable: &[u8]) -> Result<Option<SocketAddr>, ProxyProtocolError> {
    let address = match kind {
        Kind::Own => return Ok(None),
        Kind::V4 => variable.first_chunk::<12>().map(|[a, b, c, d, _, _, _, _, high, low, _, _]| {
            let ip = IpAddr::V4(Ipv4Addr::new(*a, *b, *c, *d));
            SocketAddr::new(ip, u16::from_be_bytes([*high, *low]))
        }),
        Kind::V6 => variable.first_chunk::<36>().and_then(|addresses| {
            let source: [u8; 16] = *addresses.first_chunk()?;
            let [.., high, low, _, _] = addresses;
            Some(SocketAddr::new(Ipv6Addr::from(source).into(), u16::from_be_bytes([*high, *low])))
        }),
    };
    address.map(Some).ok_or(ProxyProtocolError::Truncated)
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use proptest::prelude::*;

    use super::*;

    const BALANCER: &str = "10.0.0.1:5000";

    /// As the specification lays it out.
    fn header(command: u8, source: SocketAddr, extra: &[u8]) -> Vec<u8> {
        let (family, mut addresses) = match source.ip() {
            IpAddr::V4(ip) => (0x11, [ip.octets(), [192, 0, 2, 1]].concat()),
            IpAddr::V6(ip) => (0x21, [ip.octets(), [1; 16]].concat()),
        };
        addresses.extend(source.port().to_be_bytes());
        addresses.extend(443u16.to_be_bytes());
        addresses.extend(extra);
        let length = u16::try_from(addresses.len()).unwrap().to_be_bytes();
        [&SIGNATURE[..], &[0x20 | command, family], &length, &addresses].concat()
    }

    async fn client(bytes: &[u8], from: &str) -> Result<(SocketAddr, usize), ProxyProtocolError> {
        let trusted = TrustedProxies::new(&["10.0.0.0/8".parse().unwrap()]);
        let mut rest = bytes;
        let address = ProxyProtocol::from(trusted).client(&mut rest, from.parse().unwrap()).await?;
        Ok((address, rest.len()))
    }

    #[tokio::test]
    async fn the_client_is_who_the_balancer_says_and_the_rest_is_left() {
        for source in ["198.51.100.7:4711", "[2001:db8::7]:4711"] {
            let source = source.parse().unwrap();
            let bytes = [&header(1, source, &[4, 0, 1, 9])[..], b"GET /"].concat();
            assert_eq!(client(&bytes, BALANCER).await.unwrap(), (source, 5));
        }
    }

    #[tokio::test]
    async fn a_balancers_own_connection_has_its_own_address() {
        let bytes = header(0, "198.51.100.7:1".parse().unwrap(), &[]);
        assert_eq!(client(&bytes, BALANCER).await.unwrap(), (BALANCER.parse().unwrap(), 0));
    }

    #[tokio::test]
    async fn a_stranger_is_not_asked_and_not_believed() {
        let bytes = header(1, "198.51.100.7:1".parse().unwrap(), &[]);
        let stranger = "203.0.113.5:77";
        assert_eq!(client(&bytes, stranger).await.unwrap(), (stranger.parse().unwrap(), bytes.len()));
        let off = ProxyProtocol::default().client(&mut &bytes[..], BALANCER.parse().unwrap()).await;
        assert_eq!(off.unwrap(), BALANCER.parse().unwrap());
    }

    #[tokio::test]
    async fn a_bad_header_is_refused() {
        let good = header(1, "198.51.100.7:1".parse().unwrap(), &[]);
        let with = |at: usize, byte: u8| {
            let mut bytes = good.clone();
            bytes[at] = byte;
            bytes
        };
        assert!(matches!(
            client(b"GET / HTTP/1.1\r\n\r\n", BALANCER).await,
            Err(ProxyProtocolError::Signature)
        ));
        let one = b"PROXY TCP4 198.51.100.7 192.0.2.1 1 2\r\n";
        assert!(matches!(client(one, BALANCER).await, Err(ProxyProtocolError::Signature)));
        assert!(matches!(client(&with(12, 0x11), BALANCER).await, Err(ProxyProtocolError::Signature)));
        assert!(matches!(client(&with(12, 0x22), BALANCER).await, Err(ProxyProtocolError::Command)));
        assert!(matches!(client(&with(14, 0xff), BALANCER).await, Err(ProxyProtocolError::TooLong(_))));
        assert!(matches!(client(&with(15, 11), BALANCER).await, Err(ProxyProtocolError::Truncated)));
        assert!(matches!(client(&good[..20], BALANCER).await, Err(ProxyProtocolError::Io(_))));
    }

    proptest! {
        #[test]
        fn any_address_comes_through_and_nothing_is_read_too_much(
            ip: IpAddr, port: u16, extra in prop::collection::vec(any::<u8>(), 0..200), rest in prop::collection::vec(any::<u8>(), 0..50),
        ) {
            let source = SocketAddr::new(ip, port);
            let bytes = [header(1, source, &extra), rest.clone()].concat();
            let mut left = &bytes[..];
            let read = super::read(&mut left).now_or_never().unwrap();
            prop_assert_eq!((read.unwrap(), left.len()), (Some(source), rest.len()));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), good_start: bool) {
            let bytes = if good_start { [&SIGNATURE[..], &bytes].concat() } else { bytes };
            // Whatever it says.
            let _read = super::read(&mut &bytes[..]).now_or_never().unwrap();
        }
    }
}
