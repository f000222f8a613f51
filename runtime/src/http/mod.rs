//! The whole path of one request: [`service`] reads top to bottom, [`secure`] has what encryption changes,
//! [`rescue`] turns errors into statuses.

mod access_log;
mod body;
mod compress;
mod cors;
mod exchange;
mod gateway;
mod rate;
pub(crate) mod rescue;
mod routed;
mod secure;
mod service;
mod target;
mod trace;
mod trigger;
mod well_known;

pub use access_log::{AccessLogTarget, AnsweredBy};
pub use body::{BodyError, ResponseBody, Watcher};
pub use compress::Compressor;
pub use exchange::{Exchanges, HttpConfig, Terms};

pub use rescue::RequestError;
pub(crate) use secure::Secure;
pub use secure::{SecureConfig, origin};
pub use service::Service;
