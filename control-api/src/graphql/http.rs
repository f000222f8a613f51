//! GraphQL over HTTP: what is executed, and with which status it is answered.

use std::sync::Arc;

use async_graphql::parser::types::OperationType;
use async_graphql::{Request, Response as Executed, ServerError, Value as Data};
use axum::body::Body;
use axum::extract::{FromRequestParts, RawQuery, Request as HttpRequest, State as Shared, WebSocketUpgrade};
use axum::http::header::{ALLOW, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use futures::future::join_all;
use serde_json::{Value, json};

use super::asker::Asker;
use super::failure::Failure;
use super::negotiation::Answer;
use super::transport::{self, Operations, Unreadable};
use super::{Parsed, Schema, events, loaders, socket};
use crate::app::State;
use crate::domain::{Call, Error, Fault};
use crate::places::Places;
use crate::rest::{Undone, authenticate};

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
        Err(response) => return one(answer, *response),
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
            Err(response) => one(answer, *response),
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
                    Err(response) => *response,
                }
            });
            let responses = Box::pin(join_all(executing)).await;
            let undone = responses.iter().all(has_done_nothing);
            let documents: Vec<Value> = responses.into_iter().map(document).collect();
            marked(undone, write(answer, StatusCode::OK, &Value::Array(documents)))
        }
    }
}

async fn execute(endpoint: &Endpoint, answer: Answer, parsed: Parsed) -> Response {
    if answer == Answer::Events {
        return events::respond(endpoint.schema.stream(parsed));
    }
    one(answer, execute_one(endpoint, parsed).await)
}

async fn execute_one(endpoint: &Endpoint, parsed: Parsed) -> Executed {
    if parsed.kind == OperationType::Subscription {
        let detail = "a subscription is answered in events (Accept: text/event-stream) or over a WebSocket";
        return Executed::from_errors(vec![ServerError::new(detail, None)]);
    }
    endpoint.schema.execute(parsed).await
}

fn one(answer: Answer, executed: Executed) -> Response {
    let status = status(answer, &executed);
    let answer = if answer == Answer::Events { Answer::Graphql } else { answer };
    let retry = executed.errors.iter().find_map(|error| error.source::<Error>()?.retry_after());
    let undone = has_done_nothing(&executed);
    let mut response = marked(undone, write(answer, status, &document(executed)));
    if let Some(seconds) = retry {
        response.headers_mut().insert(RETRY_AFTER, seconds.into());
    }
    response
}

/// What failed may be tried again with its `Idempotency-Key`. Where a part was done, it would be done twice.
fn has_done_nothing(executed: &Executed) -> bool {
    let nothing = match &executed.data {
        Data::Object(fields) => fields.values().all(|field| *field == Data::Null),
        data => *data == Data::Null,
    };
    !executed.errors.is_empty() && nothing
}

fn marked(undone: bool, mut response: Response) -> Response {
    if undone {
        response.extensions_mut().insert(Undone);
    }
    response
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
    write(answer, status, &json!({ "errors": [{ "message": detail }] }))
}

fn not_acceptable() -> Response {
    let detail =
        "this is answered as application/graphql-response+json, application/json or text/event-stream"
            .to_owned();
    bad(Answer::Json, Unreadable { status: StatusCode::NOT_ACCEPTABLE, detail })
}
