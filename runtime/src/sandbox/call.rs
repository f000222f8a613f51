//! One request in one instance. The guest runs inside the future of whoever waits for it: first the
//! request's, then, while the body streams, the body's. There is no task to hand over to, unless it
//! computes for long: then it goes on in the background.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use af_contract::Limits;
use futures::channel::oneshot;
use http::{Method, Request, Response};
use tokio::task::unconstrained;
use tokio::time::Sleep;
use tokio_util::task::AbortOnDropHandle;
use tracing::warn;
use wasmtime_wasi_http::WasiBody;

use super::idle::{After, CoreNumber};
use super::instance::{Instance, Responder};
use super::{Exceeded, GuestBody, GuestError, Habits, IdleInstances, Meter, Permit, Sandbox, State};
use crate::artifact::Artifact;
use crate::host::Grants;
use crate::host::log::GuestLog;
use crate::metrics::Metrics;
use crate::request_id::RequestId;

type Responded = Result<Response<WasiBody>, wasmtime::Error>;
type Driver = Pin<Box<dyn Future<Output = Result<(), GuestError>> + Send>>;

/// Whose code is called, and within which bounds.
pub struct Callee {
    /// The function's id, for its log.
    pub function: Arc<str>,
    /// Compiled code.
    pub artifact: Arc<Artifact>,
    /// What the call may use.
    pub limits: Limits,
    /// Instances of this deployment that may be used again.
    pub idle: Arc<IdleInstances>,
    /// What this deployment's calls are like.
    pub habits: Arc<Habits>,
    /// What this deployment may reach besides itself.
    pub grants: Arc<Grants>,
}

/// A call that has not begun.
pub struct Call {
    work: Work,
}

struct Work {
    sandbox: Sandbox,
    callee: Callee,
    meter: Arc<Meter>,
    permit: Permit,
}

impl Call {
    /// Starts the wall clock.
    #[must_use]
    pub fn new(sandbox: &Sandbox, callee: Callee, permit: Permit) -> Self {
        let meter = Arc::new(Meter::new(&callee.limits));
        Self { work: Work { sandbox: sandbox.clone(), callee, meter, permit } }
    }

    /// Counts this call's use.
    #[must_use]
    pub fn meter(&self) -> Arc<Meter> {
        self.work.meter.clone()
    }

    /// Runs the guest until its response begins, and as far as it goes without waiting. The rest of it
    /// runs while the body is read.
    ///
    /// # Errors
    /// When the guest fails or breaks a limit before any of its response is needed.
    pub async fn run(
        self,
        id: RequestId,
        request: Request<WasiBody>,
    ) -> Result<Response<GuestBody>, GuestError> {
        let callee = &self.work.callee;
        let log = GuestLog::new(&callee.function, id, callee.limits.log_bytes, self.work.sandbox.metrics());
        let limit = callee.limits.response_body_bytes;
        let bodiless = request.method() == Method::HEAD;
        let habits = callee.habits.clone();
        let (responder, receiver) = oneshot::channel();
        let counted = Counted::begin(self.work.sandbox.metrics(), &self.work.meter);
        let mut running = Running {
            sandbox: self.work.sandbox.clone(),
            meter: self.work.meter.clone(),
            log: log.clone(),
            // The epoch makes a guest yield; tokio's budget would do it after so many host calls.
            guest: Guest::Here(Box::pin(unconstrained(drive(self.work, log, request, responder)))),
            failure: None,
            deadline: None,
            habits,
            counted: Some(counted),
        };
        if running.habits.are_long() {
            running.send_away();
        }
        let response = running.response(receiver).await?;
        let (parts, body) = response.into_parts();
        let mut body = GuestBody::new(&parts, body, running, limit);
        unconstrained(body.read_ahead()).await?;
        if !bodiless {
            body.check_length()?;
        }
        Ok(Response::from_parts(parts, body))
    }
}

/// All that an instance does for one request.
async fn drive(
    work: Work,
    log: GuestLog,
    request: Request<WasiBody>,
    responder: Responder,
) -> Result<(), GuestError> {
    let Work { sandbox, callee, meter, permit } = work;
    let core = CoreNumber::here();
    let mut instance = match callee.idle.take(core) {
        Some(mut instance) => {
            instance.renew(&callee.limits, meter, &log);
            instance
        }
        None => Instance::start(&callee.artifact, State::new(&callee, meter, log)).await?,
    };
    instance.serve(request, responder).await?;
    if let After::Spent(instance) = callee.idle.put(core, instance) {
        // When the response is on its way.
        tokio::spawn(replace(sandbox, callee, instance, core));
    }
    drop(permit);
    Ok(())
}

/// Makes a fresh instance ahead of the next request, out of the memory of the one that is spent.
async fn replace(sandbox: Sandbox, callee: Callee, spent: Instance, core: CoreNumber) {
    drop(spent);
    let meter = Arc::new(Meter::new(&callee.limits));
    let log = GuestLog::new(&callee.function, RequestId::next(), callee.limits.log_bytes, sandbox.metrics());
    let state = State::new(&callee, meter.clone(), log);
    let mut start = pin!(Instance::start(&callee.artifact, state));
    let started = poll_fn(|cx| meter.measure(|| sandbox.ticker().during(|| start.as_mut().poll(cx))));
    // If it fails, so will the next request's own, which says so.
    if let Ok(instance) = started.await {
        callee.idle.keep(core, instance);
    }
}

/// Where a guest is.
enum Guest {
    /// Polled by whoever waits for it.
    Here(Driver),
    /// In the background.
    Away(AbortOnDropHandle<Result<(), GuestError>>),
    Ended,
}

/// A guest at work, and what bounds it. Dropping it ends the guest.
pub struct Running {
    sandbox: Sandbox,
    meter: Arc<Meter>,
    log: GuestLog,
    guest: Guest,
    failure: Option<GuestError>,
    /// Set when the guest waits for the first time; most never do.
    deadline: Option<Pin<Box<Sleep>>>,
    habits: Arc<Habits>,
    counted: Option<Counted>,
}

/// An instance that is counted as running until this is dropped, and then with its CPU time.
struct Counted {
    metrics: Arc<Metrics>,
    meter: Arc<Meter>,
}

impl Counted {
    fn begin(metrics: &Arc<Metrics>, meter: &Arc<Meter>) -> Self {
        metrics.started();
        Self { metrics: metrics.clone(), meter: meter.clone() }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.metrics.ended(self.meter.cpu_time());
    }
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
                    return Poll::Ready(Err(GuestError::answered(&self.meter, &error)));
                }
                // Without a response, the guest's end says why.
                _ if !ended => return Poll::Pending,
                _ => {}
            }
            Poll::Ready(Err(self.failure.take().unwrap_or(GuestError::NoResponse)))
        })
        .await
    }

    /// Lets the guest work until it waits or ends. Ready when it has ended; [`Self::failure`] says how.
    /// The wall clock goes on after the guest: its body may come from elsewhere.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Poll::Ready(result) = self.poll_guest(cx) {
            self.end(result.err());
            return Poll::Ready(());
        }
        if self.poll_deadline(cx).is_ready() {
            self.meter.exceed(Exceeded::Wall);
        }
        match self.meter.exceeded() {
            Some(limit) => self.end(Some(GuestError::Exceeded(limit))),
            None if self.ended() => {}
            None => return Poll::Pending,
        }
        Poll::Ready(())
    }

    fn poll_guest(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), GuestError>> {
        match &mut self.guest {
            Guest::Here(driver) => {
                let sandbox = &self.sandbox;
                let polled = self.meter.measure(|| sandbox.ticker().during(|| driver.as_mut().poll(cx)));
                if polled.is_pending() && self.meter.is_long() {
                    self.send_away();
                    return self.poll_guest(cx);
                }
                polled
            }
            Guest::Away(handle) => {
                let joined = ready!(Pin::new(handle).poll(cx));
                Poll::Ready(joined.unwrap_or_else(|panicked| Err(GuestError::Trap(Arc::new(panicked)))))
            }
            Guest::Ended => Poll::Pending,
        }
    }

    fn send_away(&mut self) {
        if let Guest::Here(mut driver) = std::mem::replace(&mut self.guest, Guest::Ended) {
            let (sandbox, meter) = (self.sandbox.clone(), self.meter.clone());
            let guest =
                poll_fn(move |cx| meter.measure(|| sandbox.ticker().during(|| driver.as_mut().poll(cx))));
            self.guest = Guest::Away(AbortOnDropHandle::new(self.sandbox.background().spawn(guest)));
        }
    }

    fn poll_deadline(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let until = self.meter.deadline();
        let deadline = self.deadline.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(until.into())));
        deadline.as_mut().poll(cx)
    }

    /// Whether the guest has ended.
    pub fn ended(&self) -> bool {
        matches!(self.guest, Guest::Ended)
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
        if !self.ended() {
            self.habits.note(self.meter.is_long());
            self.counted = None;
        }
        if let Some(GuestError::Exceeded(limit)) = &failure {
            self.log.limit(limit.code(), &limit.to_string());
        }
        self.guest = Guest::Ended;
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
