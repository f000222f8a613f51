//! UnixFS (<https://specs.ipfs.tech/unixfs/>): files and directories as blocks, written under a [`Profile`] and read
//! whatever the profile. Without I/O, but for [`folder`].
//!
//! Writing is the `rust-unixfs` crate's. Nodes are decoded here ([`node`]): the crate leaves out links that it
//! cannot read, and cuts names at bytes that may lie within a character.

mod bounds;
mod chunking;
mod directory;
mod file;
pub mod folder;
mod lookup;
mod node;
mod profile;
mod seek;
mod tree;

pub use self::bounds::{DAG_DEPTH, Exceeded, FILE_DEPTH, NODE_LINKS, PENDING, SHARD_DEPTH};
pub use self::chunking::Chunking;
pub use self::directory::{Directory, DirectoryError, Entry, Listing, is_name};
pub use self::file::{Export, ExportError, FileSummary, import, import_as};
pub use self::lookup::{Looked, Lookup};
#[cfg(test)]
pub(crate) use self::node::tests::encoded;
pub use self::node::{Child, Link, Node, NodeError};
pub use self::profile::{Profile, ProfileError};
pub use self::seek::{Found, Seek};
pub use self::tree::{Tree, TreeError};
