//! Bodies of uploads: handed on chunk by chunk, to work that goes on without its client.

use std::future::Future;
use std::time::Duration;

use axum::body::{Body, BodyDataStream};
use futures::StreamExt;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::problem::Failure;
use crate::domain::Error;
use crate::domain::upload::{Broken, Chunks, MOST_BYTES};

/// Chunks of an upload that wait for the disk; then the client waits.
const CHUNKS: usize = 8;

/// Between two chunks of an upload.
const IDLE: Duration = Duration::from_secs(30);

/// All waiting for a client, beyond what its bytes may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Bytes that a client sends in a second, at least: what a poor line does. 100 MB take it an hour and three quarters then.
const SLOWEST: u32 = 16 << 10;

/// A body, as its client sends it: neither with long pauses nor for ever.
struct Incoming {
    chunks: BodyDataStream,
    patience: Patience,
}

/// How long a client may be waited for.
#[derive(Clone, Copy, Debug)]
struct Patience(Duration);

/// Gives a body to `work`, which is a task of its own: a client that goes away must not stop a deployment
/// between its steps.
pub(super) async fn receive<T, F>(body: Body, work: impl FnOnce(Chunks) -> F) -> Result<T, Failure>
where
    T: Send + 'static,
    F: Future<Output = Result<T, Error>> + Send + 'static,
{
    let mut incoming = Incoming::new(body);
    let (sender, receiver) = mpsc::channel(CHUNKS);
    let working = tokio::spawn(work(receiver));
    while let Some(chunk) = incoming.next().await {
        let broken = chunk.is_err();
        if sender.send(chunk).await.is_err() || broken {
            break;
        }
    }
    drop(sender);
    incoming.discard().await;
    Ok(working.await.map_err(|error| Error::Internal(Box::new(error)))??)
}

/// Refuses an upload before its body is looked at.
pub(super) async fn refuse(body: Body, error: Error) -> Failure {
    Incoming::new(body).discard().await;
    error.into()
}

impl Incoming {
    fn new(body: Body) -> Self {
        Self { chunks: body.into_data_stream(), patience: Patience(PATIENCE) }
    }

    /// The next chunk; a client that sends nothing for too long, or too little, must not keep others from uploading. What the
    /// server itself takes does not count.
    async fn next(&mut self) -> Option<Result<bytes::Bytes, Broken>> {
        let began = Instant::now();
        let chunk = match tokio::time::timeout(self.patience.most(), self.chunks.next()).await {
            Ok(chunk) => chunk?.map_err(|error| Broken(Box::new(error))),
            Err(elapsed) => Err(Broken(Box::new(elapsed))),
        };
        let bytes = chunk.as_ref().map_or(0, bytes::Bytes::len);
        self.patience.came(began.elapsed(), bytes);
        Some(chunk)
    }

    /// Reads what is left of a refused upload, as much as an accepted one may have: a client that is cut off
    /// while it sends sees a broken connection instead of the reason.
    async fn discard(mut self) {
        let mut left = MOST_BYTES;
        while let Some(Ok(chunk)) = self.next().await {
            match left.checked_sub(chunk.len() as u64) {
                Some(rest) => left = rest,
                None => return,
            }
        }
    }
}

impl Patience {
    /// For the next chunk.
    fn most(self) -> Duration {
        self.0.min(IDLE)
    }

    /// After so long, so many bytes have come.
    fn came(&mut self, waited: Duration, bytes: usize) {
        let earned = Duration::from_secs(bytes as u64) / SLOWEST;
        self.0 = self.0.saturating_sub(waited).saturating_add(earned).min(PATIENCE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How long a client is waited for that sends so many bytes again and again, each time after such a pause; none: a day.
    fn ends(bytes: usize, pause: Duration) -> Option<Duration> {
        let (mut patience, mut waited) = (Patience(PATIENCE), Duration::ZERO);
        while waited < Duration::from_secs(24 * 3600) {
            if patience.most() < pause {
                return Some(waited + patience.most());
            }
            waited += pause;
            patience.came(pause, bytes);
        }
        None
    }

    #[test]
    fn who_sends_little_is_not_waited_for_without_end() {
        let second = Duration::from_secs(1);
        assert_eq!(ends(1 << 20, 31 * second), Some(30 * second), "a long pause");
        assert!(ends(1, 20 * second).is_some_and(|end| end <= 61 * second), "a byte now and then");
        assert!(ends(SLOWEST as usize / 2, second).is_some_and(|end| end <= 121 * second));
        assert_eq!(ends(SLOWEST as usize, second), None);
        assert_eq!(ends(1 << 20, 25 * second), None, "pauses of who is fast enough");
    }
}
