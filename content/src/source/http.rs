//! What sources that are asked over HTTP share: answers within bounds, and what their statuses mean.

use std::time::Duration;

use af_contract::ContentId;
use af_contract::limits::BLOCK_BYTES;
use bytes::{Bytes, BytesMut};
use futures::{Stream, StreamExt};
use reqwest::header::RETRY_AFTER;
use reqwest::{Client, ClientBuilder, RequestBuilder, Response, StatusCode};

use super::{Blocks, SourceError};
use crate::car::CarDecoder;
use crate::hash::{Hashed, Hashing};

/// To get a connection.
const CONNECT: Duration = Duration::from_secs(5);

/// Between two reads of an answer.
const READ: Duration = Duration::from_secs(15);

/// 40 microseconds of work where the processor can hash, 250 where it cannot.
const HASHED_AT_ONCE: usize = 64 << 10;

/// What is read of an answer that is no block.
const MESSAGE_BYTES: usize = 64 << 10;

/// A client as sources need it.
///
/// # Errors
/// When the system's certificates cannot be read.
pub(super) fn client(set: impl FnOnce(ClientBuilder) -> ClientBuilder) -> Result<Client, SourceError> {
    // Whoever was first has installed the same.
    let _installed = rustls::crypto::ring::default_provider().install_default();
    let agent = concat!("af/", env!("CARGO_PKG_VERSION"));
    let builder = Client::builder().connect_timeout(CONNECT).read_timeout(READ).user_agent(agent);
    set(builder).build().map_err(unreachable)
}

pub(super) fn unreachable(error: reqwest::Error) -> SourceError {
    // Its URL may have a secret, and the source's name is known.
    SourceError::Unreachable(Box::new(error.without_url()))
}

/// Sends a request whose answer is good.
pub(super) async fn ask(request: RequestBuilder) -> Result<Response, SourceError> {
    answered(request.send().await.map_err(unreachable)?)
}

/// An answer that is good.
pub(super) fn answered(response: Response) -> Result<Response, SourceError> {
    match response.status() {
        status if status.is_success() => Ok(response),
        StatusCode::NOT_FOUND | StatusCode::GONE => Err(SourceError::NotFound),
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
            let later =
                response.headers().get(RETRY_AFTER).and_then(|later| later.to_str().ok()?.parse().ok());
            Err(SourceError::Busy(later.map(Duration::from_secs)))
        }
        status => Err(SourceError::Unexpected(format!("status {}", status.as_u16()))),
    }
}

/// An answer that is a block: this one, if the source is honest.
pub(super) async fn block(id: ContentId, response: Response) -> Result<Hashed, SourceError> {
    let mut chunks = chunks(response, BLOCK_BYTES)?;
    let mut hashing = Hashing::as_asked(&id);
    while let Some(chunk) = chunks.next().await {
        let mut chunk = chunk.map_err(unreachable)?;
        if hashing.size() + chunk.len() > BLOCK_BYTES {
            return Err(SourceError::TooLarge);
        }
        while !chunk.is_empty() {
            hashing.push_in_turn(chunk.split_to(chunk.len().min(HASHED_AT_ONCE))).await;
        }
    }
    Ok(hashing.finish())
}

/// An answer that is a short text.
pub(super) async fn message(response: Response) -> Result<Bytes, SourceError> {
    body(response, MESSAGE_BYTES).await
}

/// What comes, unless the answer says itself that it is too much.
fn chunks(
    response: Response,
    most: usize,
) -> Result<impl Stream<Item = reqwest::Result<Bytes>> + Unpin, SourceError> {
    if response.content_length().is_some_and(|length| length > most as u64) {
        return Err(SourceError::TooLarge);
    }
    Ok(response.bytes_stream())
}

async fn body(response: Response, most: usize) -> Result<Bytes, SourceError> {
    let mut chunks = chunks(response, most)?;
    let mut body = BytesMut::new();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(unreachable)?;
        if body.len() + chunk.len() > most {
            return Err(SourceError::TooLarge);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body.freeze())
}

/// The blocks of an answer that is a CAR.
pub(super) fn car(request: RequestBuilder) -> Blocks<'static> {
    enum Reading {
        Asking(RequestBuilder),
        Car(Response, Box<CarDecoder>),
        Over,
    }
    let next = |mut reading: Reading| async move {
        loop {
            reading = match reading {
                Reading::Over => return None,
                Reading::Asking(request) => match ask(request).await {
                    Ok(response) => Reading::Car(response, Box::default()),
                    Err(error) => return Some((Err(error), Reading::Over)),
                },
                Reading::Car(mut response, mut decoder) => match decoder.next_block() {
                    Ok(Some(block)) => return Some((Ok(block), Reading::Car(response, decoder))),
                    Err(error) => return Some((Err(error.into()), Reading::Over)),
                    Ok(None) => match response.chunk().await {
                        Ok(Some(chunk)) => {
                            decoder.push(&chunk);
                            Reading::Car(response, decoder)
                        }
                        Ok(None) => match decoder.finish() {
                            Ok(()) => Reading::Over,
                            Err(error) => return Some((Err(error.into()), Reading::Over)),
                        },
                        Err(error) => return Some((Err(unreachable(error)), Reading::Over)),
                    },
                },
            }
        }
    };
    futures::stream::unfold(Reading::Asking(request), next).boxed()
}
