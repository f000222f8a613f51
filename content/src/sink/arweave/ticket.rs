//! What is remembered of a data item between attempts: who signed it, how long its data are, and the signature, from which
//! its id follows. None of it is a secret.

use std::fmt;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64;

use crate::ans104;

/// What is signed, and how it is written: another one is not sent under an old signature.
const VERSION: &str = "1";

/// A signed data item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ticket {
    /// The address of who signed.
    pub owner: String,
    /// Bytes of its data.
    pub bytes: u64,
    pub signature: Vec<u8>,
}

impl Ticket {
    /// What [`fmt::Display`] has written.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('.');
        let version = parts.next()?;
        let (owner, bytes, signature) = (parts.next()?, parts.next()?, parts.next()?);
        if version != VERSION || parts.next().is_some() {
            return None;
        }
        let signature = BASE64.decode(signature).ok()?;
        Some(Self { owner: owner.to_owned(), bytes: bytes.parse().ok()?, signature })
    }

    /// What the item is called.
    pub fn id(&self) -> String {
        ans104::id(&self.signature)
    }
}

impl fmt::Display for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{VERSION}.{}.{}.{}", self.owner, self.bytes, BASE64.encode(&self.signature))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_is_read_as_it_was_written_and_nothing_else_is_one() {
        let ticket = Ticket { owner: "someone".into(), bytes: 7, signature: vec![1; 64] };
        assert_eq!(Ticket::parse(&ticket.to_string()), Some(ticket.clone()));
        for other in ["", "1.a.b.c", "2.a.7.AQ", "1.a.7.AQ.x", "request/1"] {
            assert_eq!(Ticket::parse(other), None, "{other}");
        }
    }
}
