//! One request from header to response.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ::http::header::CONTENT_LENGTH;
use ::http::{HeaderName, Request, Response};
use af_content::gateway::Gateway;
use af_contract::ContentId;
use hyper::body::Incoming;

use super::body::{self, Received, ResponseBody, Taken};
use super::exchange::{Exchange, Exchanges};
use super::routed::Routed;
use super::target::{self, Host};
use super::{AnsweredBy, RequestError, Secure, rescue, trigger, well_known};
use crate::admin::Health;
use crate::listen::Peer;
use crate::metrics::Metrics;
use crate::proxy::Proxy;
use crate::reports::Reports;
use crate::request_id::RequestId;
use crate::router::{Answer, Deployment, Entry, RuntimeRouter, path};
use crate::sandbox::{Call, Gate, Sandbox};
use crate::site::{Naming, Sites};
use crate::usage::Book;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const DEPLOYMENT: HeaderName = HeaderName::from_static("af-deployment");

/// Answers requests. Shared by all connections.
pub struct Service {
    pub(crate) router: RuntimeRouter,
    pub(crate) sandbox: Sandbox,
    pub(crate) proxy: Proxy,
    pub(crate) sites: Sites,
    /// Content by CID, where it is served.
    pub(crate) gateway: Option<Gateway>,
    pub(crate) exchanges: Exchanges,
    pub(crate) health: Arc<Health>,
    /// For the control plane.
    pub(crate) reports: Reports,
    /// Where connections can be encrypted.
    pub(crate) secure: Option<Secure>,
}

/// What is known of a request before anybody answers it.
pub struct Context<'a> {
    pub id: RequestId,
    pub peer: &'a Peer,
    pub host: &'a Host,
    pub exchange: &'a mut Exchange,
}

impl Service {
    pub(super) fn proxy(&self) -> &Proxy {
        &self.proxy
    }

    pub(crate) fn router(&self) -> &RuntimeRouter {
        &self.router
    }

    pub(super) fn sandbox(&self) -> &Sandbox {
        &self.sandbox
    }

    pub(super) fn exchanges(&self) -> &Exchanges {
        &self.exchanges
    }

    /// What functions and sites use.
    pub(super) fn usage(&self) -> &Book {
        self.sandbox.usage()
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        self.sandbox.metrics()
    }

    /// Waits for what guests still do after their last response, and for upgraded connections.
    pub(crate) async fn drain(&self) {
        self.proxy.drain().await;
        self.sandbox.tasks().close();
        self.sandbox.tasks().wait().await;
        self.exchanges.flush().await;
    }

    /// Answers one request; errors become problem documents.
    pub async fn call(&self, peer: &Peer, mut request: Request<Incoming>) -> Response<ResponseBody> {
        let id = RequestId::next();
        trigger::strip(request.headers_mut());
        let mut exchange = self.exchanges.begin(id, peer, &mut request);
        let answered = self.respond(id, peer, &mut exchange, request).await;
        exchange.end(rescue::end(&answered));
        let mut response = match answered {
            Ok(response) => {
                self.sandbox.metrics().answered();
                response
            }
            Err(error) => rescue::response(&error, id, self.sandbox.metrics()),
        };
        response.headers_mut().insert(REQUEST_ID, id.header());
        if let Some(secure) = &self.secure {
            secure.mark(peer, &mut response);
        }
        self.exchanges.finish(exchange, response)
    }

    async fn respond(
        &self,
        id: RequestId,
        peer: &Peer,
        exchange: &mut Exchange,
        request: Request<Incoming>,
    ) -> Result<Response<ResponseBody>, RequestError> {
        self.exchanges.admit(exchange)?;
        if let Some(secure) = &self.secure
            && let Some(response) = secure.answer(peer, &request)?
        {
            return Ok(response);
        }
        let host = target::host(&request)?;
        target::judge(&request, &host, peer.server_name())?;
        let context = Context { id, peer, host: &host, exchange: &mut *exchange };
        if let Some(response) = self.content(context, &request).await? {
            return Ok(response);
        }
        let answer = self.router.find(host.name()).map_err(|error| self.health.judge(error))?;
        let context = Context { id, peer, host: &host, exchange };
        match &*answer {
            Answer::Function(function) if request.uri().path() == well_known::DEPLOYMENT_PATH => {
                Ok(well_known::deployment(function, &self.reports).await)
            }
            Answer::Function(function) => {
                function.check_active()?;
                let Some(routes) = function.routes() else {
                    return self.function(context, function, request).await;
                };
                let uri = request.uri().clone();
                let path = path::normal(uri.path()).unwrap_or_default();
                match routes.find(request.method().as_str(), host.name(), &path) {
                    Some(found) => {
                        self.routed(context, Routed { function, path: &path, found }, request).await
                    }
                    None => self.function(context, function, request).await,
                }
            }
            Answer::Site(site) => {
                let (root, naming) = site.directory()?;
                // A host that is a CID has nothing but what is behind the CID.
                if naming == Naming::Name && request.uri().path() == well_known::DEPLOYMENT_PATH {
                    return Ok(well_known::site(root));
                }
                if let Some(id) = site.id() {
                    context.exchange.ask(self.usage().of(id));
                }
                self.site(context, root, naming, &request).await
            }
        }
    }

    /// Serves a file.
    pub(super) async fn site(
        &self,
        context: Context<'_>,
        root: ContentId,
        naming: Naming,
        request: &Request<Incoming>,
    ) -> Result<Response<ResponseBody>, RequestError> {
        context.exchange.compress(request.headers());
        let response = self.sites.site(root, naming).respond(request).await?;
        Ok(by("site", response))
    }

    /// Runs a function's own code.
    pub(super) async fn function(
        &self,
        context: Context<'_>,
        function: &Entry,
        mut request: Request<Incoming>,
    ) -> Result<Response<ResponseBody>, RequestError> {
        let Context { id, peer, host, exchange } = context;
        let chosen = function.chosen(exchange.client(), request.headers());
        let counting = function.rollout().map(|_| Counting::new(function, chosen, &self.reports));
        if let Some(counting) = &counting {
            request.extensions_mut().insert(counting.received.clone());
        }
        let answered = self.deployed(Context { id, peer, host, exchange }, chosen, request).await;
        if let Some(counting) = counting {
            counting.end(rescue::is_functions_fault(&answered));
        }
        answered
    }

    async fn deployed(
        &self,
        context: Context<'_>,
        function: &Entry,
        mut request: Request<Incoming>,
    ) -> Result<Response<ResponseBody>, RequestError> {
        let Context { id, peer, host, exchange } = context;
        let deployment = function.deployment().await?;
        if let Some(answer) = exchange.enter(deployment.terms(), &request)? {
            exchange.ask(deployment.usage());
            return Ok(named(answer, deployment));
        }
        check_length(&request, deployment.limits().request_body_bytes)?;
        target::make_absolute(&mut request, peer.scheme(), host)?;
        let response = self.run(id, exchange, function.gate(), deployment, request).await?;
        Ok(named(response, deployment))
    }

    async fn run(
        &self,
        id: RequestId,
        exchange: &mut Exchange,
        gate: &Gate,
        deployment: &Arc<Deployment>,
        mut request: Request<Incoming>,
    ) -> Result<Response<ResponseBody>, RequestError> {
        let callee = deployment.callee().await?;
        if deployment.is_first_use() {
            self.reports.ready(deployment.id());
        }
        exchange.step("code");
        let permit = self.sandbox.admission().admit(gate).await?;
        exchange.step("queue");
        exchange.ask(deployment.usage());
        let call = Call::new(&self.sandbox, callee, permit);
        let meter = call.meter();
        let most = deployment.limits().request_body_bytes;
        let received = request.extensions_mut().remove::<Received>().unwrap_or_default();
        let patience = self.exchanges.body_timeout();
        let request = request.map(|body| body::limited(body, most, patience, Taken { meter, received }));
        let response = call.run(id, request).await?;
        exchange.step("run");
        Ok(response.map(|guest| ResponseBody::guest(guest, self.sandbox.tasks())))
    }
}

fn check_length(request: &Request<Incoming>, limit: u64) -> Result<(), RequestError> {
    // hyper has refused lengths that are malformed or contradict each other.
    let length = request.headers().get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    if length > Some(limit) { Err(RequestError::BodyTooLarge(limit)) } else { Ok(()) }
}

/// Says for the log who answered, where it was no function.
pub(super) fn by(who: &'static str, mut response: Response<ResponseBody>) -> Response<ResponseBody> {
    response.extensions_mut().insert(AnsweredBy(who));
    response
}

/// Says which deployment answered.
pub(super) fn named(mut response: Response<ResponseBody>, deployment: &Deployment) -> Response<ResponseBody> {
    response.headers_mut().insert(DEPLOYMENT, deployment.header());
    response
}

/// Who gives up sooner than this says nothing of the function.
const PATIENCE: Duration = Duration::from_secs(5);

/// A request while something is being rolled out. Dropped before its end, the client has given up. That is the function's failure,
/// too, where it had all of the request for a while: it may be answering nobody. Before that, the client let it wait. What it
/// answers to half a request does not count.
struct Counting<'a> {
    function: &'a Entry,
    chosen: &'a Entry,
    reports: &'a Reports,
    received: Received,
    ended: bool,
}

impl<'a> Counting<'a> {
    fn new(function: &'a Entry, chosen: &'a Entry, reports: &'a Reports) -> Self {
        Self { function, chosen, reports, received: Received::default(), ended: false }
    }

    fn end(mut self, failed: bool) {
        if self.received.is_broken() {
            self.ended = true;
        } else {
            self.count(failed);
        }
    }

    fn count(&mut self, failed: bool) {
        self.ended = true;
        if let Some(failure) = self.function.count(self.chosen, || failed) {
            self.reports.stopped(failure);
        }
    }
}

impl Drop for Counting<'_> {
    fn drop(&mut self) {
        if !self.ended && self.received.since(Instant::now()) > PATIENCE {
            self.count(true);
        }
    }
}
