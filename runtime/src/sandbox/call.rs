//! One request in one instance. The guest runs inside the future of whoever waits for it: first the
//! request's, then, while the body streams, the body's. There is no task to hand over to, unless it
//! computes for long, when it goes on in the background, or waits for something, when others may join it.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;

use af_contract::Limits;
use futures::channel::oneshot;
use http::{Method, Request, Response};
use tokio::task::unconstrained;
use wasmtime_wasi_http::WasiBody;

use super::idle::After;
use super::instance::{Instance, Responder};
use super::running::{Counted, Guest, Running, Sharing};
use super::shared::{Job, Shared};
use super::{GuestBody, GuestError, Habits, IdleInstances, Meter, Permit, Sandbox, State};
use crate::artifact::Artifact;
use crate::core_number::CoreNumber;
use crate::host::Grants;
use crate::host::log::GuestLog;
use crate::logs::Logger;
use crate::request_id::RequestId;
use crate::usage::Counters;

/// Whose code is called, and within which bounds.
pub struct Callee {
    /// Whose lines it logs.
    pub logger: Arc<Logger>,
    /// Where what it uses is counted.
    pub usage: Arc<Counters>,
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
    sandbox: Sandbox,
    callee: Callee,
    meter: Arc<Meter>,
    permit: Permit,
}

/// What an instance works on first.
struct Work {
    sandbox: Sandbox,
    callee: Callee,
    /// Of the instance.
    meter: Arc<Meter>,
    permit: Permit,
    shared: Option<Arc<Shared>>,
    log: GuestLog,
    request: Request<WasiBody>,
    responder: Responder,
}

impl Call {
    /// Starts the wall clock.
    #[must_use]
    pub fn new(sandbox: &Sandbox, callee: Callee, permit: Permit) -> Self {
        let meter = Arc::new(Meter::new(&callee.limits));
        Self { sandbox: sandbox.clone(), callee, meter, permit }
    }

    /// Counts this call's use.
    #[must_use]
    pub fn meter(&self) -> Arc<Meter> {
        self.meter.clone()
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
        let (callee, metrics) = (&self.callee, self.sandbox.metrics());
        let log = GuestLog::new(&callee.logger, id, callee.limits.log_bytes, metrics);
        let limit = callee.limits.response_body_bytes;
        let bodiless = request.method() == Method::HEAD;
        let (responder, receiver) = oneshot::channel();
        let mut running = match callee.idle.join(CoreNumber::here(), &callee.habits) {
            Some(shared) => self.join(shared, log, request, responder),
            None => self.begin(log, request, responder),
        };
        let response = running.response(receiver).await?;
        let (parts, body) = response.into_parts();
        let mut body = GuestBody::new(&parts, body, running, limit);
        unconstrained(body.read_ahead()).await?;
        if !bodiless {
            body.check_length()?;
        }
        Ok(Response::from_parts(parts, body))
    }

    /// In an instance of its own, as long as nobody joins.
    fn begin(self, log: GuestLog, request: Request<WasiBody>, responder: Responder) -> Running {
        let Self { sandbox, callee, meter, permit } = self;
        let (idle, habits) = (callee.idle.clone(), callee.habits.clone());
        let shared = idle.may_be_shared(&habits);
        let instance = if shared.is_some() { Arc::new(Meter::new(&callee.limits)) } else { meter.clone() };
        let counted = Counted::begin(sandbox.metrics(), &callee.usage, meter.began(), Some(&instance));
        let sharing = shared.clone().map(|shared| Sharing { shared, idle });
        let work = Work {
            sandbox: sandbox.clone(),
            callee,
            meter: instance.clone(),
            permit,
            shared,
            log: log.clone(),
            request,
            responder,
        };
        // The epoch makes a guest yield; tokio's budget would do it after so many host calls.
        let guest = Guest::Here(Box::pin(unconstrained(work.drive())));
        let mut running = Running::new(sandbox, meter, instance, log, guest, habits, counted);
        running.sharing = sharing;
        running.begin();
        running
    }

    /// In an instance that works for others, where a place was taken.
    fn join(
        self,
        shared: Arc<Shared>,
        log: GuestLog,
        request: Request<WasiBody>,
        responder: Responder,
    ) -> Running {
        let Self { sandbox, callee, meter, permit } = self;
        let counted = Counted::begin(sandbox.metrics(), &callee.usage, meter.began(), None);
        shared.give(Job { request, responder, limits: callee.limits, log: log.clone() });
        let guest = Guest::Shared { shared, _permit: Some(permit) };
        Running::new(sandbox, meter.clone(), meter, log, guest, callee.habits, counted)
    }
}

impl Work {
    /// All that an instance does, for this request and for those that join it.
    async fn drive(self) -> Result<(), GuestError> {
        let Self { sandbox, callee, meter, permit, shared, log, request, responder } = self;
        let core = CoreNumber::here();
        let mut waiting = callee.idle.take(core);
        if let Some(instance) = &mut waiting {
            instance.renew(&callee.limits, meter.clone(), &log);
            if callee.idle.is_spent(instance) && !instance.rewind(&sandbox).await {
                waiting = None;
            }
        }
        let mut instance = match waiting {
            Some(instance) => instance,
            None => Instance::start(&sandbox, &callee.artifact, State::new(&callee, meter, log)).await?,
        };
        let served = instance.serve(request, responder, shared.as_deref()).await;
        if let (Err(error), Some(shared)) = (&served, &shared) {
            // Before the instance is gone, and the bodies that it was writing end as if they were complete.
            shared.end(Some(error.clone()));
        }
        served?;
        // When the response is on its way.
        match callee.idle.put(core, instance) {
            After::Spent(instance) => drop(tokio::spawn(replace(sandbox, callee, instance, core))),
            After::ToBeRewound => drop(tokio::spawn(rewind(sandbox, callee.idle, core))),
            After::Kept => {}
        }
        drop(permit);
        Ok(())
    }
}

/// Sets instances back ahead of the next request, unless that comes first and does it itself.
async fn rewind(sandbox: Sandbox, idle: Arc<IdleInstances>, core: CoreNumber) {
    while let Some(mut instance) = idle.take_spent(core) {
        if instance.rewind(&sandbox).await {
            idle.keep(core, instance);
        }
    }
}

/// Makes a fresh instance ahead of the next request, out of the memory of the one that is spent.
async fn replace(sandbox: Sandbox, callee: Callee, spent: Instance, core: CoreNumber) {
    drop(spent);
    let meter = Arc::new(Meter::new(&callee.limits));
    let log = GuestLog::new(&callee.logger, RequestId::next(), callee.limits.log_bytes, sandbox.metrics());
    let state = State::new(&callee, meter.clone(), log);
    let mut start = pin!(Instance::start(&sandbox, &callee.artifact, state));
    let started = poll_fn(|cx| meter.measure(|| sandbox.ticker().during(|| start.as_mut().poll(cx))));
    // If it fails, so will the next request's own, which says so.
    if let Ok(instance) = started.await {
        callee.idle.keep(core, instance);
    }
}
