//! Ids: a prefix that says of what, and a ULID, so that ids sort by creation.

use ulid::Ulid;

/// A new id such as `fn_01j…`.
pub fn new(prefix: &str) -> String {
    format!("{prefix}_{}", Ulid::generate().to_string().to_ascii_lowercase())
}
