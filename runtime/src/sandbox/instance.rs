//! One instance: a component in a store of its own, that answers one request, or some, one by one.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Poll, ready};

use af_contract::Limits;
use futures::channel::oneshot;
use futures::future::FusedFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use http::{Request, Response};
use wasmtime::component::TypedFunc;
use wasmtime::{AsContextMut, PoolConcurrencyLimitError, Store, UpdateDeadline};
use wasmtime_wasi_http::handler::{Prepared, Proxy};
use wasmtime_wasi_http::p2::bindings::http::types::Scheme;
use wasmtime_wasi_http::{WasiBody, WasiHttpView};

use super::linear::{Image, Loan};
use super::meter::Verdict;
use super::shared::Shared;
use super::{GuestError, Meter, Sandbox, State};
use crate::artifact::Artifact;
use crate::host::log::GuestLog;

/// Where a guest's response goes: the response, or the error that it is.
pub type Responder = oneshot::Sender<Result<Response<WasiBody>, wasmtime::Error>>;

/// Bytes and list elements that one call of a host function may copy. The largest that is needed is a
/// body chunk or a set of headers; all of it takes a few milliseconds.
const HOSTCALL_FUEL: usize = 16 << 20;

/// A component that was instantiated for one deployment.
pub struct Instance {
    store: Store<State>,
    proxy: Proxy,
    served: u32,
    /// Functions that set its globals back.
    rewind: Vec<TypedFunc<(), ()>>,
    /// Given back once the store is gone.
    memory: Option<Loan>,
}

impl Instance {
    /// A fresh one.
    ///
    /// # Errors
    /// When its start function fails or breaks a limit, or the pool has no place for it.
    pub async fn start(sandbox: &Sandbox, artifact: &Artifact, state: State) -> Result<Self, GuestError> {
        let meter = state.meter.clone();
        let mut store = Store::new(&artifact.program.engine, state);
        store.limiter(|state| &mut state.memory);
        store.set_hostcall_fuel(HOSTCALL_FUEL);
        store.set_epoch_deadline(1);
        store.epoch_deadline_callback(|store| match store.data().meter.check() {
            Verdict::GoOn => Ok(UpdateDeadline::Continue(1)),
            Verdict::Yield => Ok(UpdateDeadline::Yield(1)),
            Verdict::Stop => Ok(UpdateDeadline::Interrupt),
        });
        let memory = artifact.image.as_ref().map(Image::lend).transpose();
        let memory = memory.map_err(|error| GuestError::Instantiate(Arc::new(error)))?;
        let made = artifact.program.instantiate(&mut store).await;
        let (proxy, rewind) = made.map_err(|error| not_started(&meter, error))?;
        meter.start();
        sandbox.metrics().made();
        store.data_mut().memory.settle();
        Ok(Self { store, proxy, served: 0, rewind, memory })
    }

    /// Whether it can be set back to how it was when it was new: nothing that it has done is beyond its memory,
    /// its globals and the host's state.
    pub fn can_rewind(&self) -> bool {
        self.memory.is_some() && !self.rewind.is_empty() && self.store.data().is_clear()
    }

    /// Sets it back, so that its next request finds what the first one of a new instance would. Whether that
    /// could be done; it cannot be used otherwise.
    pub async fn rewind(&mut self, sandbox: &Sandbox) -> bool {
        let Some(memory) = self.memory.as_ref().filter(|_| self.can_rewind()) else { return false };
        // SAFETY: only `self` could let the guest run, and the functions below ask for the memory's size first.
        if unsafe { memory.reset() }.is_err() {
            return false;
        }
        for function in &self.rewind {
            if function.call_async(&mut self.store, ()).await.is_err() {
                return false;
            }
        }
        self.store.data_mut().memory.rewind();
        self.served = 0;
        sandbox.metrics().rewound();
        true
    }

    /// Prepares it for its next request.
    pub fn renew(&mut self, limits: &Limits, meter: Arc<Meter>, log: &GuestLog) {
        meter.start();
        self.store.data_mut().renew(limits, meter, log);
        self.store.set_epoch_deadline(1);
    }

    /// Ends it, and gives back what another instance could have used again.
    pub fn discard(mut self) {
        self.memory.iter_mut().for_each(Loan::forget);
    }

    /// Requests that it has answered.
    pub fn served(&self) -> u32 {
        self.served
    }

    /// Answers one request, and those that join it. Ends when the guest has nothing left to do for them.
    ///
    /// # Errors
    /// When the guest fails or breaks a limit; it cannot be used again then.
    pub async fn serve(
        &mut self,
        request: Request<WasiBody>,
        responder: Responder,
        shared: Option<&Shared>,
    ) -> Result<(), GuestError> {
        let meter = self.store.data().meter.clone();
        self.served = self.served.saturating_add(1);
        let ran = match &self.proxy {
            Proxy::P2(_) => self.serve_p2(request, responder).await,
            Proxy::P3(_) => self.serve_p3(request, responder, shared).await,
        };
        self.store.data().finish();
        ran.map_err(|error| GuestError::blame(&meter, &error))
    }

    /// A call that has the store to itself costs half of a concurrent one.
    async fn serve_p2(&mut self, request: Request<WasiBody>, responder: Responder) -> wasmtime::Result<()> {
        let Proxy::P2(guest) = &self.proxy else { return Ok(()) };
        let mut http = self.store.data_mut().http();
        let request = http.new_incoming_request(Scheme::Http, request)?;
        let out = http.new_response_outparam_from_callback(move |response| {
            // Nobody waits for it any more when the client has gone.
            let _gone = responder.send(response.map_err(wasmtime::Error::from));
        })?;
        guest.wasi_http_incoming_handler().call_handle(&mut self.store, request, out).await
    }

    async fn serve_p3(
        &mut self,
        request: Request<WasiBody>,
        responder: Responder,
        shared: Option<&Shared>,
    ) -> wasmtime::Result<()> {
        let (proxy, served) = (&self.proxy, &mut self.served);
        let ran = self.store.run_concurrent(async |accessor| {
            let begin = |request, responder| {
                let prepared = accessor.with(|mut store| {
                    Prepared::new(store.as_context_mut(), proxy, request, State::http, responder)
                })?;
                // The wall clock is checked outside: a guest that computes would not let this be polled.
                wasmtime::error::Ok(prepared.run(accessor, std::future::pending()))
            };
            let mut first = pin!(begin(request, responder)?.fuse());
            let mut joined = FuturesUnordered::new();
            let mut settled = false;
            poll_fn(|cx| {
                while let Some(job) = shared.and_then(Shared::take) {
                    *served = served.saturating_add(1);
                    settled = false;
                    accessor.with(|mut store| store.get().admit(&job.limits, &job.log));
                    match begin(job.request, job.responder) {
                        Ok(call) => joined.push(call),
                        Err(error) => return Poll::Ready(Err(error)),
                    }
                }
                while let Poll::Ready(Some(ran)) = joined.poll_next_unpin(cx) {
                    if let Err(error) = ran {
                        return Poll::Ready(Err(error));
                    }
                }
                if !first.is_terminated()
                    && let Poll::Ready(Err(error)) = first.as_mut().poll(cx)
                {
                    return Poll::Ready(Err(error));
                }
                if !first.is_terminated() || !joined.is_empty() {
                    return Poll::Pending;
                }
                // The guest may go on after it returned.
                ready!(accessor.poll_no_interesting_tasks(cx));
                // And the host after it, with a file that it gave away as its response's body.
                if let Some(piped) = accessor.with(|mut store| store.get().piped()) {
                    // They count from their first turn on.
                    if !std::mem::replace(&mut settled, true) {
                        cx.waker().wake_by_ref();
                        return Poll::Pending;
                    }
                    ready!(piped.poll_none(cx));
                }
                if shared.is_none_or(Shared::close) { Poll::Ready(Ok(())) } else { Poll::Pending }
            })
            .await
        });
        ran.await.flatten()
    }
}

fn not_started(meter: &Meter, error: wasmtime::Error) -> GuestError {
    match meter.blame() {
        Some(limit) => GuestError::Exceeded(limit),
        None if error.is::<PoolConcurrencyLimitError>() => GuestError::PoolFull,
        None => GuestError::Instantiate(super::error::kept(&error)),
    }
}
