//! One request from header to response.

use std::sync::Arc;

use ::http::header::CONTENT_LENGTH;
use ::http::{HeaderName, Request, Response};
use hyper::body::Incoming;

use super::body::{self, ResponseBody};
use super::routed::Routed;
use super::target::{self, Host};
use super::{RequestError, rescue, trigger, well_known};
use crate::listen::Peer;
use crate::request_id::RequestId;
use crate::router::{Answer, Deployment, Entry, RuntimeRouter, SiteEntry, path};
use crate::sandbox::{Call, Gate, Sandbox};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const DEPLOYMENT: HeaderName = HeaderName::from_static("af-deployment");

/// Answers requests. Shared by all connections.
pub struct Service {
    router: RuntimeRouter,
    sandbox: Sandbox,
}

impl Service {
    pub(crate) fn new(router: RuntimeRouter, sandbox: Sandbox) -> Self {
        Self { router, sandbox }
    }

    pub(crate) fn router(&self) -> &RuntimeRouter {
        &self.router
    }

    pub(super) fn sandbox(&self) -> &Sandbox {
        &self.sandbox
    }

    /// Waits for what guests still do after their last response.
    pub(crate) async fn drain(&self) {
        self.sandbox.tasks().close();
        self.sandbox.tasks().wait().await;
    }

    /// Answers one request; errors become problem documents.
    pub async fn call(&self, peer: &Peer, mut request: Request<Incoming>) -> Response<ResponseBody> {
        let id = RequestId::next();
        trigger::strip(request.headers_mut());
        let mut response = match self.respond(id, peer, request).await {
            Ok(response) => {
                self.sandbox.metrics().answered();
                response
            }
            Err(error) => rescue::response(&error, id, self.sandbox.metrics()),
        };
        response.headers_mut().insert(REQUEST_ID, id.header());
        response
    }

    async fn respond(
        &self,
        id: RequestId,
        peer: &Peer,
        request: Request<Incoming>,
    ) -> Result<Response<ResponseBody>, RequestError> {
        let host = target::host(&request)?;
        let answer = self.router.find(host.name())?;
        match &*answer {
            Answer::Function(function) if request.uri().path() == well_known::DEPLOYMENT_PATH => {
                Ok(well_known::deployment(function).await)
            }
            Answer::Function(function) => {
                function.check_active()?;
                let Some(routes) = function.routes() else {
                    return self.function(id, peer, request, &host, function).await;
                };
                let uri = request.uri().clone();
                let path = path::normal(uri.path()).unwrap_or_default();
                match routes.find(request.method().as_str(), host.name(), &path) {
                    Some(found) => {
                        let routed = Routed { id, peer, host: &host, function, path: &path, found: &found };
                        self.routed(routed, request).await
                    }
                    None => self.function(id, peer, request, &host, function).await,
                }
            }
            Answer::Site(site) => self.site(site, &request).await,
        }
    }

    /// Serves a file.
    #[expect(clippy::unused_async, reason = "reading files is asynchronous")]
    pub(super) async fn site(
        &self,
        _site: &SiteEntry,
        _request: &Request<Incoming>,
    ) -> Result<Response<ResponseBody>, RequestError> {
        Err(RequestError::Unsupported("sites are not served yet"))
    }

    /// Runs a function's own code.
    pub(super) async fn function(
        &self,
        id: RequestId,
        peer: &Peer,
        mut request: Request<Incoming>,
        host: &Host,
        function: &Entry,
    ) -> Result<Response<ResponseBody>, RequestError> {
        let deployment = function.deployment().await?;
        check_length(&request, deployment.limits().request_body_bytes)?;
        target::make_absolute(&mut request, peer.scheme(), host)?;
        let response = self.run(id, function.gate(), deployment, request).await?;
        Ok(named(response, deployment))
    }

    async fn run(
        &self,
        id: RequestId,
        gate: &Gate,
        deployment: &Arc<Deployment>,
        request: Request<Incoming>,
    ) -> Result<Response<ResponseBody>, RequestError> {
        let callee = deployment.callee().await?;
        let permit = self.sandbox.admission().admit(gate).await?;
        let call = Call::new(&self.sandbox, callee, permit);
        let meter = call.meter();
        let request = request.map(|body| body::limited(body, deployment.limits().request_body_bytes, meter));
        let response = call.run(id, request).await?;
        Ok(response.map(|guest| ResponseBody::guest(guest, self.sandbox.tasks())))
    }
}

fn check_length(request: &Request<Incoming>, limit: u64) -> Result<(), RequestError> {
    // hyper has refused lengths that are malformed or contradict each other.
    let length = request.headers().get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    if length > Some(limit) { Err(RequestError::BodyTooLarge(limit)) } else { Ok(()) }
}

/// Says which deployment answered.
fn named(mut response: Response<ResponseBody>, deployment: &Deployment) -> Response<ResponseBody> {
    response.headers_mut().insert(DEPLOYMENT, deployment.header());
    response
}
