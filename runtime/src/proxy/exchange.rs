//! One request and its response: which backend, which connection, how long, and whether it may be sent again.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use http::header::{EXPECT, HOST};
use http::uri::PathAndQuery;
use http::{Request, Response, StatusCode, Uri, Version};
use http_body::Body;
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep, sleep};

use super::connection::{Connection, Http1, Http2, Sent};
use super::error::{ProxyError, Unreachable};
use super::pool::Pool;
use super::request_body::{self, RequestBody, Upload};
use super::response_body::{Carrier, UpstreamBody};
use super::upstreams::{Member, Upstreams};
use super::{Outgoing, Proxy, headers};
use crate::http::ResponseBody;
use crate::metrics::Metrics;
use crate::request_id::RequestId;
use crate::usage::Counters;

/// A request on its way, over all attempts.
pub(super) struct Exchange<'a> {
    id: RequestId,
    metrics: &'a Arc<Metrics>,
    /// How long a response may take to begin.
    timer: Pin<&'a mut Sleep>,
    time: Duration,
    upload: Option<Arc<Upload>>,
    /// Where what a tunnel sends to its client is counted.
    pub(super) usage: Option<Arc<Counters>>,
}

/// What came of one backend: an error has the request if another backend may have it.
pub(super) type Tried = Result<Response<ResponseBody>, (ProxyError, Option<Box<Request<RequestBody>>>)>;

/// What came of one connection.
enum Failure {
    /// The backend has not seen any of it.
    Unsent(ProxyError, Box<Request<RequestBody>>),
    /// It may have.
    Broken(ProxyError),
    /// Nothing that another connection would make better.
    Final(ProxyError),
}

impl Proxy {
    /// Tries one backend after the other until one has seen the request.
    pub(super) async fn exchange(
        &self,
        upstreams: &Upstreams,
        outgoing: Outgoing,
    ) -> Result<Response<ResponseBody>, ProxyError> {
        let Outgoing { id, mut request, paths, upgrade, usage } = outgoing;
        let mut client = upgrade.map(Some);
        let timer = pin!(sleep(upstreams.timeout()));
        let (metrics, upload) = (&self.metrics, request.body().upload());
        let mut exchange = Exchange { id, metrics, timer, time: upstreams.timeout(), upload, usage };
        let mut failure = ProxyError::Unreachable(Unreachable::None);
        for (attempt, member) in upstreams.order().enumerate() {
            let Some(path) = paths.get(member.number) else { continue };
            if attempt > 0 {
                self.metrics.upstream_retried();
            }
            let tried = match &mut client {
                None => self.try_backend(member, request, path, &mut exchange).await,
                Some(client) => self.try_upgrade(member, request, path, client, &mut exchange).await,
            };
            let (error, unsent) = match tried {
                Ok(response) => {
                    judge(member, response.status());
                    return Ok(response);
                }
                Err(failed) => failed,
            };
            if is_backends(&error) {
                member.health.failed();
            }
            match unsent {
                Some(unsent) => request = *unsent,
                None => return Err(error),
            }
            failure = error;
        }
        Err(failure)
    }

    /// On a connection that waits, else on a new one. One that waits may be closed already: what cannot have reached
    /// the backend is sent again, and what may have, where twice is as good as once (RFC 9110 section 9.2.2).
    async fn try_backend(
        &self,
        member: &Arc<Member>,
        mut request: Request<RequestBody>,
        path: &PathAndQuery,
        exchange: &mut Exchange<'_>,
    ) -> Tried {
        while let Some(connection) = member.pool.take() {
            let may_repeat = request.body().is_end_stream() && request.method().is_idempotent();
            let copy = may_repeat.then(|| copy(&request));
            match (exchange.send(member, connection, request, path).await, copy) {
                (Ok(response), _) => return Ok(response),
                (Err(Failure::Unsent(_, unsent)), _) => request = *unsent,
                (Err(Failure::Broken(_)), Some(copy)) => {
                    self.metrics.upstream_retried();
                    request = copy;
                    // Twice would be no coincidence.
                    break;
                }
                (Err(Failure::Broken(error) | Failure::Final(error)), _) => return Err((error, None)),
            }
        }
        let connection = match exchange.wait(self.connect(member)).await {
            Ok(connection) => connection,
            Err(error) => return Err((error, Some(Box::new(request)))),
        };
        if let Connection::Http2(shared) = &connection {
            Pool::share(member, shared);
        }
        exchange.send(member, connection, request, path).await.map_err(|failure| match failure {
            Failure::Unsent(error, unsent) => (error, Some(unsent)),
            Failure::Broken(error) | Failure::Final(error) => (error, None),
        })
    }
}

impl Exchange<'_> {
    /// For as long as there is time.
    pub async fn wait<T>(
        &mut self,
        future: impl Future<Output = Result<T, ProxyError>>,
    ) -> Result<T, ProxyError> {
        let mut future = pin!(future);
        poll_fn(|cx| {
            if let Poll::Ready(done) = future.as_mut().poll(cx) {
                return Poll::Ready(done);
            }
            while self.timer.as_mut().poll(cx).is_ready() {
                let Some(upload) = self.upload.as_ref() else { return Poll::Ready(Err(ProxyError::Timeout)) };
                if upload.has_moved() {
                    // The time for the response begins when the request is there.
                    self.timer.as_mut().reset(Instant::now() + self.time);
                } else if upload.is_clients_turn() {
                    return Poll::Ready(Err(ProxyError::BodyTimeout));
                } else {
                    return Poll::Ready(Err(ProxyError::Timeout));
                }
            }
            Poll::Pending
        })
        .await
    }

    /// Who is to blame for a connection that broke while the request went over it.
    pub fn blame(&self, error: hyper::Error) -> ProxyError {
        let fault = self.upload.as_ref().and_then(|upload| upload.fault());
        fault.unwrap_or_else(|| ProxyError::Failed(error.into()))
    }

    async fn send(
        &mut self,
        member: &Arc<Member>,
        connection: Connection,
        request: Request<RequestBody>,
        path: &PathAndQuery,
    ) -> Result<Response<ResponseBody>, Failure> {
        match connection {
            Connection::Http1(connection) => self.send_http1(member, connection, request, path).await,
            Connection::Http2(connection) => self.send_http2(member, connection, request, path).await,
        }
    }

    async fn send_http1(
        &mut self,
        member: &Arc<Member>,
        mut connection: Box<Http1>,
        mut request: Request<RequestBody>,
        path: &PathAndQuery,
    ) -> Result<Response<ResponseBody>, Failure> {
        for_http1(&mut request, member, path);
        let sent = self.wait(async { Ok(connection.send(request).await) }).await;
        self.received(sent, || Carrier::Http1(connection, member.clone())).await
    }

    async fn send_http2(
        &mut self,
        member: &Arc<Member>,
        mut connection: Http2,
        mut request: Request<RequestBody>,
        path: &PathAndQuery,
    ) -> Result<Response<ResponseBody>, Failure> {
        *request.version_mut() = Version::HTTP_2;
        *request.uri_mut() = member.target.absolute(path.clone());
        request.headers_mut().remove(HOST);
        headers::for_http2(request.headers_mut());
        let sent = self.wait(async { Ok(connection.send(request).await) }).await;
        self.received(sent, || Carrier::Http2 { _stream: connection }).await
    }

    async fn received(
        &self,
        sent: Result<Sent, ProxyError>,
        carrier: impl FnOnce() -> Carrier,
    ) -> Result<Response<ResponseBody>, Failure> {
        let response = match sent.map_err(Failure::Final)? {
            Ok(response) => response,
            Err(mut error) => {
                return Err(match error.take_message() {
                    Some(unsent) => {
                        Failure::Unsent(ProxyError::Failed(error.into_error().into()), Box::new(unsent))
                    }
                    None => match self.blame(error.into_error()) {
                        error @ ProxyError::Failed(_) => Failure::Broken(error),
                        error => Failure::Final(error),
                    },
                });
            }
        };
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            return Err(Failure::Final(ProxyError::Unasked));
        }
        self.arrived(response, carrier()).await.map_err(Failure::Final)
    }

    /// A response as it goes on, with what has come of its body.
    pub async fn arrived(
        &self,
        response: Response<Incoming>,
        carrier: Carrier,
    ) -> Result<Response<ResponseBody>, ProxyError> {
        let (mut parts, body) = response.into_parts();
        headers::pass_response(&mut parts.headers);
        // The backend's is not the client's.
        parts.version = Version::HTTP_11;
        let mut body = UpstreamBody::new(body, carrier);
        let body = match poll_fn(|cx| Poll::Ready(body.read_ahead(cx))).await? {
            Some(whole) => ResponseBody::full(whole),
            None => {
                body.report_to(self.id, self.metrics.clone());
                ResponseBody::Upstream(Box::new(body))
            }
        };
        Ok(Response::from_parts(parts, body))
    }
}

/// The origin form, and the backend as host.
pub(super) fn for_http1(request: &mut Request<RequestBody>, member: &Member, path: &PathAndQuery) {
    *request.version_mut() = Version::HTTP_11;
    *request.uri_mut() = Uri::from(path.clone());
    let headers = request.headers_mut();
    headers.insert(HOST, member.target.host().clone());
    headers::for_http1(headers);
    if headers.contains_key(EXPECT) {
        request_body::hold(request);
    }
}

/// A request without a body once more.
fn copy(request: &Request<RequestBody>) -> Request<RequestBody> {
    let mut copy = Request::new(RequestBody::default());
    *copy.method_mut() = request.method().clone();
    *copy.headers_mut() = request.headers().clone();
    copy
}

/// What a status tells of a backend: these say that it cannot, whatever the request.
fn judge(member: &Member, status: StatusCode) {
    match status {
        StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT => {
            member.health.failed();
        }
        _ => member.health.succeeded(),
    }
}

fn is_backends(error: &ProxyError) -> bool {
    match error {
        ProxyError::Unreachable(_)
        | ProxyError::AddressRefused
        | ProxyError::Timeout
        | ProxyError::Failed(_)
        | ProxyError::Unasked
        | ProxyError::Stalled => true,
        ProxyError::BodyTooLarge(_)
        | ProxyError::BodyTimeout
        | ProxyError::BodyBroken
        | ProxyError::Loop
        | ProxyError::Connect
        | ProxyError::Full => false,
    }
}
