//! A gateway for what is on this node (<https://specs.ipfs.tech/http-gateways/path-gateway/>,
//! <https://specs.ipfs.tech/http-gateways/trustless-gateway/>): blocks, CARs and files by CID. It fetches nothing for its
//! clients. [`service`] has a request's whole way; listeners and hosts are others'.

mod accept;
mod access;
mod body;
mod document;
mod entity_bytes;
mod error;
mod format;
mod headers;
mod listing;
mod pieces;
mod plan;
mod reading;
mod resolve;
mod service;
mod target;
#[cfg(test)]
mod tests;
mod walk;

pub use self::access::{Access, Token, TokenError};
pub use self::body::{GatewayBody, GatewayBodyError};
pub use self::entity_bytes::{EntityBytes, EntityBytesError, Wanted};
pub use self::error::{DagError, DocumentError, GatewayError};
pub use self::format::{CarTerms, Choice, Duplicates, Format, Parameters, Scope};
pub use self::service::{Gateway, Request};
pub use self::target::{Style, Target};
