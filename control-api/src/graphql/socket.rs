//! GraphQL over WebSocket, by the protocol `graphql-transport-ws`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_graphql::http::{WebSocket as Protocol, WebSocketProtocols, WsMessage};
use async_graphql::{Data, Error as GraphqlError};
use axum::extract::WebSocketUpgrade;
use axum::extract::ws::{CloseFrame, Message, WebSocket};
use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use futures::{SinkExt, StreamExt, future};
use serde_json::Value;

use super::failure::Failure;
use super::http::Endpoint;
use super::loaders;
use crate::domain::{Call, Error};

const PROTOCOL: &str = "graphql-transport-ws";

/// Connections at the same time.
pub(super) const SOCKETS: usize = 1_000;

/// Until a connection has said who it is.
const PATIENCE: Duration = Duration::from_secs(10);

/// Of a message, bytes.
const MESSAGE_BYTES: usize = 256 << 10;

/// Of messages that the client does not read.
const UNREAD_BYTES: usize = 1 << 20;

/// Until a client that does not read is given up.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// How the protocol says that.
const INITIALISATION_TIMEOUT: u16 = 4408;

/// Takes over a connection.
pub(super) fn serve(
    endpoint: Endpoint,
    upgrade: WebSocketUpgrade,
    headers: HeaderMap,
    call: Call,
) -> Response {
    let upgrade = upgrade.protocols([PROTOCOL]).max_message_size(MESSAGE_BYTES).max_frame_size(MESSAGE_BYTES);
    let upgrade = upgrade.max_write_buffer_size(UNREAD_BYTES);
    if upgrade.selected_protocol().is_none() {
        let detail = "this WebSocket speaks graphql-transport-ws; ask for it in Sec-WebSocket-Protocol";
        return (StatusCode::BAD_REQUEST, detail).into_response();
    }
    let Ok(place) = endpoint.sockets.clone().try_acquire_owned() else {
        return (StatusCode::SERVICE_UNAVAILABLE, "there are too many WebSockets; try again later")
            .into_response();
    };
    upgrade.on_upgrade(move |socket| async move {
        Box::pin(converse(endpoint, socket, headers, call)).await;
        drop(place);
    })
}

async fn converse(endpoint: Endpoint, socket: WebSocket, headers: HeaderMap, call: Call) {
    let (mut sink, messages) = socket.split();
    let known = Arc::new(AtomicBool::new(false));
    let texts = messages.take_while(|message| future::ready(message.is_ok())).filter_map(|message| {
        future::ready(match message {
            Ok(Message::Text(text)) => Some(text.as_bytes().to_vec()),
            Ok(Message::Binary(bytes)) => Some(bytes.to_vec()),
            _ => None,
        })
    });
    let (schema, knows) = (endpoint.schema.clone(), known.clone());
    let begin = move |payload| async move {
        let data = connection(&endpoint, headers, call, &payload).await?;
        knows.store(true, Ordering::Relaxed);
        Ok(data)
    };
    let responses = Protocol::new(schema, texts, WebSocketProtocols::GraphQLWS).on_connection_init(begin);
    let mut responses = std::pin::pin!(responses);
    let mut patience = std::pin::pin!(tokio::time::sleep(PATIENCE));
    let mut waits = true;
    loop {
        let message = tokio::select! {
            message = responses.next() => message,
            () = &mut patience, if waits => {
                waits = false;
                if known.load(Ordering::Relaxed) { continue }
                Some(WsMessage::Close(INITIALISATION_TIMEOUT, "Connection initialisation timeout".into()))
            }
        };
        let (message, last) = match message {
            Some(WsMessage::Text(text)) => (Message::Text(text.into()), false),
            Some(WsMessage::Close(code, reason)) => {
                (Message::Close(Some(CloseFrame { code, reason: reason.into() })), true)
            }
            None => break,
        };
        let sent = tokio::time::timeout(WRITE_TIMEOUT, sink.send(message)).await;
        if last || !matches!(sent, Ok(Ok(()))) {
            break;
        }
    }
}

/// Who is connected: by the handshake's headers, or by what the first message says under the same names.
async fn connection(
    endpoint: &Endpoint,
    mut headers: HeaderMap,
    call: Call,
    payload: &Value,
) -> Result<Data, GraphqlError> {
    let said = |name: &str| {
        let mut fields = payload.as_object()?.iter();
        fields.find(|(known, _)| known.eq_ignore_ascii_case(name))?.1.as_str()
    };
    for name in [AUTHORIZATION.as_str(), "x-project-id"] {
        if let Some(value) = said(name) {
            let value = HeaderValue::from_str(value).map_err(|_| Failure::from(Error::Unauthenticated))?;
            headers.insert(axum::http::HeaderName::from_bytes(name.as_bytes())?, value);
        }
    }
    let asker = endpoint.asker(&headers, call).await.map_err(Failure::from)?;
    let mut data = Data::default();
    data.insert(endpoint.state.clone());
    if let Some(session) = &asker.session {
        data.insert(loaders::loader(&endpoint.state, &session.actor));
    }
    data.insert(asker);
    Ok(data)
}
