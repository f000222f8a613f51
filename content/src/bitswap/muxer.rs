//! Many streams on one connection: yamux, with bounds on what a peer can make this node keep in memory.
//!
//! libp2p's own wrapper lets a window grow to 1 GiB. A peer then sends frames as large as the window, and yamux ends the
//! connection at frames over 1 MiB.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

use futures::future::{Ready, ready as done};
use futures::{AsyncRead, AsyncWrite};
use libp2p_core::UpgradeInfo;
use libp2p_core::muxing::{StreamMuxer, StreamMuxerEvent};
use libp2p_core::upgrade::{InboundConnectionUpgrade, OutboundConnectionUpgrade};
use yamux::{Connection, ConnectionError, Mode};

/// Streams at once on a connection. Others open a stream per message, eight messages at once, and some for other
/// protocols.
const STREAMS: usize = 64;

/// What yamux gives each stream before it says otherwise.
const FIRST_WINDOW: usize = 256 << 10;

/// By how much the streams' windows may grow, all together: with it no window, and so no frame, is larger than 1 MiB.
const GROWTH: usize = 768 << 10;

/// Streams that were opened and that nobody has looked at yet; further ones are reset.
const WAITING: usize = 16;

/// The upgrade of a connection to one of many streams.
#[derive(Clone, Copy, Debug)]
pub struct Yamux;

impl Yamux {
    fn connection<C: AsyncRead + AsyncWrite + Unpin>(io: C, mode: Mode) -> Muxer<C> {
        let mut config = yamux::Config::default();
        // In this order: each is checked against the other.
        config.set_max_num_streams(STREAMS);
        config.set_max_connection_receive_window(Some(STREAMS * FIRST_WINDOW + GROWTH));
        Muxer { connection: Connection::new(io, config, mode), waiting: VecDeque::new(), waker: None }
    }
}

impl UpgradeInfo for Yamux {
    type Info = &'static str;
    type InfoIter = std::iter::Once<Self::Info>;

    fn protocol_info(&self) -> Self::InfoIter {
        std::iter::once("/yamux/1.0.0")
    }
}

impl<C: AsyncRead + AsyncWrite + Unpin> InboundConnectionUpgrade<C> for Yamux {
    type Output = Muxer<C>;
    type Error = io::Error;
    type Future = Ready<io::Result<Muxer<C>>>;

    fn upgrade_inbound(self, io: C, _: Self::Info) -> Self::Future {
        done(Ok(Self::connection(io, Mode::Server)))
    }
}

impl<C: AsyncRead + AsyncWrite + Unpin> OutboundConnectionUpgrade<C> for Yamux {
    type Output = Muxer<C>;
    type Error = io::Error;
    type Future = Ready<io::Result<Muxer<C>>>;

    fn upgrade_outbound(self, io: C, _: Self::Info) -> Self::Future {
        done(Ok(Self::connection(io, Mode::Client)))
    }
}

/// A connection of many streams.
#[derive(Debug)]
pub struct Muxer<C> {
    connection: Connection<C>,
    /// Yamux makes progress only by looking for new streams, also when nobody wants one.
    waiting: VecDeque<yamux::Stream>,
    waker: Option<Waker>,
}

impl<C: AsyncRead + AsyncWrite + Unpin> Muxer<C> {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<yamux::Stream, ConnectionError>> {
        self.connection.poll_next_inbound(cx).map(|next| next.unwrap_or(Err(ConnectionError::Closed)))
    }
}

impl<C: AsyncRead + AsyncWrite + Unpin> StreamMuxer for Muxer<C> {
    type Substream = yamux::Stream;
    type Error = ConnectionError;

    fn poll_inbound(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Self::Substream, Self::Error>> {
        if let Some(stream) = self.waiting.pop_front() {
            return Poll::Ready(Ok(stream));
        }
        let next = self.poll_next(cx);
        if next.is_pending() {
            self.waker = Some(cx.waker().clone());
        }
        next
    }

    fn poll_outbound(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Self::Substream, Self::Error>> {
        self.connection.poll_new_outbound(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.connection.poll_close(cx)
    }

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<StreamMuxerEvent, Self::Error>> {
        let stream = ready!(self.poll_next(cx))?;
        if self.waiting.len() < WAITING {
            self.waiting.push_back(stream);
        }
        self.waker.take().into_iter().for_each(Waker::wake);
        // There may be another one.
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}
