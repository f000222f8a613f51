//! Lists of entity tags, as `If-Match` and `If-None-Match` have them (RFC 9110, 13.1). Tags of this platform have no commas.

/// Whether one of `wanted` is a strong tag, compared strongly: weak ones match nothing. `*` is any.
#[must_use]
pub fn have_strong(wanted: &str, tag: &str) -> bool {
    tags(wanted).any(|wanted| wanted == "*" || wanted == tag)
}

/// Whether one of `wanted` is a strong tag that begins so. `*` is any.
#[must_use]
pub fn have_beginning(wanted: &str, begin: &str) -> bool {
    tags(wanted).any(|wanted| wanted == "*" || wanted.starts_with(begin))
}

/// Whether one of `known` is a tag, compared weakly. `*` is any.
#[must_use]
pub fn have(known: &str, tag: &str) -> bool {
    tags(known).any(|known| known == "*" || known.strip_prefix("W/").unwrap_or(known) == tag)
}

fn tags(list: &str) -> impl Iterator<Item = &str> {
    list.split(',').map(str::trim)
}
