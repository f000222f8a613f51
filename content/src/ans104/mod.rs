//! Data items of Arweave, as bundlers take them (ANS-104,
//! <https://github.com/ArweaveTeam/arweave-standards/blob/master/ans/ANS-104.md>): what stands before the data, what is
//! signed, and who signs. The data themselves pass through, and are never held.

mod deep_hash;
mod item;
mod key;
mod tags;

pub use self::deep_hash::{Blob, DIGEST};
pub use self::item::{head, id, signed};
pub use self::key::{Key, KeyError};
pub use self::tags::{TagError, Tags};
