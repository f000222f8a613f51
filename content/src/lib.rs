//! Bytes by content id: hashing and verification, the CAR and UnixFS codecs, the disk block store, where blocks come from, and
//! the gateway that hands them out. Knows nothing of functions, routes or HTTP servers.

pub mod car;
pub mod disk;
pub mod gateway;
pub mod hash;
pub mod serving;
pub mod source;
mod staging;
pub mod unixfs;

pub use disk::{DiskStore, FileReadError, StoreError};
pub use hash::{Mismatch, identify, verify};
pub use staging::{Committed, Inspection, Staging};
