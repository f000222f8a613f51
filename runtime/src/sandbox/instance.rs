//! One instance: a component in a store of its own, that answers one request, or some, one by one.

use std::future::poll_fn;
use std::sync::Arc;

use af_contract::Limits;
use futures::channel::oneshot;
use http::{Request, Response};
use wasmtime::{AsContextMut, PoolConcurrencyLimitError, Store, UpdateDeadline};
use wasmtime_wasi_http::handler::{Prepared, Proxy};
use wasmtime_wasi_http::p2::bindings::http::types::Scheme;
use wasmtime_wasi_http::{WasiBody, WasiHttpView};

use super::linear::{Image, Loan};
use super::meter::Verdict;
use super::{GuestError, Meter, State};
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
    /// Given back once the store is gone.
    _memory: Option<Loan>,
}

impl Instance {
    /// A fresh one.
    ///
    /// # Errors
    /// When its start function fails or breaks a limit, or the pool has no place for it.
    pub async fn start(artifact: &Artifact, state: State) -> Result<Self, GuestError> {
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
        let proxy = artifact.program.pre.instantiate_async(&mut store).await;
        let proxy = proxy.map_err(|error| not_started(&meter, error))?;
        meter.start();
        Ok(Self { store, proxy, served: 0, _memory: memory })
    }

    /// Prepares it for its next request.
    pub fn renew(&mut self, limits: &Limits, meter: Arc<Meter>, log: &GuestLog) {
        meter.start();
        self.store.data_mut().renew(limits, meter, log);
        self.store.set_epoch_deadline(1);
    }

    /// Requests that it has answered.
    pub fn served(&self) -> u32 {
        self.served
    }

    /// Answers one request. Ends when the guest has nothing left to do for it.
    ///
    /// # Errors
    /// When the guest fails or breaks a limit; it cannot be used again then.
    pub async fn serve(
        &mut self,
        request: Request<WasiBody>,
        responder: Responder,
    ) -> Result<(), GuestError> {
        let meter = self.store.data().meter.clone();
        self.served = self.served.saturating_add(1);
        let ran = match &self.proxy {
            Proxy::P2(_) => self.serve_p2(request, responder).await,
            Proxy::P3(_) => self.serve_p3(request, responder).await,
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

    async fn serve_p3(&mut self, request: Request<WasiBody>, responder: Responder) -> wasmtime::Result<()> {
        let proxy = &self.proxy;
        let ran = self.store.run_concurrent(async |accessor| {
            let prepared = accessor.with(|mut store| {
                Prepared::new(store.as_context_mut(), proxy, request, State::http, responder)
            })?;
            // The wall clock is checked outside: a guest that computes would not let this be polled.
            prepared.run(accessor, std::future::pending()).await?;
            // It may go on after it returned.
            poll_fn(|cx| accessor.poll_no_interesting_tasks(cx)).await;
            // And the host after it, with a file that it gave away as its response's body.
            if let Some(piped) = accessor.with(|mut store| store.get().piped()) {
                // They count from their first turn on.
                tokio::task::yield_now().await;
                poll_fn(|cx| piped.poll_none(cx)).await;
            }
            wasmtime::error::Ok(())
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
