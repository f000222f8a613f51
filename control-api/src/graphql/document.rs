//! What is looked at in a document before it is parsed.

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
}
