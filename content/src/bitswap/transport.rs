//! TCP as libp2p wants it: addresses of IPv4, IPv6 and DNS names, encrypted by Noise.
//!
//! libp2p's own TCP watches the machine's network interfaces, which takes ten more crates and is of no use to a node that
//! is told where to listen.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::FutureExt;
use futures::future::{BoxFuture, Ready, ready};
use libp2p_core::multiaddr::Protocol;
use libp2p_core::muxing::StreamMuxerBox;
use libp2p_core::transport::{Boxed, DialOpts, ListenerId, TransportError, TransportEvent};
use libp2p_core::upgrade::Version;
use libp2p_core::{Multiaddr, Transport};
use libp2p_identity::Keypair;
use libp2p_identity::PeerId;
use libp2p_noise as noise;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Sleep;
use tokio_util::compat::{Compat, TokioAsyncReadCompatExt};

use super::muxer::Yamux;

/// For connecting, encryption and choosing protocols together.
const HANDSHAKE_TIME: Duration = Duration::from_secs(10);

/// After accepting failed, which is mostly because files ran out: looking again at once would only cost time.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Encrypted connections of many streams, over TCP.
pub fn transport(key: &Keypair) -> Result<Boxed<(PeerId, StreamMuxerBox)>, noise::Error> {
    let noise = noise::Config::new(key)?;
    let upgraded = Tcp::default().upgrade(Version::V1Lazy).authenticate(noise).multiplex(Yamux);
    Ok(upgraded.timeout(HANDSHAKE_TIME).boxed())
}

type Event = TransportEvent<Ready<io::Result<Compat<TcpStream>>>, io::Error>;

#[derive(Default)]
struct Tcp {
    listeners: Vec<Listener>,
    events: VecDeque<Event>,
    pause: Option<Pin<Box<Sleep>>>,
}

struct Listener {
    id: ListenerId,
    socket: TcpListener,
    address: Multiaddr,
}

impl Tcp {
    fn listen(&mut self, id: ListenerId, address: SocketAddr) -> io::Result<()> {
        let socket = std::net::TcpListener::bind(address)?;
        socket.set_nonblocking(true)?;
        let socket = TcpListener::from_std(socket)?;
        let address = multiaddr(socket.local_addr()?);
        self.events.push_back(TransportEvent::NewAddress { listener_id: id, listen_addr: address.clone() });
        self.listeners.push(Listener { id, socket, address });
        Ok(())
    }

    /// Whether accepting goes on now.
    fn poll_pause(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(pause) = &mut self.pause else { return Poll::Ready(()) };
        std::task::ready!(pause.poll_unpin(cx));
        self.pause = None;
        Poll::Ready(())
    }
}

impl Transport for Tcp {
    type Output = Compat<TcpStream>;
    type Error = io::Error;
    type ListenerUpgrade = Ready<io::Result<Self::Output>>;
    type Dial = BoxFuture<'static, io::Result<Self::Output>>;

    fn listen_on(&mut self, id: ListenerId, address: Multiaddr) -> Result<(), TransportError<io::Error>> {
        match Target::parse(&address) {
            Some(Target::Ip(target)) => self.listen(id, target).map_err(TransportError::Other),
            _ => Err(TransportError::MultiaddrNotSupported(address)),
        }
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        let before = self.listeners.len();
        self.listeners.retain(|listener| listener.id != id);
        let removed = self.listeners.len() < before;
        if removed {
            self.events.push_back(TransportEvent::ListenerClosed { listener_id: id, reason: Ok(()) });
        }
        removed
    }

    fn dial(&mut self, address: Multiaddr, _: DialOpts) -> Result<Self::Dial, TransportError<io::Error>> {
        let Some(target) = Target::parse(&address) else {
            return Err(TransportError::MultiaddrNotSupported(address));
        };
        Ok(async move { no_delay(target.connect().await?) }.boxed())
    }

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Event> {
        let this = &mut *self;
        if let Some(event) = this.events.pop_front() {
            return Poll::Ready(event);
        }
        std::task::ready!(this.poll_pause(cx));
        for listener in &this.listeners {
            let listener_id = listener.id;
            match listener.socket.poll_accept(cx) {
                Poll::Ready(Ok((stream, from))) => {
                    return Poll::Ready(TransportEvent::Incoming {
                        listener_id,
                        upgrade: ready(no_delay(stream)),
                        local_addr: listener.address.clone(),
                        send_back_addr: multiaddr(from),
                    });
                }
                Poll::Ready(Err(error)) => {
                    this.pause = Some(Box::pin(tokio::time::sleep(ACCEPT_PAUSE)));
                    return Poll::Ready(TransportEvent::ListenerError { listener_id, error });
                }
                Poll::Pending => {}
            }
        }
        Poll::Pending
    }
}

/// Messages are written whole, so nothing is won by waiting for more.
fn no_delay(stream: TcpStream) -> io::Result<Compat<TcpStream>> {
    stream.set_nodelay(true)?;
    Ok(stream.compat())
}

pub(super) fn multiaddr(address: SocketAddr) -> Multiaddr {
    Multiaddr::from(address.ip()).with(Protocol::Tcp(address.port()))
}

/// Where an address leads.
pub(super) enum Target {
    Ip(SocketAddr),
    Name { name: String, port: u16, of: Option<Family> },
}

#[derive(Clone, Copy)]
pub(super) enum Family {
    V4,
    V6,
}

impl Target {
    /// Of `/ip4/…/tcp/…` and the like, which may end with a peer's id.
    pub(super) fn parse(address: &Multiaddr) -> Option<Self> {
        let mut parts = address.iter();
        let (host, Protocol::Tcp(port)) = (parts.next()?, parts.next()?) else { return None };
        if !parts.all(|part| matches!(part, Protocol::P2p(_))) {
            return None;
        }
        let name = |name: &str, of| Self::Name { name: name.to_owned(), port, of };
        match host {
            Protocol::Ip4(ip) => Some(Self::Ip((IpAddr::V4(ip), port).into())),
            Protocol::Ip6(ip) => Some(Self::Ip((IpAddr::V6(ip), port).into())),
            Protocol::Dns(host) => Some(name(&host, None)),
            Protocol::Dns4(host) => Some(name(&host, Some(Family::V4))),
            Protocol::Dns6(host) => Some(name(&host, Some(Family::V6))),
            _ => None,
        }
    }

    async fn connect(self) -> io::Result<TcpStream> {
        TcpStream::connect(&self.resolve().await?[..]).await
    }

    pub(super) async fn resolve(self) -> io::Result<Vec<SocketAddr>> {
        match self {
            Self::Ip(address) => Ok(vec![address]),
            Self::Name { name, port, of } => {
                let found = tokio::net::lookup_host((name.as_str(), port)).await?;
                Ok(found.filter(|address| fits(address, of)).collect())
            }
        }
    }
}

fn fits(address: &SocketAddr, of: Option<Family>) -> bool {
    match of {
        None => true,
        Some(Family::V4) => address.is_ipv4(),
        Some(Family::V6) => address.is_ipv6(),
    }
}
