//! A connection to somebody who answers, a backend or what a function asks: where it is HTTP/2, that end may send only so much that
//! answers nothing, since reading it costs this node's CPU time, and no function's.

use std::io::{self, ErrorKind, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use af_contract::frames::Frames;
use http::Uri;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tower_service::Service;

/// The stream of such a connection. Reading fails after too much.
#[derive(Debug)]
pub struct Calm<S> {
    stream: S,
    /// Where it is HTTP/2.
    frames: Option<Box<Frames>>,
}

impl<S> Calm<S> {
    /// Before its first byte.
    pub fn new(stream: S, is_http2: bool) -> Self {
        let frames = is_http2.then(|| Box::new(Frames::of_server(Instant::now())));
        Self { stream, frames }
    }

    /// So many bytes of these pieces went out.
    fn wrote(&mut self, pieces: &[IoSlice<'_>], count: usize) {
        if let Some(frames) = &mut self.frames {
            frames.wrote(pieces, count);
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Calm<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
        let read = buffer.filled().get(before..).unwrap_or_default();
        let flood = self.frames.as_mut().map_or(Ok(()), |frames| frames.read(read, Instant::now));
        Poll::Ready(flood.map_err(|flood| io::Error::new(ErrorKind::InvalidData, flood)))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Calm<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let count = ready!(Pin::new(&mut self.stream).poll_write(cx, bytes))?;
        self.wrote(&[IoSlice::new(bytes)], count);
        Poll::Ready(Ok(count))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let count = ready!(Pin::new(&mut self.stream).poll_write_vectored(cx, pieces))?;
        self.wrote(pieces, count);
        Poll::Ready(Ok(count))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl<S: Connection> Connection for Calm<S> {
    fn connected(&self) -> Connected {
        self.stream.connected()
    }
}

/// Makes connections that are [`Calm`].
#[derive(Clone, Debug)]
pub struct CalmConnector<C>(pub C);

impl<C> Service<Uri> for CalmConnector<C>
where
    C: Service<Uri>,
    C::Response: Connection,
    C::Future: Send + 'static,
{
    type Response = TokioIo<Calm<TokioIo<C::Response>>>;
    type Error = C::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, C::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), C::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connecting = self.0.call(uri);
        Box::pin(async move {
            let stream = connecting.await?;
            let is_http2 = stream.connected().is_negotiated_h2();
            Ok(TokioIo::new(Calm::new(TokioIo::new(stream), is_http2)))
        })
    }
}
