//! Bytes by content id: hashing and verification, the CAR and UnixFS codecs, the disk block store.
//! Knows nothing of functions, routes or HTTP.

pub mod car;
pub mod disk;
pub mod hash;
pub mod unixfs;

pub use disk::{DiskStore, FileReadError, Staging, StoreError};
pub use hash::{Mismatch, identify, verify};
