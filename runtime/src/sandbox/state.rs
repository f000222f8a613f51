//! The `T` of `Store<T>`: all that the host keeps for one instance.

use std::sync::Arc;

use af_contract::Limits;
use wasmtime::component::ResourceTable;
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

use super::memory::MemoryLimit;
use super::{Callee, Meter};
use crate::host::Outbound;
use crate::host::log::GuestLog;

/// Resource handles that a guest may hold at the same time.
const HANDLES: usize = 10_000;

/// Random bytes that a guest gets in one call: half a millisecond's work.
const RANDOM_BYTES: u64 = 1 << 20;

/// One instance's host state. Nothing in it is shared with another instance.
pub struct State {
    table: ResourceTable,
    wasi: WasiCtx,
    http: WasiHttpCtx,
    outbound: Outbound,
    log: GuestLog,
    pub(super) memory: MemoryLimit,
    pub(super) meter: Arc<Meter>,
}

impl State {
    pub(super) fn new(callee: &Callee, meter: Arc<Meter>, log: GuestLog) -> Self {
        let mut table = ResourceTable::new();
        table.set_max_capacity(HANDLES);
        // No directory, no environment, no arguments, no socket: what is not given is not there.
        let wasi = WasiCtx::builder()
            .stdout(log.stdout())
            .stderr(log.stderr())
            .max_random_size(RANDOM_BYTES)
            .build();
        let memory = MemoryLimit::new(callee.limits.memory_bytes, meter.clone());
        let outbound = Outbound::new(callee.outbound.clone(), log.clone(), &callee.limits);
        Self { table, wasi, http: WasiHttpCtx::new(), outbound, log, memory, meter }
    }

    /// Makes the state the next request's; memory stays charged.
    pub(super) fn renew(&mut self, limits: &Limits, meter: Arc<Meter>, log: &GuestLog) {
        self.outbound.renew(limits);
        self.log.continue_as(log);
        self.memory.renew(meter.clone());
        self.meter = meter;
    }

    /// The request is over.
    pub(super) fn finish(&self) {
        self.log.end();
    }
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

impl WasiHttpView for State {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView { hooks: &mut self.outbound, table: &mut self.table, ctx: &mut self.http }
    }
}
