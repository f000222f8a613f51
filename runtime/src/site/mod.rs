//! Sites: a directory by its CID, answered with the file that a path leads to. [`site`] has a request's whole way;
//! knows nothing of hosts.

mod body;
mod coding;
mod conditional;
mod error;
mod file;
mod media_type;
mod path;
mod range;
mod redirects;
#[allow(clippy::module_inception, reason = "it is the noun that this is about")]
mod site;
#[cfg(test)]
mod tests;
mod tree;

pub use self::body::{FileBody, FileBodyError};
pub use self::error::SiteError;
pub use self::path::PathError;
pub use self::redirects::{Redirects, RedirectsError};
pub use self::site::{Naming, Site, Sites};
