//! The `T` of `Store<T>`: all that the host keeps for one instance.

use std::sync::Arc;

use af_contract::Limits;
use wasmtime::component::ResourceTable;
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

use super::Meter;
use super::memory::MemoryLimit;
use crate::host::Outbound;
use crate::host::log::GuestLog;

/// Resource handles that a guest may hold at the same time.
const HANDLES: usize = 10_000;

/// One instance's host state. Nothing in it is shared with another instance.
pub struct State {
    table: ResourceTable,
    wasi: WasiCtx,
    http: WasiHttpCtx,
    outbound: Outbound,
    pub(super) memory: MemoryLimit,
    pub(super) meter: Arc<Meter>,
}

impl State {
    pub(super) fn new(limits: &Limits, meter: Arc<Meter>, log: &GuestLog) -> Self {
        let mut table = ResourceTable::new();
        table.set_max_capacity(HANDLES);
        // No directory, no environment, no arguments, no socket: what is not given is not there.
        let wasi = WasiCtx::builder().stdout(log.stream("stdout")).stderr(log.stream("stderr")).build();
        let memory = MemoryLimit::new(limits.memory_bytes, meter.clone());
        Self { table, wasi, http: WasiHttpCtx::new(), outbound: Outbound, memory, meter }
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
