//! `wasi:http` outgoing requests: counted, bounded, and through the egress policy. Redirects are the guest's to
//! follow, so that each is a request of its own.

use std::error::Error as StdError;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use af_contract::{HostPattern, Limits, limits};
use bytes::Bytes;
use http::{Request, Response, Uri};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::{self, Client};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::ClientConfig;
use rustls::client::Resumption;
use rustls_platform_verifier::BuilderVerifierExt;
use tokio::sync::Semaphore;
use tokio::time::{Instant, Sleep, sleep};
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody, WasiHttpHooks};

use super::egress::{CONNECT, Egress, EgressError};
use super::log::GuestLog;
use crate::calm::CalmConnector;

type Transfer = Box<dyn Future<Output = Result<(), Error>> + Send>;
type Sent = Box<dyn Future<Output = Result<(Response<WasiBody>, Transfer), Error>> + Send>;
type HttpClient = Client<CalmConnector<HttpsConnector<Egress>>, WasiBody>;

/// How long a connection waits for another request of the same deployment.
const IDLE: Duration = Duration::from_secs(30);

/// Chunks of a response body that a WASI 0.2 guest may write before it waits for the client, and their size:
/// what the host holds of each is 256 KiB at most.
const BODY_CHUNKS: usize = 8;
const BODY_CHUNK_BYTES: usize = 32 << 10;

/// How certificates are judged: by the system's roots, which are read when the first function needs them.
/// Clones are one.
#[derive(Clone, Default)]
pub struct Trust {
    config: Arc<OnceLock<Result<ClientConfig, String>>>,
}

impl Trust {
    /// These roots instead of the system's.
    #[cfg(test)]
    pub(crate) fn of(config: ClientConfig) -> Self {
        Self { config: Arc::new(Ok(config).into()) }
    }

    pub(crate) fn config(&self) -> Result<ClientConfig, String> {
        let made = self.config.get_or_init(|| {
            let provider = Arc::new(rustls::crypto::ring::default_provider());
            let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
            let config = config.and_then(BuilderVerifierExt::with_platform_verifier);
            Ok(config.map_err(|error| error.to_string())?.with_no_client_auth())
        });
        made.clone()
    }
}

/// Connections of one deployment: another one never gets them.
pub struct OutboundClient {
    egress: Egress,
    trust: Trust,
    /// Hosts of the function's own list.
    allowed: Option<Vec<HostPattern>>,
    client: OnceLock<Result<HttpClient, String>>,
}

impl OutboundClient {
    /// Without any connection yet. With `allowed`, to those hosts only.
    #[must_use]
    pub fn new(egress: Egress, trust: Trust, allowed: Option<Vec<HostPattern>>) -> Self {
        Self { egress, trust, allowed, client: OnceLock::new() }
    }

    fn allows(&self, uri: &Uri) -> bool {
        let host = uri.host().unwrap_or_default();
        self.allowed.as_ref().is_none_or(|allowed| allowed.iter().any(|pattern| pattern.matches(host)))
    }

    fn client(&self) -> Result<&HttpClient, Error> {
        let made = self.client.get_or_init(|| {
            // What it remembers of sessions is the deployment's own.
            let mut tls = self.trust.config()?;
            tls.resumption = Resumption::default();
            let connector = hyper_rustls::HttpsConnectorBuilder::new()
                .with_tls_config(tls)
                .https_or_http()
                .enable_all_versions()
                .wrap_connector(self.egress.clone());
            let mut client = Client::builder(TokioExecutor::new());
            client.pool_timer(TokioTimer::new()).pool_idle_timeout(IDLE);
            Ok(client.build(CalmConnector(connector)))
        });
        made.as_ref().map_err(|error| Error::InternalError(Some(error.clone())))
    }

    async fn send(
        &self,
        request: Request<WasiBody>,
        options: RequestOptions,
    ) -> Result<Response<WasiBody>, Error> {
        // The client has one connection for many requests, so a guest's two time-outs count as one.
        let first_byte = options.first_byte_timeout.unwrap_or(Duration::MAX);
        let until = options.connect_timeout.unwrap_or(CONNECT).saturating_add(first_byte);
        let sent = tokio::time::timeout(until, self.client()?.request(request)).await;
        let response = sent.map_err(|_| Error::ConnectionReadTimeout)?.map_err(|error| told(&error))?;
        Ok(response.map(|body| match options.between_bytes_timeout {
            Some(pause) => Timed { body, pause, timer: Box::pin(sleep(pause)) }.boxed_unsync(),
            None => body.map_err(Error::Hyper).boxed_unsync(),
        }))
    }
}

/// What a guest is told: the kind of failure, not what the network said.
fn told(error: &legacy::Error) -> Error {
    let mut cause: Option<&(dyn StdError + 'static)> = Some(error);
    while let Some(error) = cause {
        match error.downcast_ref::<EgressError>() {
            Some(EgressError::Host) => return Error::HttpRequestUriInvalid,
            Some(EgressError::Prohibited) => return Error::DestinationIpProhibited,
            Some(EgressError::Resolve(_)) => {
                return Error::DnsError { rcode: Some("address not available".into()), info_code: None };
            }
            Some(EgressError::Connect(error)) => return refused(error),
            None => {}
        }
        if let Some(error) = error.downcast_ref::<rustls::Error>() {
            return match error {
                rustls::Error::InvalidCertificate(_) => Error::TlsCertificateError,
                _ => Error::TlsProtocolError,
            };
        }
        // An I/O error shows what it wraps, not itself.
        let wrapped = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        cause = wrapped.map(|wrapped| wrapped as &(dyn StdError + 'static)).or_else(|| error.source());
    }
    if error.is_connect() { Error::TlsProtocolError } else { Error::HttpProtocolError }
}

fn refused(error: &std::io::Error) -> Error {
    match error.kind() {
        std::io::ErrorKind::TimedOut => Error::ConnectionTimeout,
        std::io::ErrorKind::ConnectionRefused => Error::ConnectionRefused,
        _ => Error::DestinationUnavailable,
    }
}

/// A response body whose frames may not be too far apart.
struct Timed {
    body: Incoming,
    pause: Duration,
    timer: Pin<Box<Sleep>>,
}

impl Body for Timed {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = &mut *self;
        match Pin::new(&mut this.body).poll_frame(cx) {
            Poll::Ready(frame) => {
                this.timer.as_mut().reset(Instant::now() + this.pause);
                Poll::Ready(frame.map(|frame| frame.map_err(Error::Hyper)))
            }
            Poll::Pending => this.timer.as_mut().poll(cx).map(|()| Some(Err(Error::ConnectionReadTimeout))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Where a guest's requests go, and how many it may still send.
pub struct Outbound {
    client: Arc<OutboundClient>,
    log: GuestLog,
    left: u32,
    /// Whether it was told that none is left: a guest that goes on asking must not fill the log.
    told: bool,
    concurrent: u32,
    places: Option<Arc<Semaphore>>,
}

impl Outbound {
    /// For one request to a function.
    pub fn new(client: Arc<OutboundClient>, log: GuestLog, limits: &Limits) -> Self {
        Self {
            client,
            log,
            left: limits.subrequests,
            told: false,
            concurrent: limits.concurrent_subrequests,
            places: None,
        }
    }

    /// Another request of the same instance begins.
    pub fn renew(&mut self, limits: &Limits) {
        self.left = limits.subrequests;
        self.told = false;
        self.places = None;
    }

    /// Another request joins those of the instance.
    pub fn admit(&mut self, limits: &Limits) {
        self.left = self.left.saturating_add(limits.subrequests);
        let more = usize::try_from(limits.concurrent_subrequests).unwrap_or(usize::MAX);
        let most = more.saturating_mul(usize::try_from(limits::CONCURRENCY).unwrap_or(usize::MAX));
        let places = self.places();
        // As many as for a full instance, and not for all that it has ever worked for.
        let missing = most.saturating_sub(places.available_permits());
        places.add_permits(more.min(missing));
    }

    fn places(&mut self) -> &Arc<Semaphore> {
        let concurrent = usize::try_from(self.concurrent).unwrap_or(usize::MAX);
        self.places.get_or_insert_with(|| Arc::new(Semaphore::new(concurrent)))
    }
}

impl WasiHttpHooks for Outbound {
    fn send_request(
        &mut self,
        request: Request<WasiBody>,
        options: Option<RequestOptions>,
        _: Transfer,
    ) -> Sent {
        let Some(left) = self.left.checked_sub(1) else {
            if !std::mem::replace(&mut self.told, true) {
                let text = "the limit of outgoing requests is reached; further ones are refused";
                self.log.limit("subrequest_limit_reached", text);
            }
            return Box::new(std::future::ready(Err(Error::HttpRequestDenied)));
        };
        self.left = left;
        if !self.client.allows(request.uri()) {
            let text = "an outgoing request was refused: its host is not in the function's list";
            self.log.limit("egress_host_refused", text);
            return Box::new(std::future::ready(Err(Error::HttpRequestDenied)));
        }
        let places = self.places().clone();
        let (client, log) = (self.client.clone(), self.log.clone());
        Box::new(async move {
            // Until the response begins: whoever waits for all of its responses must not wait for itself.
            let _place = places.acquire().await.map_err(|_| Error::InternalError(None))?;
            let response = client.send(request, options.unwrap_or_default()).await;
            if let Err(Error::DestinationIpProhibited) = response {
                let text = "an outgoing request was refused: its address is not one that functions may reach";
                log.limit("egress_address_refused", text);
            }
            Ok((response?, Box::new(std::future::ready(Ok(()))) as Transfer))
        })
    }

    fn p2_outgoing_body_buffer_chunks(&mut self) -> usize {
        BODY_CHUNKS
    }

    fn p2_outgoing_body_chunk_size(&mut self) -> usize {
        BODY_CHUNK_BYTES
    }
}
