//! The hash that is signed: a tree of SHA-384, in which each part carries its kind and length.

use ring::digest::{Context, SHA384, digest};

/// Bytes of a hash.
pub const DIGEST: usize = 48;

/// One part, which is hashed as it comes.
#[derive(Clone)]
pub struct Blob {
    context: Context,
    bytes: u64,
}

impl Default for Blob {
    fn default() -> Self {
        Self { context: Context::new(&SHA384), bytes: 0 }
    }
}

impl Blob {
    /// Of bytes that are there.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        let mut blob = Self::default();
        blob.push(bytes);
        blob
    }

    /// More of it.
    pub fn push(&mut self, bytes: &[u8]) {
        self.context.update(bytes);
        self.bytes += bytes.len() as u64;
    }

    /// Bytes until now.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Its hash.
    #[must_use]
    pub fn hash(self) -> [u8; DIGEST] {
        pair(&sha384(format!("blob{}", self.bytes).as_bytes()), self.context.finish().as_ref())
    }
}

/// The hash of a list of parts.
pub(super) fn list<const N: usize>(parts: [Blob; N]) -> [u8; DIGEST] {
    let tag = sha384(format!("list{N}").as_bytes());
    parts.into_iter().fold(tag, |hash, part| pair(&hash, &part.hash()))
}

fn pair(left: &[u8], right: &[u8]) -> [u8; DIGEST] {
    let mut context = Context::new(&SHA384);
    context.update(left);
    context.update(right);
    array(context.finish().as_ref())
}

fn sha384(bytes: &[u8]) -> [u8; DIGEST] {
    array(digest(&SHA384, bytes).as_ref())
}

/// SHA-384 gives 48 bytes, so nothing is ever cut or missing.
fn array(bytes: &[u8]) -> [u8; DIGEST] {
    let mut array = [0; DIGEST];
    array.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
    array
}
