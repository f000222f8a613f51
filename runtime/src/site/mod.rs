//! Sites: a directory by its CID, answered with the file that a path leads to. [`site`] has a request's whole way;
//! knows nothing of hosts.

mod body;
mod coding;
mod error;
mod file;
mod redirects;
#[allow(clippy::module_inception, reason = "it is the noun that this is about")]
mod site;
#[cfg(test)]
mod tests;
mod tree;

pub use self::body::{FileBody, FileBodyError};
pub use self::error::SiteError;
pub use self::redirects::{Redirects, RedirectsError};
pub use self::site::{Naming, Site, Sites};
