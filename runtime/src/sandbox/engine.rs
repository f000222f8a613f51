//! The Wasmtime engine, its pool of instances and the clock that interrupts guests.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use wasmtime::component::Linker;
use wasmtime::{Config, Enabled, Engine, InstanceAllocationStrategy, PoolingAllocationConfig};

use super::State;
use crate::host;

/// How often a running guest is interrupted to check its limits and let others run. 2 ms: what a
/// hostile loop takes beyond its limit, at most, at a cost of 500 wake-ups a second for the process.
pub const TICK: Duration = Duration::from_millis(2);

/// How long a request may wait for an instance before it is refused.
const ADMISSION: Duration = Duration::from_secs(1);

/// Core modules a component may consist of: StarlingMonkey and Rust guests have 2 to 6.
const CORE_INSTANCES: u32 = 16;

/// Memories a component may have; real ones have 1, the preview1 adapter shares it.
const MEMORIES: u32 = 2;

/// Tables a component may have: 1 of its own and those of adapters.
const TABLES: u32 = 8;

/// Elements a table may have; StarlingMonkey has 14,000.
const TABLE_ELEMENTS: usize = 40_000;

/// Left dirty in a slot for its next instance instead of being given back to the system. With
/// PAGEMAP_SCAN only pages that were really written are reset, so a large value costs no time.
const KEEP_RESIDENT: usize = 32 << 20;

/// The size of the sandbox.
#[derive(Clone, Debug)]
pub struct SandboxConfig {
    /// Instances that may live at the same time.
    pub instances: u32,
    /// The most memory that any deployment's limits may give to an instance, bytes.
    pub max_memory_bytes: usize,
}

impl Default for SandboxConfig {
    fn default() -> Self {
        // 1,000 times 128 MiB is address space, not memory: an instance holds what it touches.
        Self { instances: 1000, max_memory_bytes: 128 << 20 }
    }
}

/// An engine with its linker and pool. Cheap to clone.
#[derive(Clone)]
pub struct Sandbox {
    inner: Arc<Inner>,
}

struct Inner {
    engine: Engine,
    linker: Linker<State>,
    permits: Arc<Semaphore>,
}

impl Sandbox {
    /// Reserves the pool and starts the clock.
    ///
    /// # Errors
    /// When the system has too little address space for the pool.
    pub fn new(config: &SandboxConfig) -> wasmtime::Result<Self> {
        let engine = Engine::new(&engine_config(config))?;
        let linker = host::linker(&engine)?;
        start_clock(&engine)?;
        let permits = usize::try_from(config.instances).unwrap_or(Semaphore::MAX_PERMITS);
        Ok(Self { inner: Arc::new(Inner { engine, linker, permits: Arc::new(Semaphore::new(permits)) }) })
    }

    /// The engine.
    #[must_use]
    pub fn engine(&self) -> &Engine {
        &self.inner.engine
    }

    /// Everything that a guest may import.
    #[must_use]
    pub fn linker(&self) -> &Linker<State> {
        &self.inner.linker
    }

    /// Changes whenever compiled code of another version or with other settings would not fit.
    #[must_use]
    pub fn compatibility(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.inner.engine.precompile_compatibility_hash().hash(&mut hasher);
        hasher.finish()
    }

    /// The right to have an instance, or `None` when there is none in time.
    pub async fn admit(&self) -> Option<OwnedSemaphorePermit> {
        if let Ok(permit) = self.inner.permits.clone().try_acquire_owned() {
            return Some(permit);
        }
        tokio::time::timeout(ADMISSION, self.inner.permits.clone().acquire_owned()).await.ok()?.ok()
    }
}

fn engine_config(sandbox: &SandboxConfig) -> Config {
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(sandbox.instances)
        .total_core_instances(sandbox.instances.saturating_mul(8))
        .total_memories(sandbox.instances)
        .total_tables(sandbox.instances.saturating_mul(4))
        .total_stacks(sandbox.instances)
        .max_core_instances_per_component(CORE_INSTANCES)
        .max_memories_per_component(MEMORIES)
        .max_tables_per_component(TABLES)
        .table_elements(TABLE_ELEMENTS)
        .max_memory_size(sandbox.max_memory_bytes)
        .max_unused_warm_slots(sandbox.instances)
        .linear_memory_keep_resident(KEEP_RESIDENT)
        .table_keep_resident(1 << 20)
        .async_stack_keep_resident(128 << 10)
        .pagemap_scan(Enabled::Auto);
    let mut config = Config::new();
    config
        .allocation_strategy(InstanceAllocationStrategy::Pooling(pool))
        .epoch_interruption(true)
        // Errors are values here, not debugging aids: no walk of the guest's stack for each.
        .wasm_backtrace_max_frames(None);
    config
}

fn start_clock(engine: &Engine) -> std::io::Result<()> {
    let engine = engine.weak();
    std::thread::Builder::new().name("epoch".into()).spawn(move || {
        while let Some(engine) = engine.upgrade() {
            engine.increment_epoch();
            drop(engine);
            std::thread::sleep(TICK);
        }
    })?;
    Ok(())
}
