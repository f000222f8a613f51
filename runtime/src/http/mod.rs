//! The whole path of one request: [`service`] reads top to bottom, [`secure`] has what encryption changes,
//! [`rescue`] turns errors into statuses.

mod body;
mod rescue;
mod secure;
mod service;
mod target;
mod well_known;

pub use body::ResponseBody;

pub use rescue::RequestError;
pub(crate) use secure::Secure;
pub use secure::{SecureConfig, origin};
pub use service::Service;
