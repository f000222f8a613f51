//! The Wasmtime engines with their pools, and what all calls share.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::PathBuf;
use std::sync::Arc;

use af_contract::World;
use tokio_util::task::TaskTracker;
use wasmtime::component::Linker;
use wasmtime::{Config, Enabled, Engine, InstanceAllocationStrategy, PoolingAllocationConfig};

use super::background::Background;
use super::linear::{CAPACITY, GUARD, LinearMemories};
use super::stack::Stacks;
use super::ticker::Ticker;
use super::{Admission, IdlePlaces, State};
use crate::artifact::image;
use crate::content::ContentStore;
use crate::host;
use crate::host::egress::{Egress, IpNet};
use crate::host::{KeyValue, Services, Trust};
use crate::logs::Tap;
use crate::metrics::Metrics;
use crate::usage::Book;

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

/// A function's share of all instances: it takes four that hold all they may to stop a fifth.
const SHARE: usize = 4;

/// One instance may wait for so many that may work: 10,000 functions that are called once in a while must
/// not hold the memory of 10,000 instances.
const IDLE: usize = 2;

/// The size of the sandbox.
#[derive(Clone, Debug)]
pub struct SandboxConfig {
    /// Instances that may be at work at the same time.
    pub instances: u32,
    /// The most memory that any deployment's limits may give to an instance, bytes.
    pub max_memory_bytes: usize,
    /// Networks that guests may reach besides the public internet.
    pub egress_allow: Vec<IpNet>,
    /// The file of all key-value entries; without one they are in memory and end with the process.
    pub keyvalue: Option<PathBuf>,
    /// Where functions' files are; without it, functions have none.
    pub content: Option<ContentStore>,
}

impl Default for SandboxConfig {
    fn default() -> Self {
        // 1,000 times 128 MiB is address space, not memory: an instance holds what it touches.
        Self {
            instances: 1000,
            max_memory_bytes: 128 << 20,
            egress_allow: Vec::new(),
            keyvalue: None,
            content: None,
        }
    }
}

/// What guests run in. Cheap to clone.
#[derive(Clone)]
pub struct Sandbox {
    inner: Arc<Inner>,
}

struct Inner {
    imaged: Host,
    plain: Host,
    concurrent: Host,
    admission: Admission,
    ticker: Ticker,
    background: Background,
    services: Services,
    idle: IdlePlaces,
    tasks: TaskTracker,
    metrics: Arc<Metrics>,
    tap: Tap,
    usage: Book,
}

/// An engine with its pool, and what its guests may import.
pub struct Host {
    /// The engine.
    pub engine: Engine,
    /// Everything that a guest may import.
    pub linker: Linker<State>,
    /// What components are compiled for.
    pub kind: HostKind,
    /// Changes whenever compiled code of another version or with other settings would not fit.
    pub compatibility: u64,
}

impl Host {
    fn new(kind: HostKind, engine: &Engine) -> wasmtime::Result<Self> {
        let mut hasher = DefaultHasher::new();
        engine.precompile_compatibility_hash().hash(&mut hasher);
        (kind == HostKind::Imaged).then_some(image::VERSION).hash(&mut hasher);
        let linker = match kind {
            HostKind::Imaged | HostKind::Plain => host::linker_02(engine)?,
            HostKind::Concurrent => host::linker_03(engine)?,
        };
        Ok(Self { engine: engine.clone(), linker, kind, compatibility: hasher.finish() })
    }
}

impl Sandbox {
    /// Reserves the pools and starts the clock.
    ///
    /// # Errors
    /// When the system has too little address space for the pools, or no threads.
    pub fn new(config: &SandboxConfig) -> wasmtime::Result<Self> {
        let imaged = Engine::new(&HostKind::Imaged.config())?;
        let plain = Engine::new(HostKind::Plain.config().allocation_strategy(pool(config)))?;
        let concurrent = Engine::new(HostKind::Concurrent.config().allocation_strategy(pool(config)))?;
        let ticker = Ticker::start(&[&imaged, &plain, &concurrent])?;
        let instances = usize::try_from(config.instances)?;
        let services = Services {
            egress: Egress::new(&config.egress_allow),
            trust: Trust::default(),
            keyvalue: KeyValue::open(config.keyvalue.as_deref())?,
            content: config.content.clone(),
        };
        let inner = Inner {
            imaged: Host::new(HostKind::Imaged, &imaged)?,
            plain: Host::new(HostKind::Plain, &plain)?,
            concurrent: Host::new(HostKind::Concurrent, &concurrent)?,
            admission: Admission::new(instances, instances.div_ceil(SHARE)),
            ticker,
            background: Background::start()?,
            services,
            idle: IdlePlaces::new(instances.div_ceil(IDLE)),
            tasks: TaskTracker::new(),
            metrics: Arc::default(),
            tap: Tap::default(),
            usage: Book::default(),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// All that components of a world may be compiled for, the best first.
    pub fn hosts(&self, world: World) -> impl Iterator<Item = &Host> {
        let imaged = (world == World::Proxy02).then_some(&self.inner.imaged);
        imaged.into_iter().chain([self.host(world)])
    }

    /// What any component of a world can be compiled for and linked with.
    #[must_use]
    pub fn host(&self, world: World) -> &Host {
        self.host_of(match world {
            World::Proxy02 => HostKind::Plain,
            World::Service03 => HostKind::Concurrent,
        })
    }

    pub(crate) fn host_of(&self, kind: HostKind) -> &Host {
        match kind {
            HostKind::Imaged => &self.inner.imaged,
            HostKind::Plain => &self.inner.plain,
            HostKind::Concurrent => &self.inner.concurrent,
        }
    }

    /// Who may have an instance.
    #[must_use]
    pub fn admission(&self) -> &Admission {
        &self.inner.admission
    }

    /// What guests reach the world through.
    #[must_use]
    pub fn services(&self) -> &Services {
        &self.inner.services
    }

    /// How many instances may wait.
    #[must_use]
    pub fn idle(&self) -> &IdlePlaces {
        &self.inner.idle
    }

    /// Guests that go on after their response, and those that several requests share.
    #[must_use]
    pub fn tasks(&self) -> &TaskTracker {
        &self.inner.tasks
    }

    /// What is counted.
    #[must_use]
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.inner.metrics
    }

    /// What functions log.
    #[must_use]
    pub fn tap(&self) -> &Tap {
        &self.inner.tap
    }

    /// What functions and sites use.
    #[must_use]
    pub fn usage(&self) -> &Book {
        &self.inner.usage
    }

    pub(super) fn ticker(&self) -> &Ticker {
        &self.inner.ticker
    }

    pub(super) fn background(&self) -> &Background {
        &self.inner.background
    }
}

/// Both engines have room for all instances, and as many idle ones again: address space costs nothing.
fn pool(sandbox: &SandboxConfig) -> InstanceAllocationStrategy {
    let slots = sandbox.instances.saturating_mul(2);
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(slots)
        .total_core_instances(slots.saturating_mul(8))
        .total_memories(slots)
        .total_tables(slots.saturating_mul(4))
        .total_stacks(slots)
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
    InstanceAllocationStrategy::Pooling(pool)
}

/// The engines, by what components are compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostKind {
    /// WASI 0.2, without the component's initial memory, which is lent to its instances.
    Imaged,
    /// WASI 0.2, any component.
    Plain,
    /// WASI 0.3.
    Concurrent,
}

impl HostKind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Imaged, Self::Plain, Self::Concurrent];

    /// As a worker is told.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Imaged => "imaged",
            Self::Plain => "plain",
            Self::Concurrent => "concurrent",
        }
    }

    /// What [`Self::name`] named.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// Everything that decides what native code looks like, and not how instances are allocated.
    pub(crate) fn config(self) -> Config {
        let mut config = Config::new();
        config
            .epoch_interruption(true)
            // Errors are values here, not debugging aids: no walk of the guest's stack for each.
            .wasm_backtrace_max_frames(None)
            // What only backtraces and other unwinders need, a third of an artifact.
            .generate_address_map(false)
            .native_unwind_info(false)
            // What keeps account of concurrent calls costs a fifth of a small request, and WASI 0.2 has none.
            .concurrency_support(self == Self::Concurrent);
        if self == Self::Imaged {
            config
                .memory_init_cow(false)
                .memory_reservation(CAPACITY as u64)
                .memory_guard_size(GUARD as u64)
                .guard_before_linear_memory(true)
                .with_host_memory(Arc::new(LinearMemories))
                .with_host_stack(Arc::new(Stacks::default()));
        }
        config
    }
}
