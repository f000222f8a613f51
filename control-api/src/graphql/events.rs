//! GraphQL over server-sent events, each operation with a response of its own (the distinct connections mode of
//! graphql-sse).

use std::convert::Infallible;

use async_graphql::Response as Executed;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures::StreamExt;
use futures::stream::{self, BoxStream};

use super::http::document;

/// An event `next` for each response, then `complete`. Comments keep idle connections open.
pub(super) fn respond(responses: BoxStream<'static, Executed>) -> Response {
    let next = |executed| Event::default().event("next").data(document(executed).to_string());
    let complete = stream::once(std::future::ready(Event::default().event("complete").data("")));
    let events = responses.map(next).chain(complete).map(Ok::<_, Infallible>);
    Sse::new(events).keep_alive(KeepAlive::default()).into_response()
}
