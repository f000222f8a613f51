//! Bodies of uploads: handed on chunk by chunk, to work that goes on without its client.

use std::future::Future;
use std::time::Duration;

use axum::body::{Body, BodyDataStream};
use futures::StreamExt;
use tokio::sync::mpsc;

use super::problem::Failure;
use crate::domain::Error;
use crate::domain::upload::{Broken, Chunks, MOST_BYTES};

/// Chunks of an upload that wait for the disk; then the client waits.
const CHUNKS: usize = 8;

/// Between two chunks of an upload.
const IDLE: Duration = Duration::from_secs(30);

/// Gives a body to `work`, which is a task of its own: a client that goes away must not stop a deployment
/// between its steps.
pub(super) async fn receive<T, F>(body: Body, work: impl FnOnce(Chunks) -> F) -> Result<T, Failure>
where
    T: Send + 'static,
    F: Future<Output = Result<T, Error>> + Send + 'static,
{
    let mut chunks = body.into_data_stream();
    let (sender, receiver) = mpsc::channel(CHUNKS);
    let working = tokio::spawn(work(receiver));
    while let Some(chunk) = next(&mut chunks).await {
        let broken = chunk.is_err();
        if sender.send(chunk).await.is_err() || broken {
            break;
        }
    }
    drop(sender);
    discard(chunks).await;
    Ok(working.await.map_err(|error| Error::Internal(Box::new(error)))??)
}

/// Refuses an upload before its body is looked at.
pub(super) async fn refuse(body: Body, error: Error) -> Failure {
    discard(body.into_data_stream()).await;
    error.into()
}

/// The next chunk; a client that sends nothing for too long must not keep others from uploading.
async fn next(chunks: &mut BodyDataStream) -> Option<Result<bytes::Bytes, Broken>> {
    match tokio::time::timeout(IDLE, chunks.next()).await {
        Ok(chunk) => chunk.map(|chunk| chunk.map_err(|error| Broken(Box::new(error)))),
        Err(elapsed) => Some(Err(Broken(Box::new(elapsed)))),
    }
}

/// Reads what is left of a refused upload, as much as an accepted one may have: a client that is cut off
/// while it sends sees a broken connection instead of the reason.
async fn discard(mut chunks: BodyDataStream) {
    let mut left = MOST_BYTES;
    while let Some(Ok(chunk)) = next(&mut chunks).await {
        match left.checked_sub(chunk.len() as u64) {
            Some(rest) => left = rest,
            None => return,
        }
    }
}
