//! Runs guests: instances out of a pool, with hard limits. An instance serves one deployment, ever.

mod admission;
mod background;
mod body;
mod call;
mod clock;
mod common;
mod engine;
mod error;
mod habits;
mod idle;
mod instance;
mod linear;
mod memory;
mod meter;
mod pagemap;
mod running;
mod shared;
mod stack;
mod state;
mod ticker;

pub use self::admission::{Admission, Gate, Overloaded, Permit};
pub use self::body::GuestBody;
pub use self::call::{Call, Callee};
pub(crate) use self::clock::Span;
pub use self::engine::{Host, HostKind, Sandbox, SandboxConfig};
pub use self::error::GuestError;
pub use self::habits::Habits;
pub use self::idle::{IdleInstances, IdlePlaces};
pub use self::linear::Image;
pub use self::meter::{Exceeded, Meter};
pub use self::state::State;
