//! Calls that no request from outside causes: a function's own code at a path of its schedule, whatever its routes
//! say. Everything else is as for any request: admission, limits, log.

use std::net::SocketAddr;

use ::http::{HeaderMap, HeaderName, HeaderValue, Request, Response, Uri};
use af_contract::trigger::{self, Answered, Tick};
use http_body_util::BodyExt;
use wasmtime_wasi_http::WasiBody;

use super::body::ResponseBody;
use super::exchange::Exchange;
use super::service::{Service, named};
use super::{RequestError, rescue};
use crate::listen::Peer;
use crate::request_id::RequestId;
use crate::router::Entry;
use crate::sandbox::Call;

const TRIGGER: HeaderName = HeaderName::from_static(trigger::TRIGGER_HEADER);
const SCHEDULED_AT: HeaderName = HeaderName::from_static(trigger::SCHEDULED_AT_HEADER);

/// Takes out what only the edge may say, so that a function can believe it.
pub(super) fn strip(headers: &mut HeaderMap) {
    headers.remove(&TRIGGER);
    headers.remove(&SCHEDULED_AT);
}

impl Service {
    /// Calls a function because its time has come, and reads its response to the end.
    pub(crate) async fn trigger(&self, tick: &Tick) -> Answered {
        let id = RequestId::next();
        let Some(function) = self.router().function_with(&tick.function, &tick.deployment) else {
            return Answered::failed("the edge does not know the function; it may be gone");
        };
        let mut request = match request(tick) {
            Ok(request) => request,
            Err(error) => return Answered::failed(&format!("the function cannot be called: {error}")),
        };
        // This node itself asks.
        let peer = Peer::plain(SocketAddr::from(([127, 0, 0, 1], 0)));
        let mut exchange = self.exchanges().begin(id, &peer, &mut request);
        let answered = self.run_trigger(id, &function, &mut exchange, request).await;
        exchange.end(rescue::end(&answered));
        let (response, error) = match answered {
            Ok(response) => {
                self.metrics().answered();
                (response, None)
            }
            Err(error) => (rescue::response(&error, id, self.metrics()), Some(error.to_string())),
        };
        let response = self.exchanges().finish(exchange, response);
        let status = Some(response.status().as_u16());
        let broken = response.into_body().collect().await.err();
        Answered { status, error: error.or_else(|| broken.map(|error| error.to_string())) }
    }

    async fn run_trigger(
        &self,
        id: RequestId,
        function: &Entry,
        exchange: &mut Exchange,
        request: Request<WasiBody>,
    ) -> Result<Response<ResponseBody>, RequestError> {
        let deployment = function.deployment().await?;
        let callee = deployment.callee().await?;
        let permit = self.sandbox().admission().admit(function.gate()).await?;
        exchange.ask(deployment.usage());
        let response = Call::new(self.sandbox(), callee, permit).run(id, request).await?;
        let response = response.map(|guest| ResponseBody::guest(guest, self.sandbox().tasks()));
        Ok(named(response, deployment))
    }
}

/// `GET`, as the schedulers of other platforms have it.
fn request(tick: &Tick) -> Result<Request<WasiBody>, ::http::Error> {
    let mut request = Request::new(WasiBody::default());
    *request.uri_mut() = Uri::try_from(tick.url.as_str())?;
    let headers = request.headers_mut();
    headers.insert(TRIGGER, HeaderValue::from_static("cron"));
    headers.insert(SCHEDULED_AT, HeaderValue::try_from(trigger::rfc3339(tick.scheduled_at))?);
    Ok(request)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tick() -> Tick {
        Tick {
            function: "fn_1".into(),
            deployment: "dep_1".into(),
            url: "http://hello.localhost:8080/tick?a=b".into(),
            scheduled_at: 1_767_225_600_000,
        }
    }

    #[test]
    fn a_function_is_told_why_and_for_when() {
        let request = request(&tick()).unwrap();
        assert_eq!(request.uri(), "http://hello.localhost:8080/tick?a=b");
        assert_eq!(request.headers()["af-trigger"], "cron");
        assert_eq!(request.headers()["af-scheduled-at"], "2026-01-01T00:00:00Z");
    }

    #[test]
    fn a_client_cannot_say_it() {
        let mut request = request(&tick()).unwrap();
        request.headers_mut().append("AF-Trigger", HeaderValue::from_static("again"));
        request.headers_mut().insert("other", HeaderValue::from_static("stays"));
        strip(request.headers_mut());
        assert_eq!(request.headers().keys().collect::<Vec<_>>(), ["other"]);
    }
}
