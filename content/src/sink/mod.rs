//! Who else is to hold content: an IPFS node, a pinning service, Arweave. A sink says how far it is; when it is asked again, and
//! what becomes of failures, is decided by whoever asks.

mod arweave;
mod error;
mod http;
mod kubo;
mod pinning;
mod upload;

use std::fmt;

use af_contract::ContentId;
use futures::future::BoxFuture;

pub use self::arweave::{Arweave, IPFS_CID};
pub use self::error::SinkError;
pub use self::kubo::Kubo;
pub use self::pinning::{Connect, Pinning};

/// What is to be held.
#[derive(Clone, Debug)]
pub struct Pin {
    /// Its root. Its blocks are in the store of this machine.
    pub root: ContentId,
    /// What people know it by.
    pub name: String,
    /// What the sink called it in an earlier [`Held`].
    pub request: Option<String>,
}

/// How far a sink is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// How far.
    pub state: State,
    /// What the sink calls it, if it has a name of its own for it.
    pub request: Option<String>,
    /// What people may want to know besides: under which name it is found there, by which deals it is held.
    pub detail: Option<String>,
    /// Whether nobody can have it removed there any more.
    pub permanent: bool,
}

impl Held {
    /// So far, and nothing more to be said.
    #[must_use]
    pub const fn new(state: State, request: Option<String>) -> Self {
        Self { state, request, detail: None, permanent: false }
    }
}

/// How far a sink is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// It will begin.
    Queued,
    /// It is getting the blocks.
    Pinning,
    /// It has them all.
    Pinned,
    /// It gave up, and says why.
    Failed(String),
    /// It knows nothing of it.
    Absent,
}

/// Holds content. Asking for the same again changes nothing.
pub trait Sink: fmt::Debug + Send + Sync {
    /// As people know it: its kind, and its address without secrets.
    fn name(&self) -> &str;

    /// Whether it can hold a document without all that the document links to: a deployment's manifest names the one before it,
    /// which may be gone.
    fn holds_documents(&self) -> bool {
        true
    }

    /// What it will be called there, where that is known before anything is sent. Whoever asks remembers it before
    /// [`Self::put`], so that what was cut off goes on under the same name.
    ///
    /// # Errors
    /// When the blocks cannot be read.
    fn prepare<'a>(&'a self, pin: &'a Pin) -> BoxFuture<'a, Result<Option<String>, SinkError>> {
        Box::pin(std::future::ready(Ok(pin.request.clone())))
    }

    /// Has it held.
    ///
    /// # Errors
    /// When the sink cannot be asked, or refuses.
    fn put<'a>(&'a self, pin: &'a Pin) -> BoxFuture<'a, Result<Held, SinkError>>;

    /// How far it is.
    ///
    /// # Errors
    /// When the sink cannot be asked.
    fn status<'a>(&'a self, pin: &'a Pin) -> BoxFuture<'a, Result<Held, SinkError>>;

    /// Has it held no longer. What is not there is no error. Not asked of what is [`Held::permanent`].
    ///
    /// # Errors
    /// When the sink cannot be asked, or refuses.
    fn remove<'a>(&'a self, pin: &'a Pin) -> BoxFuture<'a, Result<(), SinkError>>;
}

/// A bearer token.
#[derive(Clone)]
pub struct Token(String);

impl Token {
    /// As it was given.
    #[must_use]
    pub const fn new(text: String) -> Self {
        Self(text)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}
