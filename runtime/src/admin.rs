//! What operators ask an edge, on a listener of its own: `/metrics`, `/healthz` and `/readyz`.

use std::convert::Infallible;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use http_body_util::Full;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::listen::HEADER_TIMEOUT;
use crate::metrics::{CONTENT_TYPE, Metrics};
use crate::router::RouteError;

/// Connections at the same time: a few collectors.
const CONNECTIONS: usize = 16;

/// What balancers and orchestrators want to know.
#[derive(Debug, Default)]
pub struct Health {
    routes: AtomicBool,
    /// Set when requests are accepted; cancelled when they are not any more.
    stop: OnceLock<CancellationToken>,
}

impl Health {
    /// The routes that there were at the start are known.
    pub fn routes_known(&self) {
        self.routes.store(true, Ordering::Relaxed);
    }

    /// Requests are accepted until `stop`.
    pub fn serving(&self, stop: &CancellationToken) {
        // A second listener stops with the first.
        self.stop.get_or_init(|| stop.clone());
    }

    /// Before the routes are known, nothing is known not to be there.
    pub(crate) fn judge(&self, error: RouteError) -> RouteError {
        if self.routes.load(Ordering::Relaxed) { error } else { RouteError::NotYet }
    }

    /// Why no requests should be sent here, if none should.
    fn not_ready(&self) -> Option<&'static str> {
        match self.stop.get() {
            None => Some("not listening yet\n"),
            Some(stop) if stop.is_cancelled() => Some("stopping\n"),
            Some(_) if !self.routes.load(Ordering::Relaxed) => Some("routes are not known yet\n"),
            Some(_) => None,
        }
    }
}

/// Serves until `stop`. Connections that are open then are cut: nothing is lost with them.
pub async fn serve(
    listener: TcpListener,
    metrics: Arc<Metrics>,
    health: Arc<Health>,
    stop: CancellationToken,
) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _peer)) => {
                // One too many is closed at once.
                let Ok(place) = places.clone().try_acquire_owned() else { continue };
                let (metrics, health, stop) = (metrics.clone(), health.clone(), stop.clone());
                tokio::spawn(async move {
                    let served = connection(stream, &metrics, &health);
                    if let Some(Err(error)) = stop.run_until_cancelled(served).await {
                        debug!(%error, "a collector's connection ended with an error");
                    }
                    drop(place);
                });
            }
            Err(error) => {
                warn!(%error, "cannot accept a collector's connection; going on");
                tokio::time::sleep(crate::listen::ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn connection(stream: TcpStream, metrics: &Metrics, health: &Health) -> io::Result<()> {
    let answer = service_fn(async |request| Ok::<_, Infallible>(answer(metrics, health, &request)));
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT);
    builder.serve_connection(TokioIo::new(stream), answer).await.map_err(io::Error::other)
}

fn answer<B>(metrics: &Metrics, health: &Health, request: &Request<B>) -> Response<Full<Bytes>> {
    let (status, kind, text) = match (request.method(), request.uri().path()) {
        (&Method::GET, "/metrics") => match metrics.encode() {
            Ok(text) => (StatusCode::OK, CONTENT_TYPE, text),
            Err(error) => {
                warn!(%error, "metrics cannot be written");
                (StatusCode::INTERNAL_SERVER_ERROR, "text/plain", "metrics cannot be written\n".into())
            }
        },
        // It answers, so it lives.
        (&Method::GET, "/healthz") => (StatusCode::OK, "text/plain", "ok\n".into()),
        (&Method::GET, "/readyz") => match health.not_ready() {
            None => (StatusCode::OK, "text/plain", "ready\n".into()),
            Some(reason) => (StatusCode::SERVICE_UNAVAILABLE, "text/plain", reason.into()),
        },
        _ => {
            let text = "there is only GET /metrics, /healthz and /readyz here\n";
            (StatusCode::NOT_FOUND, "text/plain", text.into())
        }
    };
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = status;
    response.headers_mut().insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static(kind));
    response
}
