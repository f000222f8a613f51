//! What the gateway says about its answers.

use std::fmt::Write;

use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS,
};
use http::{HeaderMap, HeaderName, HeaderValue};

use super::format::Parameters;

/// The path that was asked for.
pub(super) const IPFS_PATH: HeaderName = HeaderName::from_static("x-ipfs-path");

/// What it led through.
pub(super) const IPFS_ROOTS: HeaderName = HeaderName::from_static("x-ipfs-roots");

/// The longest name that is suggested for a download: what file systems take.
const FILENAME_BYTES: usize = 255;

/// Lets pages of any origin read an answer, as the path gateway's specification wants: there are no cookies here, and a private
/// gateway's token has to be known.
pub(super) fn share(headers: &mut HeaderMap) {
    for (name, value) in [
        (ACCESS_CONTROL_ALLOW_ORIGIN, "*"),
        (ACCESS_CONTROL_ALLOW_METHODS, "GET, HEAD, OPTIONS"),
        (ACCESS_CONTROL_ALLOW_HEADERS, "Authorization, Content-Type, Range, User-Agent, X-Requested-With"),
        (
            ACCESS_CONTROL_EXPOSE_HEADERS,
            "Content-Location, Content-Length, Content-Range, X-Chunked-Output, X-Ipfs-Path, X-Ipfs-Roots, X-Stream-Output",
        ),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
}

/// For how long an answer may be kept. Shared caches are for what is public.
pub(super) const fn caching(public: bool, generated: bool) -> HeaderValue {
    HeaderValue::from_static(match (public, generated) {
        (true, false) => "public, max-age=29030400, immutable",
        (false, false) => "private, max-age=29030400, immutable",
        // A page that is made here changes with the program that makes it.
        (true, true) => "public, max-age=604800, stale-while-revalidate=2678400",
        (false, true) => "private, max-age=604800",
    })
}

/// What a browser may make of an answer that has no origin of its own: whoever wrote it must not act as the gateway, or as
/// another content of it. Scripts run in such types only, since nobody may guess another one.
pub(super) fn confinement(media_type: &HeaderValue) -> Option<HeaderValue> {
    let text = media_type.as_bytes();
    let has = |word: &[u8]| text.windows(word.len()).any(|part| part.eq_ignore_ascii_case(word));
    (has(b"html") || has(b"xml")).then(|| HeaderValue::from_static("sandbox allow-scripts"))
}

/// Under which name an answer is kept, and whether it is shown; `None`: nothing is said of it.
pub(super) fn disposition(parameters: &Parameters<'_>, default: Option<&str>) -> Option<HeaderValue> {
    let download = parameters.download.as_deref() == Some("true");
    let given = parameters.filename.as_deref().filter(|name| !name.is_empty());
    let name = given.or(default);
    if name.is_none() && parameters.download.is_none() {
        return None;
    }
    let mut text = String::from(if download || default.is_some() { "attachment" } else { "inline" });
    if let Some(name) = name {
        let name = shortened(name);
        let plain: String = name.chars().map(|c| if is_plain(c) { c } else { '_' }).collect();
        // Writing to a string does not fail.
        let _written = write!(text, "; filename=\"{plain}\"");
        if plain != name {
            text.push_str("; filename*=UTF-8''");
            for byte in name.bytes() {
                // RFC 8187 section 3.2.1, attr-char.
                if byte.is_ascii_alphanumeric() || b"!#$&+-.^_`|~".contains(&byte) {
                    text.push(char::from(byte));
                } else {
                    let _written = write!(text, "%{byte:02X}");
                }
            }
        }
    }
    HeaderValue::try_from(text).ok()
}

fn is_plain(c: char) -> bool {
    (c.is_ascii_graphic() || c == ' ') && !matches!(c, '"' | '\\' | '%')
}

fn shortened(name: &str) -> &str {
    name.get(..name.floor_char_boundary(FILENAME_BYTES)).unwrap_or(name)
}

/// Text of a media type, where content whose name says nothing can be nothing else: UTF-8 without control characters. Never
/// HTML: what is shown as a page must be named as one.
pub(super) fn is_text(begin: &[u8]) -> bool {
    /// As much as others look at.
    const LOOKED_AT: usize = 512;
    let begin = begin.get(..LOOKED_AT).unwrap_or(begin);
    let text = match std::str::from_utf8(begin) {
        Ok(text) => text,
        // Cut within a character.
        Err(error) if error.error_len().is_none() => {
            let whole = begin.get(..error.valid_up_to()).unwrap_or_default();
            std::str::from_utf8(whole).unwrap_or_default()
        }
        Err(_) => return false,
    };
    !text.is_empty() && !text.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\r' | '\t' | '\u{c}'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(query: &str, default: Option<&str>) -> Option<String> {
        let header = disposition(&Parameters::parse(Some(query)), default)?;
        Some(header.to_str().unwrap().to_owned())
    }

    #[test]
    fn downloads_are_named() {
        for (query, default, expected) in [
            ("", None, None),
            ("", Some("bafy.car"), Some("attachment; filename=\"bafy.car\"")),
            ("filename=a.bin", Some("bafy.bin"), Some("attachment; filename=\"a.bin\"")),
            ("filename=a.txt", None, Some("inline; filename=\"a.txt\"")),
            ("filename=a.txt&download=true", None, Some("attachment; filename=\"a.txt\"")),
            ("download=true", None, Some("attachment")),
            ("download=false", None, Some("inline")),
            (
                "filename=test%D1%82%D0%B5%D1%81%D1%82.pdf",
                None,
                Some("inline; filename=\"test____.pdf\"; filename*=UTF-8''test%D1%82%D0%B5%D1%81%D1%82.pdf"),
            ),
            (
                "filename=a%22%0d%0ax.txt",
                None,
                Some("inline; filename=\"a___x.txt\"; filename*=UTF-8''a%22%0D%0Ax.txt"),
            ),
        ] {
            assert_eq!(said(query, default).as_deref(), expected, "{query}");
        }
    }

    #[test]
    fn text_is_told_from_other_bytes() {
        assert!(
            is_text(b"hello\n")
                && is_text("ä".repeat(300).as_bytes())
                && is_text("xä".repeat(300).as_bytes())
        );
        assert!(!is_text(b"") && !is_text(b"\0asm") && !is_text(b"\xff\xd8") && !is_text(b"a\x1b[1m"));
    }

    proptest::proptest! {
        #[test]
        fn any_name_can_stand_in_a_header(name: String) {
            let query: String = url::form_urlencoded::Serializer::new(String::new()).append_pair("filename", &name).finish();
            proptest::prop_assert_eq!(said(&query, None).is_some(), !name.is_empty());
        }
    }
}
