//! Bitswap on one connection: reads messages from the streams that the peer opens, and writes ours to one of its own.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::{Ready, ready};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::{BoxStream, FuturesUnordered, SelectAll};
use futures::{FutureExt, StreamExt};
use libp2p_core::upgrade::{InboundUpgrade, OutboundUpgrade, UpgradeInfo};
use libp2p_swarm::handler::{
    ConnectionEvent, DialUpgradeError, FullyNegotiatedInbound, FullyNegotiatedOutbound,
};
use libp2p_swarm::{
    ConnectionHandler, ConnectionHandlerEvent, Stream, StreamProtocol, StreamUpgradeError, SubstreamProtocol,
};
use tokio::sync::Semaphore;
use tokio::time::{Instant, Sleep};

use super::message::{Message, Version};
use super::stream::{self, Incoming, ReadError};

/// Streams of a peer at once. Kubo opens one for its wants and eight for blocks; further ones are reset.
const INBOUND_STREAMS: usize = 16;

/// What may wait to be written, in bytes: twice of what a ledger has under way, and refusals. A peer that lets more wait
/// does not read.
const QUEUE: usize = 8 << 20;

/// How long our stream stays open for the next message. Helia ends streams after five seconds, and a message that is
/// just then on its way would be lost.
const LINGER: Duration = Duration::from_secs(1);

/// How long a peer that nobody configured may say nothing and still be connected.
const SILENCE: Duration = Duration::from_secs(300);

/// All versions, the newest first: the first one that the other side knows is spoken.
#[derive(Clone, Copy, Debug)]
pub struct Protocols;

const PROTOCOLS: [(StreamProtocol, Version); 3] = [
    (StreamProtocol::new("/ipfs/bitswap/1.2.0"), Version::V1_2),
    (StreamProtocol::new("/ipfs/bitswap/1.1.0"), Version::V1_1),
    (StreamProtocol::new("/ipfs/bitswap/1.0.0"), Version::V1_0),
];

impl UpgradeInfo for Protocols {
    type Info = StreamProtocol;
    type InfoIter = std::array::IntoIter<StreamProtocol, 3>;

    fn protocol_info(&self) -> Self::InfoIter {
        PROTOCOLS.map(|(name, _)| name).into_iter()
    }
}

impl InboundUpgrade<Stream> for Protocols {
    type Output = Stream;
    type Error = Infallible;
    type Future = Ready<Result<Stream, Infallible>>;

    fn upgrade_inbound(self, stream: Stream, _: StreamProtocol) -> Self::Future {
        ready(Ok(stream))
    }
}

impl OutboundUpgrade<Stream> for Protocols {
    type Output = (Stream, Version);
    type Error = Infallible;
    type Future = Ready<Result<(Stream, Version), Infallible>>;

    fn upgrade_outbound(self, stream: Stream, chosen: StreamProtocol) -> Self::Future {
        let version = PROTOCOLS.iter().find(|(name, _)| *name == chosen).map(|(_, version)| *version);
        ready(Ok((stream, version.unwrap_or(Version::V1_0))))
    }
}

/// What happened on the connection.
#[derive(Debug)]
pub enum Event {
    /// A message came.
    Received(Incoming),
    /// A message is on its way that was to be reported with this.
    Sent(usize),
    /// The connection is of no use any more.
    Failed(Failure),
}

/// Why a connection is of no use.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The peer speaks no bitswap.
    #[error("it speaks no bitswap")]
    Unsupported,
    /// What it sent is against the protocol.
    #[error("it breaks the protocol")]
    Violation(#[source] ReadError),
    /// It does not read what it is sent.
    #[error("it does not read what it is sent")]
    Deaf,
    /// A stream could not be opened or written.
    #[error("a message could not be written")]
    Write(#[source] io::Error),
}

impl Failure {
    /// Whether the next connection would be no better.
    pub const fn is_lasting(&self) -> bool {
        match self {
            Self::Unsupported | Self::Violation(_) => true,
            Self::Deaf | Self::Write(_) => false,
        }
    }
}

/// A message to a peer.
#[derive(Debug)]
pub struct Outgoing {
    pub message: Message,
    /// Of its answers that count as under way until it is written; reported then.
    pub weight: usize,
}

/// One connection.
pub struct Handler {
    /// What messages may take that are read at the same time.
    budget: Arc<Semaphore>,
    /// The connection is kept, whether or not it is used.
    keep: bool,
    last_used: Instant,
    inbound: SelectAll<BoxStream<'static, Result<Incoming, ReadError>>>,
    queue: VecDeque<Outgoing>,
    /// The bytes in it.
    queued: usize,
    outbound: Outbound,
    closing: FuturesUnordered<BoxFuture<'static, ()>>,
    failure: Option<Failure>,
    /// After one there is nothing more to do here.
    failed: bool,
}

enum Outbound {
    None,
    Opening,
    Writing(BoxFuture<'static, Written>),
    Open { stream: Stream, version: Version, until: Pin<Box<Sleep>> },
}

struct Written {
    stream: Stream,
    version: Version,
    weight: usize,
    result: io::Result<()>,
}

impl Handler {
    /// `keep`: also when nothing is said.
    pub fn new(budget: Arc<Semaphore>, keep: bool) -> Self {
        Self {
            budget,
            keep,
            last_used: Instant::now(),
            inbound: SelectAll::new(),
            queue: VecDeque::new(),
            queued: 0,
            outbound: Outbound::None,
            closing: FuturesUnordered::new(),
            failure: None,
            failed: false,
        }
    }

    fn accept(&mut self, mut stream: Stream) {
        if self.inbound.len() >= INBOUND_STREAMS {
            return;
        }
        // An open stream on which nothing is said is no reason to stay connected.
        stream.ignore_for_keep_alive();
        let budget = Arc::clone(&self.budget);
        let messages = futures::stream::unfold(Some(stream), move |stream| {
            let budget = Arc::clone(&budget);
            async move {
                let mut stream = stream?;
                match stream::read(&mut stream, &budget).await {
                    Ok(incoming) => incoming.map(|incoming| (Ok(incoming), Some(stream))),
                    Err(error) => Some((Err(error), None)),
                }
            }
        });
        self.inbound.push(messages.boxed());
    }

    fn fail(&mut self, failure: Failure) {
        self.failure.get_or_insert(failure);
        self.queue.clear();
        self.outbound = Outbound::None;
    }

    fn poll_inbound(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        loop {
            match self.inbound.poll_next_unpin(cx) {
                Poll::Ready(Some(Ok(incoming))) => {
                    self.last_used = Instant::now();
                    return Poll::Ready(Event::Received(incoming));
                }
                Poll::Ready(Some(Err(ReadError::Io(error)))) => {
                    tracing::debug!(%error, "a bitswap stream broke");
                }
                Poll::Ready(Some(Err(error))) => {
                    self.fail(Failure::Violation(error));
                    return Poll::Pending;
                }
                Poll::Ready(None) | Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// Writes what is there to be written, after asking for a stream.
    fn poll_outbound(&mut self, cx: &mut Context<'_>) -> Poll<Step> {
        loop {
            match std::mem::replace(&mut self.outbound, Outbound::None) {
                Outbound::None if self.queue.is_empty() => return Poll::Pending,
                Outbound::None => {
                    self.outbound = Outbound::Opening;
                    return Poll::Ready(Step::Open);
                }
                Outbound::Opening => {
                    self.outbound = Outbound::Opening;
                    return Poll::Pending;
                }
                Outbound::Writing(mut writing) => {
                    let Poll::Ready(written) = writing.poll_unpin(cx) else {
                        self.outbound = Outbound::Writing(writing);
                        return Poll::Pending;
                    };
                    if let Err(error) = written.result {
                        self.fail(Failure::Write(error));
                        return Poll::Pending;
                    }
                    self.last_used = Instant::now();
                    self.outbound = Outbound::open(written.stream, written.version);
                    return Poll::Ready(Step::Sent(written.weight));
                }
                Outbound::Open { stream, version, mut until } => match self.queue.pop_front() {
                    Some(outgoing) => {
                        self.queued = self.queued.saturating_sub(outgoing.message.size());
                        self.outbound = Outbound::write(stream, version, outgoing);
                    }
                    None if until.poll_unpin(cx).is_ready() => {
                        self.closing.push(stream::close(stream).boxed());
                    }
                    None => {
                        self.outbound = Outbound::Open { stream, version, until };
                        return Poll::Pending;
                    }
                },
            }
        }
    }
}

enum Step {
    Open,
    Sent(usize),
}

impl Outbound {
    fn open(mut stream: Stream, version: Version) -> Self {
        stream.ignore_for_keep_alive();
        Self::Open { stream, version, until: Box::pin(tokio::time::sleep(LINGER)) }
    }

    fn write(mut stream: Stream, version: Version, outgoing: Outgoing) -> Self {
        let writing = async move {
            let result = stream::write(&mut stream, &outgoing.message, version).await;
            Written { stream, version, weight: outgoing.weight, result }
        };
        Self::Writing(writing.boxed())
    }
}

impl ConnectionHandler for Handler {
    type FromBehaviour = Outgoing;
    type ToBehaviour = Event;
    type InboundProtocol = Protocols;
    type OutboundProtocol = Protocols;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = ();

    fn listen_protocol(&self) -> SubstreamProtocol<Protocols> {
        SubstreamProtocol::new(Protocols, ())
    }

    fn connection_keep_alive(&self) -> bool {
        !self.failed && (self.keep || self.last_used.elapsed() < SILENCE)
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ConnectionHandlerEvent<Protocols, (), Event>> {
        if self.failed {
            return Poll::Pending;
        }
        while let Poll::Ready(Some(())) = self.closing.poll_next_unpin(cx) {}
        if self.failure.is_none() {
            match self.poll_outbound(cx) {
                Poll::Ready(Step::Open) => {
                    let protocol = SubstreamProtocol::new(Protocols, ());
                    return Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest { protocol });
                }
                Poll::Ready(Step::Sent(weight)) => {
                    return Poll::Ready(ConnectionHandlerEvent::NotifyBehaviour(Event::Sent(weight)));
                }
                Poll::Pending => {}
            }
        }
        if self.failure.is_none()
            && let Poll::Ready(event) = self.poll_inbound(cx)
        {
            return Poll::Ready(ConnectionHandlerEvent::NotifyBehaviour(event));
        }
        let Some(failure) = self.failure.take() else { return Poll::Pending };
        self.failed = true;
        self.inbound.clear();
        Poll::Ready(ConnectionHandlerEvent::NotifyBehaviour(Event::Failed(failure)))
    }

    fn on_behaviour_event(&mut self, outgoing: Outgoing) {
        if self.failed {
            return;
        }
        self.queued += outgoing.message.size();
        if self.queued <= QUEUE {
            self.queue.push_back(outgoing);
        } else {
            self.fail(Failure::Deaf);
        }
    }

    fn on_connection_event(&mut self, event: ConnectionEvent<Protocols, Protocols>) {
        match event {
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound { protocol, .. }) => {
                self.accept(protocol);
            }
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound { protocol, .. }) => {
                self.outbound = Outbound::open(protocol.0, protocol.1);
            }
            ConnectionEvent::DialUpgradeError(DialUpgradeError { error, .. }) => {
                self.fail(match error {
                    StreamUpgradeError::NegotiationFailed => Failure::Unsupported,
                    StreamUpgradeError::Timeout => Failure::Write(io::ErrorKind::TimedOut.into()),
                    StreamUpgradeError::Io(error) => Failure::Write(error),
                    StreamUpgradeError::Apply(never) => match never {},
                });
            }
            _ => {}
        }
    }
}
