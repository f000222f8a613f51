//! GraphQL over WebSocket, by the protocol `graphql-transport-ws`: what a connection may do, and when it is ended.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use af_contract::frames::Budget;
use af_contract::strict::Plain;
use async_graphql::http::{WebSocket as Protocol, WebSocketProtocols, WsMessage};
use async_graphql::{Data, Error as GraphqlError, Executor, Pos, Request, Response as Executed};
use axum::body::Bytes;
use axum::extract::WebSocketUpgrade;
use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket};
use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use futures::stream::{self, BoxStream};
use futures::{SinkExt, StreamExt, future};
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::Semaphore;
use tokio::time::{Duration, Instant};

use super::failure::Failure;
use super::http::Endpoint;
use super::{Parsed, SocketConfig};
use crate::domain::rates::network;
use crate::domain::{Call, Error};
use crate::places::Place;

const PROTOCOL: &str = "graphql-transport-ws";

/// Of a message, bytes.
const MESSAGE_BYTES: usize = 256 << 10;

/// Of a message that is still read; of one that is longer, no more than its first bytes are.
const READ_BYTES: usize = 1 << 20;

/// Of messages that the client does not read.
const UNREAD_BYTES: usize = 1 << 20;

/// Until a client that does not read is given up.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// Pings that a client may leave without an answer.
const UNANSWERED: u32 = 2;

/// Messages that an operation brings, itself and its end among them; how often there may be one is counted elsewhere.
const OPERATION: u32 = 4;

/// Of a reason for the end, bytes: what is left in a control frame (RFC 6455, section 5.5).
const REASON_BYTES: usize = 123;

/// How the protocol says what was wrong: a message is none,
const INVALID_MESSAGE: u16 = 4400;

/// an operation came before it was said who asks,
const UNAUTHORIZED: u16 = 4401;

/// who asks is not let in,
const FORBIDDEN: u16 = 4403;

/// a client did not say who it is in time,
const INITIALISATION_TIMEOUT: u16 = 4408;

/// or an operation has the id of one that runs.
const SUBSCRIBER_EXISTS: u16 = 4409;

/// RFC 6455: the server goes away.
const GOING_AWAY: u16 = 1001;

/// RFC 6455: the client does what nobody needs to.
const POLICY: u16 = 1008;

/// RFC 6455: a message is too long.
const TOO_BIG: u16 = 1009;

/// How the library says that an operation has ended.
const COMPLETE: &str = "{\"type\":\"complete\"";

/// What the library closes with, which means something else: a message is none or who asks is not let in, and nobody has said
/// who asks.
const LIBRARY_REFUSED: u16 = 1002;
const LIBRARY_UNKNOWN: u16 = 1011;

/// Takes over a connection.
pub(super) fn serve(
    endpoint: Endpoint,
    upgrade: WebSocketUpgrade,
    headers: HeaderMap,
    call: Call,
) -> Response {
    let upgrade = upgrade.protocols([PROTOCOL]).max_message_size(READ_BYTES).max_frame_size(READ_BYTES);
    let upgrade = upgrade.max_write_buffer_size(UNREAD_BYTES);
    if upgrade.selected_protocol().is_none() {
        let detail = "this WebSocket speaks graphql-transport-ws; ask for it in Sec-WebSocket-Protocol";
        return (StatusCode::BAD_REQUEST, detail).into_response();
    }
    // This machine is everybody who comes through a proxy here, and nobody's address.
    let place = match call.address.and_then(network) {
        Some(address) => endpoint.handshakes.take(&address.to_string()).map(Some),
        None => Some(None),
    };
    let Some(place) = place else {
        return (StatusCode::SERVICE_UNAVAILABLE, "there are too many WebSockets; try again later")
            .into_response();
    };
    upgrade.on_upgrade(move |socket| Box::pin(Conversation::new(endpoint, headers, call, place).run(socket)))
}

/// Whether that is why a message was not read.
fn is_too_long(error: &axum::Error) -> bool {
    let cause = std::error::Error::source(error).and_then(|cause| cause.downcast_ref());
    matches!(cause, Some(tungstenite::Error::Capacity(_)))
}

/// One connection. Cheap to clone.
#[derive(Clone)]
struct Conversation {
    endpoint: Endpoint,
    call: Call,
    /// Who is connected, once the first message has said it: each operation shows it again, so that whoever was let in once is
    /// not let in for ever.
    headers: Arc<OnceLock<HeaderMap>>,
    handshake: HeaderMap,
    /// Its address's place, until that is known.
    waiting: Arc<Mutex<Option<Place>>>,
    operations: Arc<Semaphore>,
    /// Something came since the last ping.
    heard: Arc<AtomicBool>,
    /// An operation came since the last ping.
    asked: Arc<AtomicBool>,
    /// For what asks for nothing, such as pings.
    budget: Arc<Mutex<Budget>>,
    /// Ids of operations that run.
    running: Arc<Mutex<HashSet<String>>>,
    /// Who asks was not let in.
    forbidden: Arc<AtomicBool>,
    /// Why nothing more is read.
    end: Arc<OnceLock<(u16, String)>>,
}

/// What a message says of itself.
#[derive(Deserialize)]
struct Head {
    r#type: String,
    id: Option<String>,
}

impl Conversation {
    fn new(endpoint: Endpoint, handshake: HeaderMap, call: Call, place: Option<Place>) -> Self {
        let operations = Arc::new(Semaphore::new(endpoint.schema.config.sockets.operations));
        let (headers, heard, asked) = (Arc::default(), Arc::default(), Arc::default());
        let waiting = Arc::new(Mutex::new(place));
        let budget = Arc::new(Mutex::new(Budget::new(std::time::Instant::now())));
        let (running, forbidden, end) = (Arc::default(), Arc::default(), Arc::default());
        Self {
            endpoint,
            call,
            headers,
            handshake,
            waiting,
            operations,
            heard,
            asked,
            budget,
            running,
            forbidden,
            end,
        }
    }

    fn budget(&self) -> MutexGuard<'_, Budget> {
        self.budget.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn run(self, socket: WebSocket) {
        let config = self.endpoint.schema.config.sockets;
        let (mut sink, messages) = socket.split();
        let this = self.clone();
        let texts = messages
            .map(move |message| {
                this.heard.store(true, Ordering::Relaxed);
                this.read(message)
            })
            .take_while(|read| future::ready(read.is_some()))
            .filter_map(|read| future::ready(read.flatten()));
        let begin = {
            let this = self.clone();
            move |payload| async move {
                let begun = this.begin(&payload).await;
                this.forbidden.store(begun.is_err(), Ordering::Relaxed);
                begun
            }
        };
        let responses = Protocol::new(self.clone(), texts, WebSocketProtocols::GraphQLWS);
        let mut responses = std::pin::pin!(responses.on_connection_init(begin));
        let mut patience = std::pin::pin!(tokio::time::sleep(config.patience));
        let mut pings = tokio::time::interval_at(Instant::now() + config.ping, config.ping);
        let mut watch = Watch { unanswered: 0, idle_since: Instant::now() };
        loop {
            let message = tokio::select! {
                message = responses.next() => match message {
                    Some(message) => self.written(message),
                    None => match self.end.get() {
                        Some((code, reason)) => close(*code, reason),
                        None => break,
                    },
                },
                () = &mut patience, if self.headers.get().is_none() => {
                    close(INITIALISATION_TIMEOUT, "Connection initialisation timeout")
                }
                _ = pings.tick() => watch.tick(&self, &config),
            };
            let last = matches!(message, Message::Close(_));
            let sent = tokio::time::timeout(WRITE_TIMEOUT, sink.send(message)).await;
            if last || !matches!(sent, Ok(Ok(()))) {
                break;
            }
        }
    }

    /// What the library is to look at, if anything; none at all: nothing more is read.
    fn read(&self, message: Result<Message, axum::Error>) -> Option<Option<Vec<u8>>> {
        let end = |code, reason: String| {
            self.end.get_or_init(|| (code, reason));
            None
        };
        if let Err(flood) = self.budget().spend(1, std::time::Instant::now) {
            return end(POLICY, flood.to_string());
        }
        let too_big = || format!("a message has at most {MESSAGE_BYTES} bytes");
        let text = match message {
            Ok(Message::Text(text)) => text.as_bytes().to_vec(),
            Ok(Message::Binary(bytes)) => bytes.to_vec(),
            Ok(_) => return Some(None),
            Err(error) if is_too_long(&error) => return end(TOO_BIG, too_big()),
            Err(_) => return None,
        };
        if text.len() > MESSAGE_BYTES {
            return end(TOO_BIG, too_big());
        }
        if let Err(error) = serde_json::from_slice::<Plain>(&text) {
            return end(INVALID_MESSAGE, format!("Invalid message: {error}"));
        }
        if let Ok(Head { r#type, id: Some(id) }) = serde_json::from_slice(&text)
            && ["subscribe", "start"].contains(&r#type.as_str())
            && !self.running.lock().unwrap_or_else(PoisonError::into_inner).insert(id.clone())
        {
            return end(SUBSCRIBER_EXISTS, format!("Subscriber for {id} already exists"));
        }
        Some(Some(text))
    }

    /// What the library says, with the codes of the protocol.
    fn written(&self, message: WsMessage) -> Message {
        match message {
            WsMessage::Text(text) => {
                if text.starts_with(COMPLETE)
                    && let Ok(Head { id: Some(id), .. }) = serde_json::from_str(&text)
                {
                    self.running.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
                }
                Message::Text(text.into())
            }
            WsMessage::Close(LIBRARY_UNKNOWN, _) => close(UNAUTHORIZED, "Unauthorized"),
            WsMessage::Close(LIBRARY_REFUSED, reason) if self.forbidden.load(Ordering::Relaxed) => {
                close(FORBIDDEN, &reason)
            }
            WsMessage::Close(LIBRARY_REFUSED, _) => close(INVALID_MESSAGE, "Invalid message"),
            WsMessage::Close(code, reason) => close(code, &reason),
        }
    }

    /// Who is connected: by the handshake's headers, or by what the first message says under the same names.
    async fn begin(&self, payload: &Value) -> Result<Data, GraphqlError> {
        let mut headers = self.handshake.clone();
        let said = |name: &str| {
            let mut fields = payload.as_object()?.iter();
            fields.find(|(known, _)| known.eq_ignore_ascii_case(name))?.1.as_str()
        };
        for name in [AUTHORIZATION, HeaderName::from_static("x-project-id")] {
            if let Some(value) = said(name.as_str()) {
                let value =
                    HeaderValue::from_str(value).map_err(|_| Failure::from(Error::Unauthenticated))?;
                headers.insert(name, value);
            }
        }
        let asker = self.endpoint.asker(&headers, self.call.clone()).await.map_err(Failure::from)?;
        let who = match (&asker.session, self.call.address.and_then(network)) {
            (Some(session), _) => Some(session.actor.user.clone()),
            (None, address) => address.map(|address| address.to_string()),
        };
        let mut data = Data::default();
        if let Some(who) = who {
            let place = self.endpoint.sockets.take(&who);
            data.insert(place.ok_or_else(|| GraphqlError::new("there are too many WebSockets; close one"))?);
        }
        self.headers.get_or_init(|| headers);
        drop(self.waiting.lock().unwrap_or_else(PoisonError::into_inner).take());
        Ok(data)
    }

    /// An operation, as if it had come in a request of its own: counted, and with a token that still is one.
    async fn operation(self, request: Request) -> Result<BoxStream<'static, Executed>, Error> {
        let headers = self.headers.get().ok_or(Error::Unauthenticated)?;
        if let Some(address) = self.call.address {
            self.endpoint.state.rates.address(address, &self.call.standings).await?;
        }
        let asker = self.endpoint.asker(headers, self.call.clone()).await?;
        self.budget().earn(OPERATION);
        Ok(match Parsed::new(self.endpoint.equip(request, &asker)) {
            Ok(parsed) => self.endpoint.schema.stream(parsed),
            Err(refused) => once(*refused),
        })
    }
}

impl Executor for Conversation {
    async fn execute(&self, request: Request) -> Executed {
        let mut responses = self.execute_stream(request, None);
        responses.next().await.unwrap_or_default()
    }

    fn execute_stream(&self, request: Request, _: Option<Arc<Data>>) -> BoxStream<'static, Executed> {
        self.asked.store(true, Ordering::Relaxed);
        let Ok(place) = self.operations.clone().try_acquire_owned() else {
            let most = self.endpoint.schema.config.sockets.operations;
            let detail =
                format!("a connection has at most {most} operations at the same time; end one first");
            return once(failed(Error::Limit { code: "too_many_operations", detail, seconds: 1 }));
        };
        let operation = Box::pin(self.clone().operation(request));
        let responses = stream::once(operation)
            .flat_map(|started| started.unwrap_or_else(|error| once(failed(error))))
            .map(move |response| {
                let _until_it_ends = &place;
                response
            });
        responses.boxed()
    }
}

/// Whether anybody is there, and wants something.
struct Watch {
    unanswered: u32,
    idle_since: Instant,
}

impl Watch {
    fn tick(&mut self, conversation: &Conversation, config: &SocketConfig) -> Message {
        let running = conversation.operations.available_permits() < config.operations;
        if conversation.asked.swap(false, Ordering::Relaxed) || running {
            self.idle_since = Instant::now();
        } else if self.idle_since.elapsed() >= config.idle {
            return close(GOING_AWAY, "nothing was asked for a long time");
        }
        self.unanswered =
            if conversation.heard.swap(false, Ordering::Relaxed) { 0 } else { self.unanswered + 1 };
        if self.unanswered > UNANSWERED {
            return close(GOING_AWAY, "pings were not answered");
        }
        Message::Ping(Bytes::new())
    }
}

fn once(response: Executed) -> BoxStream<'static, Executed> {
    stream::once(future::ready(response)).boxed()
}

fn failed(error: Error) -> Executed {
    Executed::from_errors(vec![GraphqlError::from(Failure::from(error)).into_server_error(Pos::default())])
}

fn close(code: u16, reason: &str) -> Message {
    let end = (0..=REASON_BYTES.min(reason.len())).rev().find(|end| reason.is_char_boundary(*end));
    let reason = Utf8Bytes::from(reason.get(..end.unwrap_or_default()).unwrap_or_default());
    Message::Close(Some(CloseFrame { code, reason }))
}
