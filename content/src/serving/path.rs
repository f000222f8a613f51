//! Paths of requests as names of files, and names as paths. What could be read in two ways is refused.

use std::borrow::Cow;
use std::fmt::Write;

/// The names that a path leads through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilePath<'a> {
    names: Vec<Cow<'a, str>>,
    /// Whether it asks for a directory.
    slash: bool,
}

/// Why a path names no file. Always the client's fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// A percent sign without two hex digits.
    #[error("the path has a percent sign that begins no escape; write it as %25")]
    Escape,
    /// `.` or `..`, escaped or not: clients resolve them before they send a path.
    #[error("the path has a part that is . or ..")]
    Dots,
    /// `%2F` or `%00`, which no name can have.
    #[error("the path has an escaped slash or NUL")]
    Slash,
    /// Bytes that are no text.
    #[error("the path is not UTF-8")]
    Utf8,
}

impl<'a> FilePath<'a> {
    /// Decodes each part of a path on its own. Several slashes are one, as there are no empty names.
    ///
    /// # Errors
    /// When a part is no name.
    pub fn parse(path: &'a str) -> Result<Self, PathError> {
        let names = path.split('/').filter(|part| !part.is_empty()).map(name).collect::<Result<_, _>>()?;
        Ok(Self { names, slash: path.ends_with('/') })
    }

    /// Decoded, in their order.
    pub fn names(&self) -> &[Cow<'a, str>] {
        &self.names
    }

    /// Whether it ends with a slash.
    pub fn ends_with_slash(&self) -> bool {
        self.slash
    }
}

fn name(part: &str) -> Result<Cow<'_, str>, PathError> {
    let name = decoded(part)?;
    match name.as_ref() {
        "." | ".." => Err(PathError::Dots),
        name if name.contains(['/', '\0']) => Err(PathError::Slash),
        _ => Ok(name),
    }
}

/// Without its percent-escapes.
///
/// # Errors
/// When one is malformed, or the result is no text.
pub fn decoded(part: &str) -> Result<Cow<'_, str>, PathError> {
    if !part.contains('%') {
        return Ok(Cow::Borrowed(part));
    }
    let mut bytes = Vec::with_capacity(part.len());
    let mut rest = part.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let (digits, after) = rest.split_at_checked(2).ok_or(PathError::Escape)?;
        rest = after;
        let digit = |byte: u8| char::from(byte).to_digit(16);
        let byte = digits.iter().try_fold(0, |value, byte| Some(value * 16 + digit(*byte)?));
        bytes.push(byte.and_then(|byte| u8::try_from(byte).ok()).ok_or(PathError::Escape)?);
    }
    String::from_utf8(bytes).map(Cow::Owned).map_err(|_| PathError::Utf8)
}

/// Appends a name in the form that a path has it, with nothing in it that a browser or a header takes for
/// something else.
pub fn encode(name: &str, into: &mut String) {
    for byte in name.bytes() {
        // RFC 3986 section 3.3, pchar.
        if byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@".contains(&byte) {
            into.push(char::from(byte));
        } else {
            escape(byte, into);
        }
    }
}

/// Appends a part of a URL that somebody wrote, with its escapes and delimiters as they are.
pub fn encode_written(text: &str, into: &mut String) {
    for byte in text.bytes() {
        if byte.is_ascii_graphic() && byte != b'\\' {
            into.push(char::from(byte))
        } else {
            escape(byte, into)
        }
    }
}

fn escape(byte: u8, into: &mut String) {
    // Writing to a string does not fail.
    let _written = write!(into, "%{byte:02X}");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(path: &str) -> Vec<String> {
        FilePath::parse(path).unwrap().names().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_path_is_its_names() {
        assert_eq!(names("/a/b.txt"), ["a", "b.txt"]);
        assert_eq!(names("/"), [] as [&str; 0]);
        assert_eq!(names("/%61%2Etxt/%C3%A4"), ["a.txt", "ä"]);
        assert_eq!(names("/a+b/c%20d/e%25f"), ["a+b", "c d", "e%f"]);
        assert_eq!(names("//a///b//"), ["a", "b"]);
        assert_eq!(names("/.well-known/...//.x"), [".well-known", "...", ".x"]);
        assert!(FilePath::parse("/a/").unwrap().ends_with_slash());
        assert!(!FilePath::parse("/a").unwrap().ends_with_slash());
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_refused() {
        for (path, error) in [
            ("/..", PathError::Dots),
            ("/a/../b", PathError::Dots),
            ("/%2e%2E/b", PathError::Dots),
            ("/./a", PathError::Dots),
            ("/.%2e", PathError::Dots),
            ("/a%2Fb", PathError::Slash),
            ("/a%2f..%2fb", PathError::Slash),
            ("/a%00", PathError::Slash),
            ("/%", PathError::Escape),
            ("/%4", PathError::Escape),
            ("/%zz", PathError::Escape),
            ("/%+1", PathError::Escape),
            ("/%ff", PathError::Utf8),
            ("/%C3/%A4", PathError::Utf8),
        ] {
            assert_eq!(FilePath::parse(path), Err(error), "{path}");
        }
        // Decoded once and not again.
        assert_eq!(names("/%252e%252e"), ["%2e%2e"]);
    }

    proptest::proptest! {
        #[test]
        fn any_name_survives_the_way_there_and_back(name in "[^/\0]{1,40}") {
            proptest::prop_assume!(name != "." && name != "..");
            let mut path = String::from("/");
            encode(&name, &mut path);
            proptest::prop_assert!(http::Uri::try_from(&path).is_ok(), "{path}");
            proptest::prop_assert_eq!(names(&path), [name]);
        }

        #[test]
        fn no_path_has_a_name_that_leads_elsewhere(path in "[/.%2eEfF0a\\\\-]{0,40}") {
            let Ok(path) = FilePath::parse(&path) else { return Ok(()) };
            for name in path.names() {
                proptest::prop_assert!(!name.is_empty() && name != "." && name != "..");
                proptest::prop_assert!(!name.contains(['/', '\0']));
            }
        }
    }
}
