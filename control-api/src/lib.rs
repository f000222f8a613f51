//! The control plane: [`rest`] shapes, [`domain`] decides, [`store`] remembers.

pub mod app;
pub mod dns;
pub mod domain;
mod listen;
pub mod providers;
pub mod rest;
pub mod store;

pub use app::{ControlApi, ControlConfig, ControlError, StorageConfig};
pub use domain::Clock;
pub use domain::domains::DomainConfig;
pub use domain::master_key::{Key, MasterKey};
pub use domain::scheduler::Callee;
pub use store::Database;
