//! Sends what is read from the disk while it is taken, and gives up on who takes nothing any more.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use reqwest::{Body, RequestBuilder, StatusCode};
use tokio::sync::mpsc;

use super::SinkError;
use super::http::answer;
use crate::disk::FileReadError;

/// Pieces that wait for the connection.
const PIECES: usize = 4;

/// Who takes no further piece for so long, or does not answer after the last one, is asked again later.
const STALL: Duration = Duration::from_secs(120);

/// The answer to a request with these pieces as its body.
pub async fn send(
    request: RequestBuilder,
    pieces: impl Iterator<Item = Result<Bytes, FileReadError>> + Send + 'static,
) -> Result<(StatusCode, String), SinkError> {
    let taken = Arc::new(AtomicU64::new(0));
    let request = request.body(body(pieces, taken.clone()));
    tokio::select! {
        answered = answer(request) => answered,
        () = stalled(&taken) => {
            let silence = format!("nothing, and took nothing, for {} s", STALL.as_secs());
            Err(SinkError::Unexpected(silence))
        }
    }
}

fn body(
    pieces: impl Iterator<Item = Result<Bytes, FileReadError>> + Send + 'static,
    taken: Arc<AtomicU64>,
) -> Body {
    let (sender, receiver) = mpsc::channel(PIECES);
    tokio::task::spawn_blocking(move || {
        for piece in pieces {
            // An error breaks the request off, so that nobody takes a part for the whole.
            let piece = piece.map_err(io::Error::other);
            let failed = piece.is_err();
            if sender.blocking_send(piece).is_err() || failed {
                return;
            }
            taken.fetch_add(1, Ordering::Relaxed);
        }
    });
    Body::wrap_stream(futures::stream::unfold(receiver, |mut receiver| async {
        receiver.recv().await.map(|piece| (piece, receiver))
    }))
}

/// Returns when nothing more was taken for a while.
async fn stalled(taken: &AtomicU64) {
    let mut before = u64::MAX;
    loop {
        let now = taken.load(Ordering::Relaxed);
        if now == before {
            return;
        }
        before = now;
        tokio::time::sleep(STALL).await;
    }
}
