//! GraphQL over HTTP: what is executed, and with which status it is answered.

use std::sync::Arc;

use async_graphql::parser::types::OperationType;
use async_graphql::{PathSegment, Request, Response as Executed, ServerError, Value as Data};
use axum::body::Body;
use axum::extract::{FromRequestParts, RawQuery, Request as HttpRequest, State as Shared, WebSocketUpgrade};
use axum::http::header::{ALLOW, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use futures::future::join_all;
use serde_json::Value;

use super::asker::Asker;
use super::failure::{self, Failure};
use super::negotiation::Answer;
use super::transport::{self, Operations, Unreadable};
use super::{Parsed, Schema, TooLong, events, loaders, socket};
use crate::app::State;
use crate::domain::{Call, Error, Fault};
use crate::places::Places;
use crate::rest::{Effect, authenticate};

/// What `/graphql` needs.
#[derive(Clone)]
pub(super) struct Endpoint {
    pub(super) state: Arc<State>,
    pub(super) schema: Schema,
    /// Places of WebSockets that have not said yet who they are, by their address.
    pub(super) handshakes: Places,
    /// Those that have, by their user.
    pub(super) sockets: Places,
}

impl Endpoint {
    /// Who asks, by the headers. Nobody, where there is no token: some operations need none.
    pub(super) async fn asker(&self, headers: &HeaderMap, call: Call) -> Result<Asker, Error> {
        let session = authenticate(&self.state, headers, call.clone()).await?;
        Ok(Asker::new(session, headers, call))
    }

    /// Gives a request what its resolvers need.
    pub(super) fn equip(&self, request: Request, asker: &Asker) -> Request {
        let request = request.data(self.state.clone()).data(asker.clone());
        match &asker.session {
            Some(session) => request.data(loaders::loader(&self.state, &session.actor)),
            None => request,
        }
    }
}

/// A query in the URL, or a WebSocket.
pub(super) async fn get(
    Shared(endpoint): Shared<Endpoint>,
    RawQuery(query): RawQuery,
    request: HttpRequest,
) -> Response {
    let (mut parts, _) = request.into_parts();
    let call = parts.extensions.get::<Call>().cloned().unwrap_or_default();
    if let Ok(upgrade) = WebSocketUpgrade::from_request_parts(&mut parts, &()).await {
        return socket::serve(endpoint, upgrade, parts.headers, call);
    }
    let Some(answer) = Answer::choose(&parts.headers) else { return not_acceptable() };
    let asker = match endpoint.asker(&parts.headers, call).await {
        Ok(asker) => asker,
        Err(error) => return refused(answer, error),
    };
    let request = match transport::from_query(query.as_deref().unwrap_or_default()) {
        Ok(request) => request,
        Err(unreadable) => return bad(answer, unreadable),
    };
    let parsed = match Parsed::new(endpoint.equip(request, &asker)) {
        Ok(parsed) => parsed,
        Err(response) => return one(answer, *response, Effect::Nothing),
    };
    if parsed.kind == OperationType::Mutation {
        let detail = "a mutation is sent with POST".to_owned();
        let mut response = bad(answer, Unreadable { status: StatusCode::METHOD_NOT_ALLOWED, detail });
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("POST"));
        return response;
    }
    Box::pin(execute(&endpoint, answer, parsed)).await
}

/// One operation or several, as JSON or a form.
pub(super) async fn post(
    Shared(endpoint): Shared<Endpoint>,
    call: Call,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let Some(answer) = Answer::choose(&headers) else { return not_acceptable() };
    let asker = match endpoint.asker(&headers, call).await {
        Ok(asker) => asker,
        Err(error) => return refused(answer, error),
    };
    let operations = match transport::from_body(&headers, body).await {
        Ok(operations) => operations,
        Err(unreadable) => return bad(answer, unreadable),
    };
    match operations {
        Operations::One(request) => match Parsed::new(endpoint.equip(*request, &asker)) {
            Ok(parsed) => Box::pin(execute(&endpoint, answer, parsed)).await,
            Err(response) => one(answer, *response, Effect::Nothing),
        },
        Operations::Batch(_) if answer == Answer::Events => {
            let detail = "a batch is not answered in events".to_owned();
            bad(Answer::Json, Unreadable { status: StatusCode::BAD_REQUEST, detail })
        }
        Operations::Batch(requests) => {
            // The first one is counted.
            for _ in requests.iter().skip(1) {
                if let Err(error) = asker.count(&endpoint.state).await {
                    return refused(answer, error);
                }
            }
            let executing = requests.into_iter().map(|request| async {
                match Parsed::new(endpoint.equip(request, &asker.apart())) {
                    Ok(parsed) => Box::pin(execute_one(&endpoint, parsed)).await,
                    Err(response) => (*response, Effect::Nothing),
                }
            });
            let (responses, effects): (Vec<_>, Vec<_>) =
                Box::pin(join_all(executing)).await.into_iter().unzip();
            let nothing = effects.iter().all(|effect| *effect == Effect::Nothing);
            let documents: Vec<Value> = responses.into_iter().map(document).collect();
            let effect = if nothing { Effect::Nothing } else { Effect::Something };
            effect.mark(write(answer, StatusCode::OK, &Value::Array(documents)))
        }
    }
}

async fn execute(endpoint: &Endpoint, answer: Answer, parsed: Parsed) -> Response {
    if answer == Answer::Events {
        return events::respond(endpoint.schema.stream(parsed));
    }
    let (executed, effect) = execute_one(endpoint, parsed).await;
    one(answer, executed, effect)
}

async fn execute_one(endpoint: &Endpoint, parsed: Parsed) -> (Executed, Effect) {
    if parsed.kind == OperationType::Subscription {
        let detail = "a subscription is answered in events (Accept: text/event-stream) or over a WebSocket";
        return (failure::refusal(failure::UNREADABLE, detail), Effect::Nothing);
    }
    let asked = (parsed.kind, parsed.fields);
    let executed = endpoint.schema.execute(parsed).await;
    let effect = effect(&executed, asked);
    (executed, effect)
}

fn one(answer: Answer, executed: Executed, effect: Effect) -> Response {
    let status = status(answer, &executed);
    let answer = if answer == Answer::Events { Answer::Graphql } else { answer };
    let retry = executed.errors.iter().find_map(|error| error.source::<Error>()?.retry_after());
    let mut response = effect.mark(write(answer, status, &document(executed)));
    if let Some(seconds) = retry {
        response.headers_mut().insert(RETRY_AFTER, seconds.into());
    }
    response
}

/// What an operation with so many fields itself did. What failed may be tried again with its `Idempotency-Key`; where a part was done, it
/// would be done twice. A query that was answered is remembered as what changes something is.
fn effect(executed: &Executed, (kind, fields): (OperationType, usize)) -> Effect {
    let errors = &executed.errors;
    let nothing = match (&executed.data, kind) {
        _ if errors.is_empty() => false,
        (_, OperationType::Query | OperationType::Subscription) => true,
        // It goes on.
        _ if took_too_long(executed) => false,
        _ if was_not_executed(executed) => true,
        // A field that succeeded is null here, too, if something is asked of its result that fails: then the error's path goes on.
        _ if errors.iter().any(|error| error.path.len() != 1) => false,
        (Data::Object(data), _) => data.iter().all(|(name, value)| {
            let failed = |error: &ServerError| matches!(&error.path[..], [PathSegment::Field(field)] if field == name.as_str());
            *value == Data::Null && errors.iter().any(failed)
        }),
        // One that cannot be null takes those with it that were done before.
        _ => fields == 1,
    };
    if nothing { Effect::Nothing } else { Effect::Something }
}

fn took_too_long(executed: &Executed) -> bool {
    executed.errors.iter().any(|error| error.source::<TooLong>().is_some())
}

/// The only place of GraphQL that picks a status for what was executed. Clients of both platforms look for 401 and 403.
fn status(answer: Answer, executed: &Executed) -> StatusCode {
    let faults = || executed.errors.iter().filter_map(|error| error.source::<Error>()).map(Error::fault);
    if faults().any(|fault| fault == Fault::Unauthenticated) {
        StatusCode::UNAUTHORIZED
    } else if faults().any(|fault| fault == Fault::Forbidden) {
        StatusCode::FORBIDDEN
    } else if answer != Answer::Json && was_not_executed(executed) {
        StatusCode::BAD_REQUEST
    } else {
        StatusCode::OK
    }
}

/// Errors of execution have a path.
fn was_not_executed(executed: &Executed) -> bool {
    !executed.errors.is_empty() && executed.errors.iter().all(|error| error.path.is_empty())
}

/// A response, without `data` where nothing was executed.
pub(super) fn document(executed: Executed) -> Value {
    let without_data = was_not_executed(&executed);
    let mut document = serde_json::to_value(executed).unwrap_or_default();
    if let (true, Some(document)) = (without_data, document.as_object_mut()) {
        document.shift_remove("data");
    }
    document
}

fn write(answer: Answer, status: StatusCode, document: &Value) -> Response {
    let mut response = (status, document.to_string()).into_response();
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(answer.content_type()));
    if status == StatusCode::UNAUTHORIZED {
        response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    response
}

/// Who asks could not be found out.
fn refused(answer: Answer, error: Error) -> Response {
    let status = match error.fault() {
        Fault::Unauthenticated => StatusCode::UNAUTHORIZED,
        Fault::TooOften => StatusCode::TOO_MANY_REQUESTS,
        Fault::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        _ => StatusCode::FORBIDDEN,
    };
    let retry = error.retry_after();
    let error =
        async_graphql::Error::from(Failure::from(error)).into_server_error(async_graphql::Pos::default());
    let error = ServerError { locations: Vec::new(), ..error };
    let answer = if answer == Answer::Events { Answer::Graphql } else { answer };
    let mut response = write(answer, status, &document(Executed::from_errors(vec![error])));
    if let Some(seconds) = retry {
        response.headers_mut().insert(RETRY_AFTER, seconds.into());
    }
    response
}

fn bad(answer: Answer, Unreadable { status, detail }: Unreadable) -> Response {
    let answer = if answer == Answer::Events { Answer::Graphql } else { answer };
    write(answer, status, &document(failure::refusal(failure::UNREADABLE, &detail)))
}

fn not_acceptable() -> Response {
    let detail =
        "this is answered as application/graphql-response+json, application/json or text/event-stream"
            .to_owned();
    bad(Answer::Json, Unreadable { status: StatusCode::NOT_ACCEPTABLE, detail })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const MUTATION: OperationType = OperationType::Mutation;

    fn executed(data: Value, paths: &[&[&str]]) -> Executed {
        let segments =
            |path: &[&str]| path.iter().map(|name| PathSegment::Field((*name).to_owned())).collect();
        let error = |path: &&[&str]| ServerError::new("failed", None).with_path(segments(path));
        let data = Data::from_json(data).unwrap_or_default();
        let mut executed = Executed::new(data);
        executed.errors = paths.iter().map(error).collect();
        executed
    }

    #[test]
    fn only_what_failed_itself_has_done_nothing() {
        for (data, paths, fields) in [
            (Value::Null, &[&[][..]][..], 1),
            (Value::Null, &[&["a"]], 1),
            (json!({ "a": null }), &[&["a"]], 1),
            (json!({ "a": null, "b": null }), &[&["b"], &["a"]], 2),
        ] {
            assert_eq!(effect(&executed(data.clone(), paths), (MUTATION, fields)), Effect::Nothing, "{data}");
        }
        for (data, paths, fields) in [
            // The one before it was done.
            (Value::Null, &[&["b"][..]][..], 2),
            // It was done, and what is asked of its result failed.
            (json!({ "a": null }), &[&["a", "owner"]], 1),
            (Value::Null, &[&["a", "owner"]], 1),
            // One has no more to say than null.
            (json!({ "a": null, "b": null }), &[&["a"]], 2),
            (json!({ "a": null, "b": {} }), &[&["a"]], 2),
            (json!({ "a": null }), &[], 1),
        ] {
            assert_eq!(
                effect(&executed(data.clone(), paths), (MUTATION, fields)),
                Effect::Something,
                "{data}"
            );
        }
        let late = super::super::too_long(std::time::Duration::ZERO);
        assert_eq!(effect(&late, (MUTATION, 1)), Effect::Something);
        assert_eq!(effect(&late, (OperationType::Query, 1)), Effect::Nothing);
    }
}
