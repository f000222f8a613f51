//! Bytes by content id: hashing and verification, the CAR and UnixFS codecs, the disk block store, and where blocks come from.
//! Knows nothing of functions, routes or HTTP.

pub mod car;
pub mod disk;
pub mod hash;
pub mod private;
pub mod source;
mod staging;
pub mod unixfs;

pub use disk::{DiskStore, FileReadError, StoreError};
pub use hash::{Mismatch, identify, verify};
pub use staging::{Committed, Inspection, Staging};
