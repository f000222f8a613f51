//! A guest at work for one request: where it runs, what bounds it, and how it ends.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use futures::channel::oneshot;
use http::Response;
use tokio::time::Sleep;
use tokio_util::task::AbortOnDropHandle;
use tracing::warn;
use wasmtime_wasi_http::WasiBody;

use super::common::Common;
use super::shared::{Leaving, Shared};
use super::{Exceeded, GuestError, Habits, IdleInstances, Meter, Permit, Sandbox};
use crate::core_number::CoreNumber;
use crate::host::log::GuestLog;
use crate::metrics::Metrics;
use crate::usage::Counters;

/// What an instance says when it answers.
pub type Responded = Result<Response<WasiBody>, wasmtime::Error>;

/// All that an instance does, for one request or for several.
pub type Driver = Pin<Box<dyn Future<Output = Result<(), GuestError>> + Send>>;

/// Where a guest is.
pub enum Guest {
    /// Polled by whoever waits for it.
    Here(Driver),
    /// In the background.
    Away(AbortOnDropHandle<Result<(), GuestError>>),
    /// In an instance that works for others, too. The right to one is this request's own, except for the first.
    Shared { shared: Arc<Shared>, _permit: Option<Permit> },
    /// Its work is done or given up.
    Ended,
}

/// What it takes to let others join an instance.
pub struct Sharing {
    pub shared: Arc<Shared>,
    pub idle: Arc<IdleInstances>,
}

/// A guest at work, and what bounds it. Dropping it ends the guest.
pub struct Running {
    sandbox: Sandbox,
    /// Of this request.
    meter: Arc<Meter>,
    /// Of the instance; the same where it works for this request only.
    instance: Arc<Meter>,
    log: GuestLog,
    guest: Guest,
    failure: Option<GuestError>,
    /// Set when the guest waits for the first time; most never do.
    deadline: Option<Pin<Box<Sleep>>>,
    habits: Arc<Habits>,
    /// Whether others may join once the guest waits.
    pub(super) sharing: Option<Sharing>,
    counted: Option<Counted>,
}

/// A request that is counted as running until this is dropped, and then with its wall and CPU time.
pub struct Counted {
    metrics: Arc<Metrics>,
    usage: Arc<Counters>,
    /// Since when it runs; none where its request is counted elsewhere.
    began: Option<Instant>,
    /// None where the instance's CPU time is counted elsewhere.
    meter: Option<Arc<Meter>>,
}

impl Counted {
    pub fn begin(
        metrics: &Arc<Metrics>,
        usage: &Arc<Counters>,
        began: Instant,
        meter: Option<&Arc<Meter>>,
    ) -> Self {
        metrics.started();
        Self { metrics: metrics.clone(), usage: usage.clone(), began: Some(began), meter: meter.cloned() }
    }

    /// The instance goes on by itself, and is counted besides its request.
    fn split(&mut self) -> Self {
        self.metrics.started();
        Self {
            metrics: self.metrics.clone(),
            usage: self.usage.clone(),
            began: None,
            meter: self.meter.take(),
        }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let cpu = self.meter.as_ref().map_or_else(Default::default, |meter| meter.cpu_time());
        self.metrics.ended(cpu);
        self.usage.computed(cpu);
        if let Some(began) = self.began {
            self.usage.worked(began.elapsed());
        }
    }
}

impl Running {
    pub(super) fn new(
        sandbox: Sandbox,
        meter: Arc<Meter>,
        instance: Arc<Meter>,
        log: GuestLog,
        guest: Guest,
        habits: Arc<Habits>,
        counted: Counted,
    ) -> Self {
        let (failure, deadline, sharing) = (None, None, None);
        let counted = Some(counted);
        Self { sandbox, meter, instance, log, guest, failure, deadline, habits, sharing, counted }
    }

    /// The response, when the guest has begun it.
    ///
    /// # Errors
    /// When it ends without one.
    pub(super) async fn response(
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
                _ if !ended => {
                    self.share();
                    return Poll::Pending;
                }
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
            // A limit of this request says more than what it did to the instance.
            let failure = result.err().map(|error| self.meter.exceeded().map_or(error, GuestError::Exceeded));
            self.end(failure);
            return Poll::Ready(());
        }
        if self.poll_deadline(cx).is_ready() {
            self.meter.exceed(Exceeded::Wall);
        }
        match self.meter.exceeded().or_else(|| self.instance.exceeded()) {
            Some(limit) => self.end(Some(GuestError::Exceeded(limit))),
            None if self.ended() => {}
            None => return Poll::Pending,
        }
        Poll::Ready(())
    }

    /// Begins where a call of this deployment belongs.
    pub(super) fn begin(&mut self) {
        if self.habits.belong_away(self.meter.began()) {
            self.send_away();
        }
    }

    fn poll_guest(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), GuestError>> {
        match &mut self.guest {
            Guest::Here(driver) => {
                let polled = drive(&self.sandbox, &self.instance, driver, cx);
                if polled.is_pending() && self.instance.is_long() {
                    self.send_away();
                    return self.poll_guest(cx);
                }
                polled
            }
            Guest::Away(handle) => {
                let joined = ready!(Pin::new(handle).poll(cx));
                Poll::Ready(joined.unwrap_or_else(|panicked| Err(GuestError::Trap(Arc::new(panicked)))))
            }
            // Whoever waits for it waits for what it sends, and is woken by that.
            Guest::Shared { shared, .. } => shared.ended().map_or(Poll::Pending, Poll::Ready),
            Guest::Ended => Poll::Pending,
        }
    }

    /// Goes on in the background.
    fn send_away(&mut self) {
        if let Guest::Here(driver) = std::mem::replace(&mut self.guest, Guest::Ended) {
            let away = drive_away(self.sandbox.clone(), self.instance.clone(), driver);
            self.guest = Guest::Away(AbortOnDropHandle::new(self.sandbox.background().spawn(away)));
        }
    }

    /// The guest waits for something: others may join it, so that a hundred requests that wait are not a hundred
    /// instances. From here on a task drives it, since it must go on when this request is over.
    pub(super) fn share(&mut self) {
        if !matches!(self.guest, Guest::Here(_)) {
            return;
        }
        let Some(Sharing { shared, idle }) = self.sharing.take() else { return };
        if let Guest::Here(driver) = std::mem::replace(&mut self.guest, Guest::Ended) {
            idle.open(CoreNumber::here(), &shared);
            let counted = self.counted.as_mut().map(Counted::split);
            let common = Common::new(&self.sandbox, &self.instance, &shared, driver, counted);
            self.sandbox.tasks().spawn(common.drive());
            self.guest = Guest::Shared { shared, _permit: None };
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

    /// The response is complete. What the guest does after it is no longer this request's where others
    /// share the instance.
    pub fn complete(&mut self) {
        if matches!(self.guest, Guest::Shared { .. }) {
            self.leave(Leaving::Done);
            self.end(None);
        }
    }

    /// Ends the guest. Frees the instance and its place now, not when the client has read the last byte.
    pub fn end(&mut self, failure: Option<GuestError>) {
        if !self.ended() {
            let failed = failure.as_ref().is_some_and(GuestError::is_its_own);
            self.habits.note(self.instance.cpu_time(), self.instance.is_long(), failed);
            self.counted = None;
        }
        if let Some(GuestError::Exceeded(limit)) = &failure {
            self.log.limit(limit.code(), &limit.to_string());
        }
        self.leave(Leaving::Early);
        self.failure = failure;
    }

    fn leave(&mut self, how: Leaving) {
        if let Guest::Shared { shared, .. } = std::mem::replace(&mut self.guest, Guest::Ended) {
            shared.leave(how);
        }
    }

    /// When the wall time ends.
    pub fn deadline(&self) -> Instant {
        self.meter.deadline()
    }

    /// Logs a failure that no status can tell any more.
    pub fn report(&self, error: &GuestError) {
        let (logger, id) = self.log.names();
        let cause = std::error::Error::source(error).map(ToString::to_string);
        warn!(function = logger.function(), request_id = %id, %error, cause, "a function failed after its response had begun");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.leave(Leaving::Early);
    }
}

/// One poll, measured and interrupted.
pub(super) fn drive(
    sandbox: &Sandbox,
    meter: &Meter,
    driver: &mut Driver,
    cx: &mut Context<'_>,
) -> Poll<Result<(), GuestError>> {
    meter.measure(|| sandbox.ticker().during(|| driver.as_mut().poll(cx)))
}

async fn drive_away(sandbox: Sandbox, meter: Arc<Meter>, mut driver: Driver) -> Result<(), GuestError> {
    poll_fn(|cx| drive(&sandbox, &meter, &mut driver, cx)).await
}
