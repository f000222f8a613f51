//! Ids: a prefix that says of what, and a ULID, so that ids sort by creation.

use ulid::Ulid;

/// A new id such as `fn_01j…`.
pub fn new(prefix: &str) -> String {
    format!("{prefix}_{}", Ulid::generate().to_string().to_ascii_lowercase())
}

/// A new id that sorts by another moment, milliseconds since 1970 UTC.
pub fn at(prefix: &str, moment: i64) -> String {
    let ulid = Ulid::from_parts(u64::try_from(moment).unwrap_or_default(), Ulid::generate().random());
    format!("{prefix}_{}", ulid.to_string().to_ascii_lowercase())
}
