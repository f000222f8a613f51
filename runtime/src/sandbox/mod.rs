//! Runs guests: one engine, one instance pool, hard limits. An instance serves one deployment, ever.

mod body;
mod call;
mod engine;
mod memory;
mod meter;
mod state;

pub use self::body::GuestBody;
pub use self::call::{Call, GuestError};
pub use self::engine::{Sandbox, SandboxConfig};
pub use self::meter::{Exceeded, Meter};
pub use self::state::State;
