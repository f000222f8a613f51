//! Bytes by content id: hashing and verification, the CAR and UnixFS codecs, the disk block store, where blocks come from, who else holds them, and
//! the gateway that hands them out. Knows nothing of functions, routes or HTTP servers.

mod abreast;
pub mod ans104;
#[cfg(feature = "bitswap")]
pub mod bitswap;
pub mod car;
pub mod disk;
pub mod gateway;
pub mod hash;
pub mod pieces;
pub mod private;
pub mod serving;
mod sha256;
pub mod sink;
pub mod source;
mod staging;
mod subtrees;
mod sweep;
pub mod traversal;
pub mod unixfs;
mod walk;

pub use disk::{DiskStore, FileReadError, StoreError};
pub use hash::{Hashed, Mismatch, identify, verify};
pub use staging::{Committed, Inspection, Staging};
pub use sweep::Stored;
pub use walk::{CarPieces, Walk};
