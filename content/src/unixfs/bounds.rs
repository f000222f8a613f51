//! How large a DAG may be, in every direction, whoever walks it: content comes from others, and a few kilobytes can
//! claim to be petabytes.

/// Levels of a file's nodes. With 174 links each, as few as anybody makes, eight are more than any file has.
pub const FILE_DEPTH: usize = 8;

/// Levels of shards: each takes 8 of the 64 bits of a name's hash.
pub const SHARD_DEPTH: usize = 8;

/// Levels of any DAG. Directories a hundred deep, each of them sharded to the last bit, and a file.
pub const DAG_DEPTH: usize = 1024;

/// Links of one node. A block of 2 MiB has room for 55,000 links to blocks; only those that hold their content
/// themselves can be more, and each takes 20 times as much in memory as in the block.
pub const NODE_LINKS: usize = 1 << 16;

/// Links that are known and not followed yet: 24 MiB of memory.
pub const PENDING: usize = 1 << 17;

/// A bound that a DAG is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Exceeded {
    /// Different blocks, or for who follows every link, blocks as often as they occur.
    #[error("the DAG has more than {0} blocks")]
    Blocks(usize),
    /// Bytes of different blocks.
    #[error("the blocks of the DAG have more than {0} bytes")]
    Bytes(u64),
    /// What a file says that it has; the same few blocks can be in it many times.
    #[error("the file says that it has {declared} bytes, and at most {most} are allowed")]
    FileBytes {
        /// As its root says.
        declared: u64,
        /// The bound.
        most: u64,
    },
    /// Nodes within nodes.
    #[error("the DAG is more than {0} levels deep")]
    Depth(usize),
    /// Nodes within nodes of one file.
    #[error("the file has more than {0} levels")]
    FileDepth(usize),
    /// Links that wait to be followed.
    #[error("more than {0} links of the DAG wait to be followed")]
    Pending(usize),
}
