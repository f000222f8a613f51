//! Media types by a file's name. A browser is told never to guess (`nosniff`), so each file has one.

use http::HeaderValue;

const UNKNOWN: HeaderValue = HeaderValue::from_static("application/octet-stream");

/// What well-known URIs without extension are, but for those that certificate authorities read.
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// Text.
pub const PLAIN: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

/// The directory of well-known URIs (RFC 8615).
const WELL_KNOWN: &str = ".well-known";

/// Directories in it whose files are texts (RFC 8555 section 8.3, and what came before it).
const CHALLENGES: [&str; 2] = ["acme-challenge", "pki-validation"];

/// Whether a type says no more than that there are bytes.
#[must_use]
pub fn is_unknown(media_type: &HeaderValue) -> bool {
    *media_type == UNKNOWN
}

/// The media type of a file with these names, the last one its own. Texts are UTF-8.
#[must_use]
pub fn of<S: AsRef<str>>(names: &[S]) -> HeaderValue {
    let Some((name, directories)) = names.split_last() else { return UNKNOWN };
    let Some((_, extension)) = name.as_ref().rsplit_once('.') else { return without_extension(directories) };
    match newer(extension).or_else(|| mime_guess::from_ext(extension).first_raw()) {
        // The ones that a page is made of, without making text.
        Some("text/html") => HeaderValue::from_static("text/html; charset=utf-8"),
        Some("text/css") => HeaderValue::from_static("text/css; charset=utf-8"),
        Some("text/javascript") => HeaderValue::from_static("text/javascript; charset=utf-8"),
        Some("text/plain") => PLAIN,
        Some(text) if text.starts_with("text/") => {
            HeaderValue::try_from(format!("{text}; charset=utf-8")).unwrap_or(UNKNOWN)
        }
        Some(other) => HeaderValue::from_static(other),
        None => UNKNOWN,
    }
}

/// What the list of the crate lacks or has under an older name.
fn newer(extension: &str) -> Option<&'static str> {
    const NEWER: [(&str, &str); 7] = [
        ("mjs", "text/javascript"),
        ("map", "application/json"),
        ("woff", "font/woff"),
        ("otf", "font/otf"),
        ("car", "application/vnd.ipld.car"),
        ("m3u8", "application/vnd.apple.mpegurl"),
        ("ts", "video/mp2t"),
    ];
    NEWER.iter().find(|(known, _)| extension.eq_ignore_ascii_case(known)).map(|(_, newer)| *newer)
}

fn without_extension<S: AsRef<str>>(directories: &[S]) -> HeaderValue {
    let mut directories = directories.iter().map(AsRef::as_ref);
    match (directories.next(), directories.next()) {
        (Some(WELL_KNOWN), Some(next)) if CHALLENGES.contains(&next) => PLAIN,
        (Some(WELL_KNOWN), _) => JSON,
        _ => UNKNOWN,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_their_types() {
        for (path, expected) in [
            ("index.html", "text/html; charset=utf-8"),
            ("a/INDEX.HTM", "text/html; charset=utf-8"),
            ("a.css", "text/css; charset=utf-8"),
            ("a.js", "text/javascript; charset=utf-8"),
            ("a.mjs", "text/javascript; charset=utf-8"),
            ("a.min.js.map", "application/json"),
            ("a.txt", "text/plain; charset=utf-8"),
            ("a.md", "text/markdown; charset=utf-8"),
            ("a.csv", "text/csv; charset=utf-8"),
            ("a.json", "application/json"),
            ("a.webmanifest", "application/manifest+json"),
            ("a.wasm", "application/wasm"),
            ("a.svg", "image/svg+xml"),
            ("a.png", "image/png"),
            ("a.avif", "image/avif"),
            ("a.webp", "image/webp"),
            ("favicon.ico", "image/x-icon"),
            ("a.woff2", "font/woff2"),
            ("a.woff", "font/woff"),
            ("a.ttf", "font/ttf"),
            ("a.otf", "font/otf"),
            ("a.pdf", "application/pdf"),
            ("a.mp4", "video/mp4"),
            ("a.gz", "application/gzip"),
            ("LICENSE", "application/octet-stream"),
            ("a.unheard-of", "application/octet-stream"),
            (".well-known/security.txt", "text/plain; charset=utf-8"),
            (".well-known/assetlinks.json", "application/json"),
            (".well-known/apple-app-site-association", "application/json"),
            (".well-known/matrix/server", "application/json"),
            (".well-known/acme-challenge/token", "text/plain; charset=utf-8"),
            ("x/.well-known/file", "application/octet-stream"),
        ] {
            let names: Vec<&str> = path.split('/').collect();
            assert_eq!(of(&names), expected, "{path}");
        }
    }
}
