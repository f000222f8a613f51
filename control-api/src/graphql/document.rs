//! What is looked at in a document before the library does anything with it that can take long: its brackets before it is
//! parsed, and how much it is, once it is parsed and before it is validated.

use std::collections::HashMap;

use async_graphql::Positioned;
use async_graphql::parser::types::{ExecutableDocument, Selection, SelectionSet};

/// How many brackets are open at the same time, at most; those in strings and comments do not count.
pub(super) fn nesting(document: &str) -> usize {
    let bytes = document.as_bytes();
    let (mut place, mut open, mut most) = (0, 0_usize, 0);
    while let Some(byte) = bytes.get(place) {
        match byte {
            b'{' | b'[' | b'(' => {
                open += 1;
                most = most.max(open);
            }
            b'}' | b']' | b')' => open = open.saturating_sub(1),
            b'#' => place += until(bytes, place, |rest| matches!(rest.first(), Some(b'\n' | b'\r'))),
            b'"' if bytes.get(place..).is_some_and(|rest| rest.starts_with(b"\"\"\"")) => {
                place += 3;
                place += block(bytes, place);
            }
            b'"' => place += string(bytes, place + 1),
            _ => {}
        }
        place += 1;
    }
    most
}

/// What an operation selects, with every fragment as often as it is spread. The library walks through them that often, more
/// than once, in one go: thirty fragments that each spread the next one twice are a billion selections in a kilobyte.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Size {
    /// Selections.
    pub(super) all: usize,
    /// Of them, fields of the operation itself.
    pub(super) roots: usize,
}

impl Size {
    /// More than anything may be: fragments in a circle, or too deep within each other.
    const ENDLESS: Self = Self { all: usize::MAX, roots: usize::MAX };

    /// Of a selection set of the document, as deep as `depth` selection sets. Each fragment is looked at once.
    pub(super) fn of(document: &ExecutableDocument, set: &Positioned<SelectionSet>, depth: usize) -> Self {
        Sizes { document, depth, known: HashMap::new() }.set(set, 0)
    }

    fn plus(self, other: Self) -> Self {
        Self { all: self.all.saturating_add(other.all), roots: self.roots.saturating_add(other.roots) }
    }
}

/// Whether anything in it asks about the schema itself.
pub(super) fn asks_about_schema(document: &ExecutableDocument) -> bool {
    let mut sets: Vec<&SelectionSet> = Vec::new();
    sets.extend(document.operations.iter().map(|(_, operation)| &operation.node.selection_set.node));
    sets.extend(document.fragments.values().map(|fragment| &fragment.node.selection_set.node));
    while let Some(set) = sets.pop() {
        for selection in &set.items {
            match &selection.node {
                Selection::Field(field)
                    if ["__schema", "__type"].contains(&field.node.name.node.as_str()) =>
                {
                    return true;
                }
                Selection::Field(field) => sets.push(&field.node.selection_set.node),
                Selection::InlineFragment(fragment) => sets.push(&fragment.node.selection_set.node),
                // It is looked at itself.
                Selection::FragmentSpread(_) => {}
            }
        }
    }
    false
}

struct Sizes<'d> {
    document: &'d ExecutableDocument,
    depth: usize,
    /// Of fragments; those that are being looked at are endless.
    known: HashMap<&'d str, Size>,
}

impl<'d> Sizes<'d> {
    fn set(&mut self, set: &'d Positioned<SelectionSet>, depth: usize) -> Size {
        if depth > self.depth {
            return Size::ENDLESS;
        }
        let sizes = set.node.items.iter().map(|selection| self.selection(&selection.node, depth));
        sizes.fold(Size::default(), Size::plus)
    }

    fn selection(&mut self, selection: &'d Selection, depth: usize) -> Size {
        match selection {
            Selection::Field(field) => {
                let within = self.set(&field.node.selection_set, depth + 1);
                Size { all: within.all.saturating_add(1), roots: 1 }
            }
            Selection::InlineFragment(fragment) => {
                let within = self.set(&fragment.node.selection_set, depth + 1);
                within.plus(Size { all: 1, roots: 0 })
            }
            Selection::FragmentSpread(spread) => {
                let within = self.fragment(spread.node.fragment_name.node.as_str(), depth + 1);
                within.plus(Size { all: 1, roots: 0 })
            }
        }
    }

    fn fragment(&mut self, name: &'d str, depth: usize) -> Size {
        if let Some(known) = self.known.get(name) {
            return *known;
        }
        // One that is missing is refused by whoever validates.
        let Some(fragment) = self.document.fragments.get(name) else { return Size::default() };
        self.known.insert(name, Size::ENDLESS);
        let size = self.set(&fragment.node.selection_set, depth);
        self.known.insert(name, size);
        size
    }
}

fn until(bytes: &[u8], from: usize, end: impl Fn(&[u8]) -> bool) -> usize {
    let rest = bytes.get(from..).unwrap_or_default();
    (0..rest.len()).find(|place| rest.get(*place..).is_some_and(&end)).unwrap_or(rest.len())
}

/// To the closing quote; the parser ends at a line's end too.
fn string(bytes: &[u8], from: usize) -> usize {
    let mut escaped = false;
    let rest = bytes.get(from..).unwrap_or_default();
    for (place, byte) in rest.iter().enumerate() {
        match byte {
            b'\n' | b'\r' => return place,
            b'"' if !escaped => return place + 1,
            b'\\' => escaped = !escaped,
            _ => escaped = false,
        }
    }
    rest.len()
}

/// To the last of the closing quotes.
fn block(bytes: &[u8], from: usize) -> usize {
    let mut place = from;
    loop {
        place += until(bytes, place, |rest| rest.starts_with(b"\"\"\"") || rest.starts_with(b"\\\"\"\""));
        match bytes.get(place) {
            Some(b'\\') => place += 4,
            Some(_) => return place + 2 - from,
            None => return bytes.len() - from.min(bytes.len()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brackets_are_counted_where_the_parser_sees_them() {
        for (document, most) in [
            ("", 0),
            ("{ a }", 1),
            ("{ a(b: [[1]]) { c } }", 4),
            ("{ a(b: \"[[[[\") }", 2),
            ("{ a(b: \"\\\"[[[[\") { c } }", 2),
            ("{ a(b: \"\"\" [[[ \\\"\"\" [[[ \"\"\") { c { d } } }", 3),
            ("{ # [[[[\n a }", 1),
            ("\"unclosed [\n[[", 2),
            ("\"\"\"unclosed [[", 0),
            ("}}}{", 1),
        ] {
            assert_eq!(nesting(document), most, "{document}");
        }
    }

    fn size(document: &str) -> Size {
        let document = async_graphql::parser::parse_query(document).unwrap();
        let (_, operation) = document.operations.iter().next().unwrap();
        Size::of(&document, &operation.node.selection_set, 32)
    }

    #[test]
    fn fragments_count_as_often_as_they_are_spread() {
        for (document, all, roots) in [
            ("{ a }", 1, 1),
            ("{ a { b c } d }", 4, 2),
            ("{ ... { a b } ...f ...f } fragment f on Query { c { d } }", 9, 4),
            ("{ ...missing }", 1, 0),
        ] {
            assert_eq!(size(document), Size { all, roots }, "{document}");
        }
        let circle = "{ a ...f } fragment f on Query { a ...g } fragment g on Query { a ...f }";
        assert_eq!(size(circle).all, usize::MAX);
        let deep = format!("{{ {}a{} }}", "a { ".repeat(40), " }".repeat(40));
        assert_eq!(size(&deep).all, usize::MAX);
        let mut bomb = "{ ...f0 }".to_owned();
        for number in 0..30 {
            let next = number + 1;
            bomb.push_str(&format!(" fragment f{number} on Query {{ ...f{next} ...f{next} }}"));
        }
        bomb.push_str(" fragment f30 on Query { a }");
        assert!(size(&bomb).all > 1 << 30, "{:?}", size(&bomb));
    }
}
