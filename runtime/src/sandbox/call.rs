//! One request in one fresh instance. The guest runs inside the future of whoever waits for it: first
//! the request's, then, while the body streams, the body's. There is no task to hand over to.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

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
            meter: self.meter,
            deadline: Box::pin(deadline),
            log,
            _permit: self.permit,
        };
        let response = running.response(receiver).await?;
        Ok(response.map(|body| GuestBody::new(body, running, self.limits.response_body_bytes)))
    }
}

/// A guest at work, and what bounds it. Dropping it ends the guest.
pub struct Running {
    driver: Option<Driver>,
    meter: Arc<Meter>,
    deadline: Pin<Box<Sleep>>,
    log: GuestLog,
    _permit: OwnedSemaphorePermit,
}

impl Running {
    async fn response(
        &mut self,
        mut receiver: oneshot::Receiver<Responded>,
    ) -> Result<Response<WasiBody>, GuestError> {
        poll_fn(|cx| {
            let driven = self.poll(cx);
            match Pin::new(&mut receiver).poll(cx) {
                Poll::Ready(Ok(Ok(response))) => return Poll::Ready(Ok(response)),
                Poll::Ready(Ok(Err(error))) => return Poll::Ready(Err(blame(&self.meter, &error))),
                Poll::Ready(Err(_dropped)) if driven.is_pending() => {
                    return Poll::Ready(Err(GuestError::NoResponse));
                }
                Poll::Ready(Err(_)) | Poll::Pending => {}
            }
            driven.map(|result| Err(result.err().unwrap_or(GuestError::NoResponse)))
        })
        .await
    }

    /// Lets the guest work until it waits or ends. Ready at once when it has ended before.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), GuestError>> {
        let Some(driver) = &mut self.driver else { return Poll::Ready(Ok(())) };
        let polled = self.meter.measure(|| driver.as_mut().poll(cx));
        if polled.is_ready() {
            // Frees the instance now, not when the client has read the last byte.
            self.driver = None;
            return polled;
        }
        if self.deadline.as_mut().poll(cx).is_ready() {
            self.meter.exceed(Exceeded::Wall);
        }
        match self.meter.exceeded() {
            Some(limit) => {
                self.driver = None;
                Poll::Ready(Err(GuestError::Exceeded(limit)))
            }
            None => Poll::Pending,
        }
    }

    /// Whether the guest has ended.
    pub fn ended(&self) -> bool {
        self.driver.is_none()
    }

    /// Ends the guest because its response is too large.
    pub fn cut(&mut self) -> GuestError {
        self.meter.exceed(Exceeded::ResponseBody);
        self.driver = None;
        GuestError::Exceeded(Exceeded::ResponseBody)
    }

    /// Runs to the end what the guest does after its response.
    pub async fn finish(mut self) {
        if let Err(error) = poll_fn(|cx| self.poll(cx)).await {
            self.report(&error);
        }
    }

    /// Logs a failure that no response can tell any more.
    pub fn report(&self, error: &GuestError) {
        let (function, id) = self.log.names();
        warn!(%function, request_id = %id, %error, "a function failed after its response had begun");
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

fn blame(meter: &Meter, error: &wasmtime::Error) -> GuestError {
    if let Some(limit) = meter.blame() {
        return GuestError::Exceeded(limit);
    }
    if let Some(code) = error.downcast_ref::<p2::bindings::http::types::ErrorCode>() {
        return GuestError::Http(format!("{code:?}"));
    }
    if let Some(code) = error.downcast_ref::<p3::bindings::http::types::ErrorCode>() {
        return GuestError::Http(format!("{code:?}"));
    }
    GuestError::Trap(kept(error))
}

/// The error's chain as a value; a `wasmtime::Error` itself is none.
fn kept(error: &wasmtime::Error) -> Arc<dyn std::error::Error + Send + Sync> {
    Arc::from(Box::<dyn std::error::Error + Send + Sync>::from(format!("{error:#}")))
}
