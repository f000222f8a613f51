//! What whoever deploys says of it: why, and from what it was built.

use crate::domain::Error;
use crate::domain::projects::misleads;

/// Characters of a message: a line or two in a list.
const MESSAGE: usize = 500;

/// Characters of a source's hash: the longest that are in use have 128 digits.
const SOURCE_HASH: usize = 150;

/// Why something is deployed: one to 500 characters.
pub(in crate::domain) fn checked_message(message: &str) -> Result<String, Error> {
    let message = message.trim();
    let fits = (1..=MESSAGE).contains(&message.chars().count());
    let unusable = |char: char| (char.is_control() && char != '\n') || misleads(char);
    if fits && !message.chars().any(unusable) {
        return Ok(message.to_owned());
    }
    let detail = format!(
        "a message has 1 to {MESSAGE} characters, none of which controls a terminal, hides or changes the direction of text"
    );
    Err(Error::invalid("invalid_message", detail))
}

/// What something was built from: a commit, a CID, a digest with its algorithm.
pub(super) fn checked_source(source: &str) -> Result<String, Error> {
    let known = |char: char| char.is_ascii_alphanumeric() || "-_.:+/=@".contains(char);
    if (1..=SOURCE_HASH).contains(&source.len()) && source.chars().all(known) {
        return Ok(source.to_owned());
    }
    let detail = format!(
        "a source's hash has 1 to {SOURCE_HASH} letters, digits and -_.:+/=@, such as a commit or sha256:…"
    );
    Err(Error::invalid("invalid_source_hash", detail))
}
