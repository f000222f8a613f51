//! One request from header to response.

use std::sync::Arc;

use ::http::header::CONTENT_LENGTH;
use ::http::{HeaderName, Request, Response};
use hyper::body::Incoming;

use super::body::{self, ResponseBody};
use super::{RequestError, Secure, rescue, target, well_known};
use crate::listen::Peer;
use crate::request_id::RequestId;
use crate::router::{Deployment, RuntimeRouter};
use crate::sandbox::{Call, Gate, Sandbox};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const DEPLOYMENT: HeaderName = HeaderName::from_static("af-deployment");

/// Answers requests. Shared by all connections.
pub struct Service {
    router: RuntimeRouter,
    sandbox: Sandbox,
    /// Where connections can be encrypted.
    secure: Option<Secure>,
}

impl Service {
    pub(crate) fn new(router: RuntimeRouter, sandbox: Sandbox, secure: Option<Secure>) -> Self {
        Self { router, sandbox, secure }
    }

    pub(crate) fn router(&self) -> &RuntimeRouter {
        &self.router
    }

    /// Waits for what guests still do after their last response.
    pub(crate) async fn drain(&self) {
        self.sandbox.tasks().close();
        self.sandbox.tasks().wait().await;
    }

    /// Answers one request; errors become problem documents.
    pub async fn call(&self, peer: &Peer, request: Request<Incoming>) -> Response<ResponseBody> {
        let id = RequestId::next();
        let mut response = match self.respond(id, peer, request).await {
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
        response
    }

    async fn respond(
        &self,
        id: RequestId,
        peer: &Peer,
        mut request: Request<Incoming>,
    ) -> Result<Response<ResponseBody>, RequestError> {
        if let Some(secure) = &self.secure
            && let Some(response) = secure.answer(peer, &request)?
        {
            return Ok(response);
        }
        let host = target::host(&request)?;
        let route = self.router.find(&host)?;
        if request.uri().path() == well_known::DEPLOYMENT_PATH {
            return Ok(well_known::deployment(&route).await);
        }
        let deployment = route.deployment().await?;
        check_length(&request, deployment.limits().request_body_bytes)?;
        target::make_absolute(&mut request, peer.scheme(), &host)?;
        let response = self.run(id, route.gate(), deployment, request).await?;
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
