//! The whole path of one request: [`service`] reads top to bottom, [`rescue`] turns errors into statuses.

mod body;
mod rescue;
mod routed;
mod service;
mod target;
mod trigger;
mod well_known;

pub use body::ResponseBody;

pub use rescue::RequestError;
pub use service::Service;
