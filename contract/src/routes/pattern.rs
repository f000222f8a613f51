//! One path pattern: what it is made of, and how specific it is.

use std::cmp::Reverse;
use std::fmt;

/// A path pattern. `:name` is one or more characters without `/`; `*` is any text; the rest stands for itself.
///
/// It matches a whole path, upper and lower case differ, and so do paths with and without a slash at the end.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Pattern(String);

/// A part of a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Token<'a> {
    /// Exactly this text.
    Literal(&'a str),
    /// A parameter with this name.
    Parameter(&'a str),
    /// Any text, also none.
    Any,
}

/// How specific a pattern is: the smaller one is asked first. Equal ones keep the table's order.
pub type Rank = (Class, Reverse<usize>, bool);

/// The coarsest order of patterns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// Neither `*` nor `:`.
    Exact,
    /// A `:` somewhere, also where no name follows.
    Parameter,
    /// A `*`, and no `:`.
    Wildcard,
}

impl Pattern {
    pub(super) fn new(text: String) -> Self {
        Self(text)
    }

    /// The text that the user wrote.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Its parts, in order. Neighbouring `*` are one, and so are neighbouring literals.
    #[must_use]
    pub fn tokens(&self) -> Vec<Token<'_>> {
        tokens(&self.0)
    }

    /// Exact ones first, then those with a parameter, then those with wildcards only; then more segments first; then
    /// those without `*`.
    #[must_use]
    pub fn rank(&self) -> Rank {
        let segments = self.0.split('/').filter(|segment| !segment.is_empty()).count();
        let wildcard = self.0.contains('*');
        let class = match (self.0.contains(':'), wildcard) {
            (true, _) => Class::Parameter,
            (false, true) => Class::Wildcard,
            (false, false) => Class::Exact,
        };
        (class, Reverse(segments), wildcard)
    }

    /// The text before the first `*`, if there is one. A parameter in it stands for itself here.
    #[must_use]
    pub fn before_wildcard(&self) -> Option<&str> {
        self.0.split_once('*').map(|(before, _)| before)
    }
}

/// The parts of a pattern or of a template that is filled in.
#[must_use]
pub fn tokens(text: &str) -> Vec<Token<'_>> {
    let mut tokens = Vec::new();
    let mut rest = text;
    let mut literal = 0;
    while let Some(next) = rest.get(literal..).and_then(|tail| tail.find([':', '*'])) {
        let at = literal + next;
        let (before, tail) = rest.split_at(at);
        let special = tail.get(1..).unwrap_or_default();
        if tail.starts_with('*') {
            push_literal(&mut tokens, before);
            if tokens.last() != Some(&Token::Any) {
                tokens.push(Token::Any);
            }
            rest = special;
            literal = 0;
            continue;
        }
        let end = special.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(special.len());
        if end == 0 {
            // A colon without a name stands for itself.
            literal = at + 1;
            continue;
        }
        push_literal(&mut tokens, before);
        let (name, tail) = special.split_at(end);
        tokens.push(Token::Parameter(name));
        rest = tail;
        literal = 0;
    }
    push_literal(&mut tokens, rest);
    tokens
}

fn push_literal<'a>(tokens: &mut Vec<Token<'a>>, text: &'a str) {
    if !text.is_empty() {
        tokens.push(Token::Literal(text));
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::Token::{Any, Literal, Parameter};
    use super::*;

    #[test]
    fn patterns_fall_into_parts() {
        for (text, parts) in [
            ("/", vec![Literal("/")]),
            ("/api/users", vec![Literal("/api/users")]),
            ("/users/:id", vec![Literal("/users/"), Parameter("id")]),
            ("/users/:id.json", vec![Literal("/users/"), Parameter("id"), Literal(".json")]),
            ("/a:/b", vec![Literal("/a:/b")]),
            ("/:a:b", vec![Literal("/"), Parameter("a"), Parameter("b")]),
            ("/::a", vec![Literal("/:"), Parameter("a")]),
            ("/**", vec![Literal("/"), Any]),
            ("/users/*/posts", vec![Literal("/users/"), Any, Literal("/posts")]),
            ("/:id/*", vec![Literal("/"), Parameter("id"), Literal("/"), Any]),
            ("/ü:é", vec![Literal("/ü:é")]),
        ] {
            assert_eq!(Pattern::new(text.into()).tokens(), parts, "{text}");
        }
    }

    #[test]
    fn the_order_is_that_of_the_older_platform() {
        let mut patterns = [
            "/*",
            "/api/*",
            "/api/users/*",
            "/:tenant/*",
            "/api/:id",
            "/api/:id/*",
            "/api",
            "/api/users",
            "/a:/b/c",
        ];
        patterns.sort_by_key(|text| Pattern::new((*text).into()).rank());
        let order = [
            "/api/users",
            "/api",
            "/a:/b/c",
            "/api/:id/*",
            "/api/:id",
            "/:tenant/*",
            "/api/users/*",
            "/api/*",
            "/*",
        ];
        assert_eq!(patterns, order);
    }
}
