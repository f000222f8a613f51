//! An answer's body: blocks are read while it is sent, a few ahead. Whoever takes it too slowly is cut off, so that places and
//! memory go to others; one that cannot be read to its end is cut, too, and so never looks complete.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{Instant, timeout};
use tracing::warn;

use super::error::DagError;
use super::pieces::Pieces;

/// Bytes that are handed over at a time. They are a copy: clients that do not read on must not keep blocks of a megabyte.
const PIECE: usize = 64 << 10;

/// Pieces that are made before they are asked for: as much as the next block, so that reading and sending overlap.
const AHEAD: usize = 16;

/// How long may be waited for a client in all.
const PATIENCE: Duration = Duration::from_secs(30);

/// What earns a client a second more.
const LEAST_BYTES_PER_SECOND: u64 = 16 << 10;

/// A body breaks off. What was sent is right.
#[derive(Debug, thiserror::Error)]
pub enum GatewayBodyError {
    /// A block cannot be sent.
    #[error("the content cannot be read on")]
    Read(#[from] DagError),
    /// The client was too slow, or this node stops.
    #[error("the answer was cut off")]
    Cut,
}

/// A body.
#[derive(Debug)]
pub struct GatewayBody {
    state: State,
    /// What is still to come, where that is known.
    left: Option<u64>,
}

#[derive(Debug)]
enum State {
    Here(Option<Bytes>),
    Coming(mpsc::Receiver<Message>),
    Over,
}

#[derive(Debug)]
enum Message {
    Piece(Bytes),
    Failed(DagError),
    End,
}

/// What reading for a body needs of the node.
pub(super) struct Shared {
    /// Held until the body is over.
    pub place: OwnedSemaphorePermit,
    /// Verifying is work: so many blocks are at the same time.
    pub readers: Arc<Semaphore>,
}

impl GatewayBody {
    /// What is here.
    pub fn here(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        let left = Some(bytes.len() as u64);
        Self { state: State::Here(Some(bytes).filter(|bytes| !bytes.is_empty())), left }
    }

    /// What was made already, and what is still to be made.
    pub(super) fn coming(first: VecDeque<Bytes>, rest: Pieces, size: Option<u64>, shared: Shared) -> Self {
        let here: u64 = first.iter().map(|piece| piece.len() as u64).sum();
        // Small, and all of it.
        if size == Some(here) && here <= PIECE as u64 {
            return Self::here(first.into_iter().flatten().collect::<Bytes>());
        }
        let (sender, receiver) = mpsc::channel(AHEAD);
        // It ends with the body, which is dropped with its connection, or when the client takes too long.
        tokio::spawn(async move {
            if let Err(error) = feed(first, rest, &shared.readers, &sender).await {
                warn!(%error, "an answer of the gateway broke off");
                // A client that has gone needs not be told.
                let _told = timeout(PATIENCE, sender.send(Message::Failed(error))).await;
            }
            drop(shared.place);
        });
        Self { state: State::Coming(receiver), left: size }
    }
}

/// Makes an answer's pieces until its client has all or has gone.
async fn feed(
    first: VecDeque<Bytes>,
    mut rest: Pieces,
    readers: &Semaphore,
    sender: &mpsc::Sender<Message>,
) -> Result<(), DagError> {
    let mut blocks = first;
    let mut patience = PATIENCE;
    while !blocks.is_empty() {
        for block in blocks {
            for piece in block.chunks(PIECE) {
                let earned =
                    Duration::from_millis((piece.len() as u64).saturating_mul(1000) / LEAST_BYTES_PER_SECOND);
                let began = Instant::now();
                match timeout(patience, sender.send(Message::Piece(Bytes::copy_from_slice(piece)))).await {
                    Ok(Ok(())) => {}
                    // Too slow, or gone.
                    Ok(Err(_)) | Err(_) => return Ok(()),
                }
                patience = patience.saturating_sub(began.elapsed()).saturating_add(earned).min(PATIENCE);
            }
        }
        (rest, blocks) = made(rest, readers).await?;
    }
    // Should the client be too slow for this, it is cut off a moment before its end.
    let _told = timeout(patience, sender.send(Message::End)).await;
    Ok(())
}

/// The next pieces, made on another thread.
///
/// # Errors
/// When they cannot be.
pub(super) async fn made(
    mut pieces: Pieces,
    readers: &Semaphore,
) -> Result<(Pieces, VecDeque<Bytes>), DagError> {
    let _turn = readers.acquire().await.map_err(|_| DagError::Interrupted)?;
    let work = tokio::task::spawn_blocking(move || {
        let made = pieces.next();
        (pieces, made)
    });
    let (pieces, made) = work.await.map_err(|_| DagError::Interrupted)?;
    Ok((pieces, made?))
}

impl Body for GatewayBody {
    type Data = Bytes;
    type Error = GatewayBodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, GatewayBodyError>>> {
        let message = match &mut self.state {
            State::Here(bytes) => {
                let frame = bytes.take().map(|bytes| Ok(Frame::data(bytes)));
                self.state = State::Over;
                return Poll::Ready(frame);
            }
            State::Coming(receiver) => ready!(receiver.poll_recv(cx)),
            State::Over => return Poll::Ready(None),
        };
        let error = match message {
            Some(Message::Piece(piece)) => {
                self.left = self.left.map(|left| left.saturating_sub(piece.len() as u64));
                return Poll::Ready(Some(Ok(Frame::data(piece))));
            }
            Some(Message::End) => {
                self.state = State::Over;
                return Poll::Ready(None);
            }
            Some(Message::Failed(error)) => error.into(),
            None => GatewayBodyError::Cut,
        };
        self.state = State::Over;
        Poll::Ready(Some(Err(error)))
    }

    fn is_end_stream(&self) -> bool {
        match &self.state {
            State::Here(bytes) => bytes.is_none(),
            State::Coming(_) => false,
            State::Over => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        self.left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
