//! One request in one fresh instance. The guest runs inside the future of whoever waits for it: first
//! the request's, then, while the body streams, the body's. There is no task to hand over to.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use af_contract::Limits;
use futures::channel::oneshot;
use http::{Request, Response};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Sleep;
use tracing::warn;
use wasmtime::{AsContextMut, Engine, PoolConcurrencyLimitError, Store, UpdateDeadline};
use wasmtime_wasi_http::handler::Prepared;
use wasmtime_wasi_http::{WasiBody, WasiHttpView, p2, p3};

use super::{Exceeded, GuestBody, Meter, Sandbox, State};
use crate::artifact::Artifact;
use crate::host::log::GuestLog;
use crate::request_id::RequestId;

/// Why a guest gave no, or only half a response.
#[derive(Debug, thiserror::Error)]
pub enum GuestError {
    /// It broke a limit.
    #[error("{0}")]
    Exceeded(Exceeded),
    /// It trapped: out of bounds, unreachable, stack overflow.
    #[error("the function crashed")]
    Trap(#[source] Arc<dyn std::error::Error + Send + Sync>),
    /// It returned without having set a response.
    #[error("the function ended without sending a response")]
    NoResponse,
    /// It set an error as its response.
    #[error("the function answered with an error: {0}")]
    Http(String),
    /// It could not be instantiated: its start function trapped, or it needs more than the pool has.
    #[error("the function could not be started")]
    Instantiate(#[source] Arc<dyn std::error::Error + Send + Sync>),
    /// All slots of the pool are taken.
    #[error("the server has no free instance; try again in a moment")]
    PoolFull,
}

type Responded = Result<Response<WasiBody>, wasmtime::Error>;
type Driver = Pin<Box<dyn Future<Output = Result<(), GuestError>> + Send>>;

/// A call that has not begun.
pub struct Call {
    engine: Engine,
    artifact: Arc<Artifact>,
    limits: Limits,
    meter: Arc<Meter>,
    permit: OwnedSemaphorePermit,
}

impl Call {
    /// Starts the wall clock.
    #[must_use]
    pub fn new(
        sandbox: &Sandbox,
        artifact: &Arc<Artifact>,
        limits: &Limits,
        permit: OwnedSemaphorePermit,
    ) -> Self {
        Self {
            engine: sandbox.engine().clone(),
            artifact: artifact.clone(),
            limits: *limits,
            meter: Arc::new(Meter::new(limits)),
            permit,
        }
    }

    /// Counts this call's use.
    #[must_use]
    pub fn meter(&self) -> Arc<Meter> {
        self.meter.clone()
    }

    /// Runs the guest until its response begins. The rest of it runs while the body is read.
    ///
    /// # Errors
    /// When the guest fails or breaks a limit before it responds.
    pub async fn run(
        self,
        id: RequestId,
        function: &str,
        request: Request<WasiBody>,
    ) -> Result<Response<GuestBody>, GuestError> {
        let log = GuestLog::new(function, id, self.limits.log_bytes);
        let state = State::new(&self.limits, self.meter.clone(), &log);
        let (sender, receiver) = oneshot::channel();
        let driver: Driver = Box::pin(drive(store(&self.engine, state), self.artifact, request, sender));
        let deadline = tokio::time::sleep_until(self.meter.deadline().into());
        let mut running = Running {
            driver: Some(driver),
            failure: None,
            meter: self.meter,
            deadline: Box::pin(deadline),
            log,
            permit: Some(self.permit),
        };
        let response = running.response(receiver).await?;
        let (parts, body) = response.into_parts();
        let body = GuestBody::new(&parts, body, running, self.limits.response_body_bytes);
        Ok(Response::from_parts(parts, body))
    }
}

/// A guest at work, and what bounds it. Dropping it ends the guest.
pub struct Running {
    driver: Option<Driver>,
    failure: Option<GuestError>,
    meter: Arc<Meter>,
    deadline: Pin<Box<Sleep>>,
    log: GuestLog,
    permit: Option<OwnedSemaphorePermit>,
}

impl Running {
    async fn response(
        &mut self,
        mut receiver: oneshot::Receiver<Responded>,
    ) -> Result<Response<WasiBody>, GuestError> {
        poll_fn(|cx| {
            let ended = self.poll(cx).is_ready();
            match Pin::new(&mut receiver).poll(cx) {
                Poll::Ready(Ok(Ok(response))) => return Poll::Ready(Ok(response)),
                // What ended the guest says more than what it left in the channel.
                Poll::Ready(Ok(Err(error))) if self.failure.is_none() => {
                    return Poll::Ready(Err(answered(&self.meter, &error)));
                }
                Poll::Pending if !ended => return Poll::Pending,
                _ => {}
            }
            Poll::Ready(Err(self.failure.take().unwrap_or(GuestError::NoResponse)))
        })
        .await
    }

    /// Lets the guest work until it waits or ends. Ready when it has ended; [`Self::failure`] says how.
    /// The wall clock goes on after the guest: its body may come from elsewhere.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(driver) = &mut self.driver
            && let Poll::Ready(result) = self.meter.measure(|| driver.as_mut().poll(cx))
        {
            self.end(result.err());
            return Poll::Ready(());
        }
        if self.deadline.as_mut().poll(cx).is_ready() {
            self.meter.exceed(Exceeded::Wall);
        }
        match self.meter.exceeded() {
            Some(limit) => self.end(Some(GuestError::Exceeded(limit))),
            None if self.ended() => {}
            None => return Poll::Pending,
        }
        Poll::Ready(())
    }

    /// Whether the guest has ended.
    pub fn ended(&self) -> bool {
        self.driver.is_none()
    }

    /// Whether the guest has ended, and not failed.
    pub fn ended_well(&self) -> bool {
        self.ended() && self.failure.is_none()
    }

    /// Why the guest ended, if it failed. Told once.
    pub fn failure(&mut self) -> Option<GuestError> {
        self.failure.take()
    }

    /// Ends the guest. Frees the instance and its place now, not when the client has read the last byte.
    pub fn end(&mut self, failure: Option<GuestError>) {
        self.driver = None;
        self.permit = None;
        self.failure = failure;
    }

    /// When the wall time ends.
    pub fn deadline(&self) -> Instant {
        self.meter.deadline()
    }

    /// Logs a failure that no status can tell any more.
    pub fn report(&self, error: &GuestError) {
        let (function, id) = self.log.names();
        let cause = std::error::Error::source(error).map(ToString::to_string);
        warn!(%function, request_id = %id, %error, cause, "a function failed after its response had begun");
    }
}

fn store(engine: &Engine, state: State) -> Store<State> {
    let mut store = Store::new(engine, state);
    store.limiter(|state| &mut state.memory);
    store.set_epoch_deadline(1);
    store.epoch_deadline_callback(|store| match store.data().meter.check() {
        Some(_) => Ok(UpdateDeadline::Interrupt),
        None => Ok(UpdateDeadline::Yield(1)),
    });
    store
}

async fn drive(
    mut store: Store<State>,
    artifact: Arc<Artifact>,
    request: Request<WasiBody>,
    sender: oneshot::Sender<Responded>,
) -> Result<(), GuestError> {
    let meter = store.data().meter.clone();
    let instantiated = artifact.pre.instantiate_async(&mut store).await;
    let proxy = instantiated.map_err(|error| not_started(&meter, error))?;
    let ran = store
        .run_concurrent(async |accessor| {
            let prepared = accessor.with(|mut store| {
                Prepared::new(store.as_context_mut(), &proxy, request, State::http, sender)
            })?;
            // The wall clock is checked outside: a guest that computes would not let this be polled.
            prepared.run(accessor, std::future::pending()).await?;
            // WASI 0.3 guests may go on after they returned.
            poll_fn(|cx| accessor.poll_no_interesting_tasks(cx)).await;
            wasmtime::error::Ok(())
        })
        .await;
    ran.flatten().map_err(|error| blame(&meter, &error))
}

fn not_started(meter: &Meter, error: wasmtime::Error) -> GuestError {
    match meter.blame() {
        Some(limit) => GuestError::Exceeded(limit),
        None if error.is::<PoolConcurrencyLimitError>() => GuestError::PoolFull,
        None => GuestError::Instantiate(kept(&error)),
    }
}

/// Why a guest that ran came to an end.
fn blame(meter: &Meter, error: &wasmtime::Error) -> GuestError {
    match meter.blame() {
        Some(limit) => GuestError::Exceeded(limit),
        None => http_error(error).unwrap_or_else(|| GuestError::Trap(kept(error))),
    }
}

/// What a guest gave instead of a response, while it has not failed.
fn answered(meter: &Meter, error: &wasmtime::Error) -> GuestError {
    match meter.exceeded() {
        Some(limit) => GuestError::Exceeded(limit),
        None => http_error(error).unwrap_or(GuestError::NoResponse),
    }
}

/// A `wasi:http/types.error-code` that the guest chose as its answer.
fn http_error(error: &wasmtime::Error) -> Option<GuestError> {
    let p2 = error.downcast_ref::<p2::bindings::http::types::ErrorCode>().map(|code| format!("{code:?}"));
    let p3 = || error.downcast_ref::<p3::bindings::http::types::ErrorCode>().map(|code| format!("{code:?}"));
    p2.or_else(p3).map(GuestError::Http)
}

/// The error's chain as a value; a `wasmtime::Error` itself is none.
fn kept(error: &wasmtime::Error) -> Arc<dyn std::error::Error + Send + Sync> {
    Arc::from(Box::<dyn std::error::Error + Send + Sync>::from(format!("{error:#}")))
}
