//! Speaks HTTP/1.1 over a stream, and tells a client why its bytes were refused.

mod framing;
mod head;
mod refusal;

use std::convert::Infallible;
use std::pin::Pin;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tracing::debug;

pub use self::framing::Framing;
use self::framing::HEAD_BYTES;
pub use self::refusal::Refusal;
use super::connection::{Answering, Ended};
use super::deadline::{Driven, drive};
use super::progress::Phase;
use super::stream::Stream;

/// How long, and how much, is read from a client that is being refused: one that is cut off while it sends sees a broken
/// connection instead of the reason.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES: usize = 64 << 10;

/// Serves a connection to its end. What is returned has little more than hyper's state: most connections are idle.
pub fn serve<S>(stream: Stream<S>, answering: Answering) -> impl Future<Output = ()>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let answers = answering.clone();
    let handler = service_fn(move |request| {
        // hyper keeps room for what this returns as long as the connection lasts: a word, not a whole request's state.
        let answered = Box::pin(answers.clone().answer(request));
        async move { Ok::<_, Infallible>(answered.await) }
    });
    let mut connection = http1::Builder::new()
        // The deadlines are ours: hyper's costs a timer for each request, and counts idle time as a header's.
        .header_read_timeout(None)
        .max_buf_size(HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), handler)
        .with_upgrades();
    async move {
        let ended = drive(&mut connection, &answering).await;
        let stream = connection.into_parts().map(|parts| Box::new(parts.io.into_inner()));
        if let Some(stream) = stream {
            Box::pin(close(stream, ended, &answering)).await;
        }
    }
}

/// Tells the client what is wrong with its bytes, if it has to be told here.
async fn close<S>(mut stream: Box<Stream<S>>, ended: Ended, answering: &Answering)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let slow = matches!(ended, Ended::TooSlow(Phase::Head(_))).then_some(Refusal::Timeout);
    if let Some(refusal) = stream.refusal().or(slow) {
        // Counted and logged here, since no request of it was ever seen.
        answering.service().metrics().refused(refusal.code());
        debug!(peer = %answering.peer().address, code = refusal.code(), reason = %refusal, "a connection's bytes were refused");
        refuse(stream.inner(), refusal).await;
    }
}

async fn refuse<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S, refusal: Refusal) {
    let told = async {
        stream.write_all(&refusal.response()).await?;
        stream.shutdown().await?;
        let (mut sink, mut left) = ([0; 1024], LINGER_BYTES);
        while left > 0 {
            match stream.read(&mut sink).await? {
                0 => break,
                count => left = left.saturating_sub(count),
            }
        }
        Ok::<_, std::io::Error>(())
    };
    match tokio::time::timeout(LINGER, told).await {
        Ok(Ok(())) | Err(_) => {}
        Ok(Err(error)) => debug!(%error, "a client did not wait for the reason"),
    }
}

impl<S, H> Driven for http1::UpgradeableConnection<TokioIo<Stream<S>>, H>
where
    Self: Future<Output = hyper::Result<()>> + Unpin,
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    H: hyper::service::HttpService<hyper::body::Incoming>,
    H::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    H::ResBody: 'static,
    <H::ResBody as http_body::Body>::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    fn shut_down(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}
