//! Versions of single things, so that nobody overwrites what they have not seen (RFC 9110, `If-Match`).

use std::fmt::Debug;

use ring::digest::{SHA256, digest};

use super::{Actor, Error, entity_tags};
use crate::store::FunctionRow;

/// Characters of a tag: 128 bits.
const LENGTH: usize = 32;

/// Between the parts of a function's tag.
const BEFORE_SAID: char = '.';

/// The entity tag of a row, which all that its answer shows is made of: another one whenever anything in it is another.
pub fn tag(row: &impl Debug) -> String {
    format!("\"{}\"", hash(row))
}

/// The entity tag of a function. Its second part is also of what edges and builds say of it, which nobody overwrites: a change of that
/// alone refuses no `If-Match`.
#[must_use]
pub fn tag_of_function(row: &FunctionRow) -> String {
    let said = (row.reported.as_deref(), row.build.as_deref());
    format!("\"{}{BEFORE_SAID}{}\"", hash(&unsaid(row)), hash(&said))
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

/// The same for a function, whatever edges and builds have said of it meanwhile.
///
/// # Errors
/// As for [`check`].
pub(super) fn check_function(actor: &Actor, row: &FunctionRow) -> Result<(), Error> {
    let Some(wanted) = &actor.call.if_match else { return Ok(()) };
    let begin = format!("\"{}{BEFORE_SAID}", hash(&unsaid(row)));
    if entity_tags::have_beginning(wanted, &begin) { Ok(()) } else { Err(Error::Outdated) }
}

fn unsaid(row: &FunctionRow) -> FunctionRow {
    FunctionRow { reported: None, build: None, ..row.clone() }
}

fn hash(row: &impl Debug) -> String {
    let hash = digest(&SHA256, format!("{row:?}").as_bytes());
    hash.as_ref().iter().map(|byte| format!("{byte:02x}")).take(LENGTH / 2).collect()
}
