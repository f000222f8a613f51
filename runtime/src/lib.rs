//! The edge. A request meets these modules in this order: [`listen`] accepts, [`http`] holds its
//! whole path, [`router`] finds its deployment, [`artifact`] has its verified and compiled code,
//! [`sandbox`] runs it, [`host`] is what it may call. [`site`] answers where no function does, out of [`content`].

pub mod admin;
pub mod app;
pub mod artifact;
mod calm;
pub mod content;
pub mod core_number;
pub mod feed;
pub mod host;

pub mod http;
pub mod listen;
pub mod logs;
pub mod metrics;
pub mod proxy;
pub mod reports;
pub mod request_id;
pub mod router;
pub mod sandbox;
pub mod site;
pub mod tls;
pub mod usage;

pub use app::{Edge, EdgeConfig, EdgeError};
pub use http::HttpConfig;
pub use listen::ListenConfig;
