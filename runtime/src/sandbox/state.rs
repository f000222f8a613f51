//! The `T` of `Store<T>`: all that the host keeps for one instance.

use std::sync::Arc;

use af_contract::{Limits, Settings};
use wasmtime::component::ResourceTable;
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

use super::memory::MemoryLimit;
use super::{Callee, Meter};
use crate::host::log::GuestLog;
use crate::host::{Files, FilesystemView, Grants, Outbound, Piped, Stores};

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
    stores: Stores,
    grants: Arc<Grants>,
    /// Made when the guest first asks; most never do.
    files: Option<Arc<Files>>,
    log: GuestLog,
    pub(super) memory: MemoryLimit,
    pub(super) meter: Arc<Meter>,
}

impl State {
    pub(super) fn new(callee: &Callee, meter: Arc<Meter>, log: GuestLog) -> Self {
        let mut table = ResourceTable::new();
        table.set_max_capacity(HANDLES);
        let grants = callee.grants.clone();
        // No directory, no arguments, no socket: what is not given is not there.
        let mut wasi = WasiCtx::builder();
        wasi.stdout(log.stdout()).stderr(log.stderr()).max_random_size(RANDOM_BYTES);
        for (name, value) in &grants.settings {
            wasi.env(name.as_str(), value.reveal());
        }
        let wasi = wasi.build();
        let memory = MemoryLimit::new(callee.limits.memory_bytes, meter.clone());
        let outbound = Outbound::new(grants.outbound.clone(), log.clone(), &callee.limits);
        let (http, stores) = (WasiHttpCtx::new(), grants.stores());
        Self { table, wasi, http, outbound, stores, grants, files: None, log, memory, meter }
    }

    /// Makes the state the next request's; memory stays charged.
    pub(super) fn renew(&mut self, limits: &Limits, meter: Arc<Meter>, log: &GuestLog) {
        self.outbound.renew(limits);
        self.stores.renew();
        if let Some(files) = &self.files {
            files.renew(meter.clone());
        }
        self.log.continue_as(log);
        self.memory.renew(meter.clone());
        self.meter = meter;
    }

    /// Another request joins those that the instance works for; what each may use, they may use together.
    pub(super) fn admit(&mut self, limits: &Limits, log: &GuestLog) {
        self.outbound.admit(limits);
        self.stores.admit();
        self.log.admit(log);
        self.meter.admit(limits);
    }

    /// Whether the guest holds no resource: then none of it can be reached by the instance's next request.
    pub(super) fn is_clear(&self) -> bool {
        self.table.is_empty()
    }

    /// What the function's owner told it.
    pub(crate) fn settings(&self) -> &Settings {
        &self.grants.settings
    }

    /// Where lines go.
    pub(crate) fn log(&self) -> &GuestLog {
        &self.log
    }

    /// Its project's key-value stores.
    pub(crate) fn stores(&self) -> &Stores {
        &self.stores
    }

    pub(crate) fn stores_mut(&mut self) -> &mut Stores {
        &mut self.stores
    }

    /// Its deployment's files.
    pub(crate) fn filesystem(&mut self) -> FilesystemView<'_> {
        if let (None, Some(assets)) = (&self.files, &self.grants.assets) {
            self.files = Some(Arc::new(Files::new(assets, self.meter.clone(), self.log.clone())));
        }
        FilesystemView { files: self.files.as_ref(), table: &mut self.table }
    }

    /// Files that may be on their way from this instance to its client; none if it never asked for one.
    pub(super) fn piped(&self) -> Option<Arc<Piped>> {
        self.files.as_ref().map(|files| files.piped().clone())
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
