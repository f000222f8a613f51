//! The control plane: [`rest`] and [`graphql`] shape, [`domain`] decides, [`store`] remembers.

pub mod app;
pub mod dns;
pub mod domain;
pub mod graphql;
pub mod javascript;
mod listen;
mod places;
pub mod providers;
pub mod redis;
pub mod rest;
pub mod store;

pub use app::{ApiConfig, ControlApi, ControlConfig, ControlError, StorageConfig};
pub use domain::Clock;
pub use domain::domains::DomainConfig;
pub use domain::master_key::{Key, MasterKey};
pub use domain::quotas::Quotas;
pub use domain::scheduler::Callee;
pub use domain::sessions::{SessionConfig, SharedSecret};
pub use graphql::{GraphqlConfig, SocketConfig};
pub use javascript::JavaScriptBuild;
pub use redis::RedisUrl;
pub use store::Database;
