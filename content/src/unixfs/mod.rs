//! UnixFS (<https://specs.ipfs.tech/unixfs/>): files and directories as blocks, written under the profile
//! `unixfs-v1-2025` and read whatever the profile. Without I/O, but for [`folder`].
//!
//! Writing is the `rust-unixfs` crate's. Nodes are decoded here ([`node`]): the crate leaves out links that it
//! cannot read, and cuts names at bytes that may lie within a character.

mod directory;
mod file;
pub mod folder;
mod lookup;
mod node;
mod seek;
mod tree;

pub use self::directory::{Directory, DirectoryError, Entry, Listing, is_name};
pub use self::file::{Export, ExportError, FileSummary, import};
pub use self::lookup::{Looked, Lookup};
#[cfg(test)]
pub(crate) use self::node::tests::encoded;
pub use self::node::{Child, Link, Node, NodeError};
pub use self::seek::{Found, Seek};
pub use self::tree::{Tree, TreeError};
