//! Content as the edge reads it: block by block, verified and decoded, for guests that open files and for sites
//! that are served.

mod reader;
mod store;

pub use self::reader::{File, Reader};
pub use self::store::{ContentStore, Loaded, ReadError};
