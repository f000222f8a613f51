//! One pattern against a path, in time linear in the path's length: each byte is looked at once for each literal and
//! each slash of the pattern at most.
//!
//! A pattern is cut at its `*` into pieces of literals and parameters. The first piece stands where the path begins, the
//! last one where it ends, and each one between takes the earliest place where it fits: what comes behind it then has the most
//! left. Within a piece a parameter takes as little as it can, for the same reason. A piece whose start is found but
//! whose parameters do not fit cannot fit later in the same segment either, because parameters end where their segment does,
//! so the search goes on in the next one.

use af_contract::routes::{Pattern, Token};

/// A pattern that has a parameter or a wildcard. The path must be ASCII, as a URL's is.
#[derive(Debug)]
pub struct Matcher {
    first: Piece,
    /// One for each wildcard: what stands between it and the next, or the path's end.
    others: Vec<Piece>,
}

/// What parameters and wildcards stood for, in order: from and to in the path.
pub type Spans = Vec<(usize, usize)>;

#[derive(Debug, Default)]
struct Piece {
    /// May be empty.
    start: Box<str>,
    /// The literal behind each parameter; it may be empty.
    after: Vec<Box<str>>,
}

impl Matcher {
    /// For a whole pattern.
    #[must_use]
    pub fn new(pattern: &Pattern) -> Self {
        let mut matcher = Self { first: Piece::default(), others: Vec::new() };
        for token in pattern.tokens() {
            let piece = matcher.others.last_mut().unwrap_or(&mut matcher.first);
            match token {
                Token::Any => matcher.others.push(Piece::default()),
                Token::Parameter(_) => piece.after.push("".into()),
                Token::Literal(text) => match piece.after.last_mut() {
                    Some(after) => *after = text.into(),
                    None => piece.start = text.into(),
                },
            }
        }
        matcher
    }

    /// Whether the pattern matches the whole path. Then `spans` has what its parts stood for.
    pub fn matches(&self, path: &str, spans: &mut Spans) -> bool {
        spans.clear();
        let Some((last, between)) = self.others.split_last() else {
            return self.first.is_all(path, spans);
        };
        let Some(mut at) = self.first.fits(path, 0, spans) else { return false };
        for piece in between {
            let Some(end) = piece.find(path, at, spans) else { return false };
            at = end;
        }
        last.ends(path, at, spans)
    }
}

impl Piece {
    /// Where the piece ends that stands at `at`: the earliest such place.
    fn fits(&self, path: &str, at: usize, spans: &mut Spans) -> Option<usize> {
        if !path.get(at..)?.starts_with(&*self.start) {
            return None;
        }
        let mut end = at + self.start.len();
        for after in &self.after {
            let parameter = parameter(path, end, after)?;
            spans.push((end, parameter));
            end = parameter + after.len();
        }
        Some(end)
    }

    /// Where the first such piece behind a wildcard at `from` ends.
    fn find(&self, path: &str, from: usize, spans: &mut Spans) -> Option<usize> {
        let wildcard = spans.len();
        let mut next = from;
        loop {
            let start = next + path.get(next..)?.find(&*self.start)?;
            spans.push((from, start));
            if let Some(end) = self.fits(path, start, spans) {
                return Some(end);
            }
            spans.truncate(wildcard);
            let parameter = start + self.start.len();
            next = (start + 1).max((segment_end(path, parameter) + 1).saturating_sub(self.start.len()));
        }
    }

    /// Whether the path from a wildcard at `from` on ends with the piece. Each parameter takes as little as it can, from the end.
    fn ends(&self, path: &str, from: usize, spans: &mut Spans) -> bool {
        let wildcard = spans.len();
        let mut literals = std::iter::once(&self.start).chain(&self.after).rev();
        let last = literals.next().map_or("", |last| &**last);
        let Some(mut end) = path.strip_suffix(last).map(str::len) else { return false };
        for before in literals {
            let Some(begin) = parameter_before(path, end, before) else { return false };
            spans.push((begin, end));
            end = begin - before.len();
        }
        if end < from {
            return false;
        }
        spans.push((from, end));
        if let Some(found) = spans.get_mut(wildcard..) {
            found.reverse();
        }
        true
    }

    /// Whether the piece is the whole path.
    fn is_all(&self, path: &str, spans: &mut Spans) -> bool {
        let Some((last, after)) = self.after.split_last() else { return path == &*self.start };
        let Some(stem) = path.strip_suffix(&**last) else { return false };
        if !stem.starts_with(&*self.start) {
            return false;
        }
        let mut end = self.start.len();
        for after in after {
            let Some(parameter) = parameter(stem, end, after) else { return false };
            spans.push((end, parameter));
            end = parameter + after.len();
        }
        // The last parameter is what is left.
        spans.push((end, stem.len()));
        stem.get(end..).is_some_and(|text| !text.is_empty() && !text.contains('/'))
    }
}

fn segment_end(path: &str, at: usize) -> usize {
    path.get(at..).and_then(|rest| rest.find('/')).map_or(path.len(), |length| at + length)
}

/// The end of a parameter that begins at `begin`: the first place where `after` stands, in the same segment.
fn parameter(path: &str, begin: usize, after: &str) -> Option<usize> {
    let last = segment_end(path, begin);
    if begin >= last {
        return None;
    }
    let until = (last + after.len()).min(path.len());
    path.get(begin + 1..until)?.find(after).map(|length| begin + 1 + length)
}

/// The begin of a parameter that ends at `end`: behind the last place where `before` stands, in the same segment.
fn parameter_before(path: &str, end: usize, before: &str) -> Option<usize> {
    let first = path.get(..end)?.rfind('/').map_or(0, |slash| slash + 1);
    if first >= end {
        return None;
    }
    let from = first.saturating_sub(before.len());
    path.get(from..end - 1)?.rfind(before).map(|at| from + at + before.len()).filter(|begin| *begin >= first)
}

#[cfg(test)]
pub(super) mod tests {
    use af_contract::RouteTable;
    use proptest::prelude::*;

    use super::*;

    fn pattern(text: &str) -> Pattern {
        let table = serde_json::json!({ text: "https://t" }).to_string();
        RouteTable::from_json(&table).unwrap().unwrap().routes()[0].pattern.clone()
    }

    /// What the parts stood for, if the pattern matches.
    fn captured(text: &str, path: &str) -> Option<Vec<String>> {
        let mut spans = Spans::new();
        let matches = Matcher::new(&pattern(text)).matches(path, &mut spans);
        matches.then(|| spans.iter().map(|(from, to)| path[*from..*to].to_owned()).collect())
    }

    #[test]
    fn patterns_match_as_the_document_says() {
        for (pattern, path, parts) in [
            ("/api/*", "/api/", Some(vec![""])),
            ("/api/*", "/api/a/b", Some(vec!["a/b"])),
            ("/api/*", "/api", None),
            ("/**", "/", Some(vec![""])),
            ("/users/*/posts", "/users/1/2/posts", Some(vec!["1/2"])),
            ("/users/*/posts", "/users/posts", None),
            ("/files/*.png", "/files/a/b.png", Some(vec!["a/b"])),
            ("/files/*.png", "/files/.png", Some(vec![""])),
            ("/files/*.png", "/files/a.jpg", None),
            ("/users/:id", "/users/7", Some(vec!["7"])),
            ("/users/:id", "/users/", None),
            ("/users/:id", "/users/7/", None),
            ("/users/:id", "/users/7/8", None),
            ("/users/:id/", "/users/7/", Some(vec!["7"])),
            ("/:a/:b", "/1/2", Some(vec!["1", "2"])),
            ("/:a:b", "/12", Some(vec!["1", "2"])),
            ("/:a-:b", "/1-2-3", Some(vec!["1", "2-3"])),
            ("/:name.json", "/a.json.json", Some(vec!["a.json"])),
            ("/:id/*", "/7/a", Some(vec!["7", "a"])),
            ("/*/:id", "/a/b/c", Some(vec!["a/b", "c"])),
            // A start is found in the first segment, and what follows only behind the second.
            ("/*a:x/:y!*", "/aa/aa/q!z", Some(vec!["aa/", "a", "q", "z"])),
            ("/*:a/b*", "/x/y/b", Some(vec!["x/", "y", ""])),
            ("/a*a", "/a", None),
            ("/A", "/a", None),
        ] {
            let expected = parts.map(|parts| parts.into_iter().map(str::to_owned).collect::<Vec<_>>());
            assert_eq!(captured(pattern, path), expected, "{pattern} {path}");
        }
    }

    /// Whether a pattern matches a path, by trying everything.
    pub fn naive(text: &str, path: &str) -> bool {
        all(&pattern(text).tokens(), path)
    }

    fn all(tokens: &[Token<'_>], path: &str) -> bool {
        match tokens {
            [] => path.is_empty(),
            [Token::Literal(text), rest @ ..] => path.strip_prefix(text).is_some_and(|path| all(rest, path)),
            [Token::Any, rest @ ..] => (0..=path.len()).any(|length| all(rest, &path[length..])),
            [Token::Parameter(_), rest @ ..] => {
                let most = path.find('/').unwrap_or(path.len());
                (1..=most).any(|length| all(rest, &path[length..]))
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]
        #[test]
        fn a_matcher_tells_what_trying_everything_tells(
            text in "/([ab/*-]|:x|:y|ab|/:z){0,8}", path in "/[ab/-]{0,12}",
        ) {
            let pattern = pattern(&text);
            let mut spans = Spans::new();
            let matches = Matcher::new(&pattern).matches(&path, &mut spans);
            prop_assert_eq!(matches, naive(&text, &path), "{} {}", text, path);
            if matches {
                // Put together again, the parts are the path.
                let mut spans = spans.into_iter();
                let mut again = String::new();
                for token in pattern.tokens() {
                    match token {
                        Token::Literal(text) => again.push_str(text),
                        part => {
                            let (from, to) = spans.next().unwrap();
                            let text = &path[from..to];
                            prop_assert!(part == Token::Any || !(text.is_empty() || text.contains('/')));
                            again.push_str(text);
                        }
                    }
                }
                prop_assert_eq!(again, path);
            }
        }
    }
}
