//! Versions of single things, so that nobody overwrites what they have not seen (RFC 9110, `If-Match`).

use std::fmt::Debug;

use ring::digest::{SHA256, digest};

use super::{Actor, Error, entity_tags};

/// Characters of a tag: 128 bits.
const LENGTH: usize = 32;

/// The entity tag of a row, which all that its answer shows is made of: another one whenever anything in it is another.
pub fn tag(row: &impl Debug) -> String {
    let hash = digest(&SHA256, format!("{row:?}").as_bytes());
    let hex: String = hash.as_ref().iter().map(|byte| format!("{byte:02x}")).take(LENGTH / 2).collect();
    format!("\"{hex}\"")
}

/// Refuses a change of something that is not what the actor has seen. To be called with the row as the transaction of the
/// change sees it.
///
/// # Errors
/// When the request has an `If-Match`, and no tag of it is the row's.
pub(super) fn check(actor: &Actor, row: &impl Debug) -> Result<(), Error> {
    let Some(wanted) = &actor.call.if_match else { return Ok(()) };
    if entity_tags::have_strong(wanted, &tag(row)) { Ok(()) } else { Err(Error::Outdated) }
}
