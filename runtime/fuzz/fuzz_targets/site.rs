//! Any path, range and `_redirects` of a site is refused, or leads to something that is there to be named.

#![no_main]

#[path = "../../src/site"]
mod site {
    pub mod coding;
    pub mod redirects;
}

use af_content::serving::path::FilePath;
use af_content::serving::{conditional, range};
use http::header::{ACCEPT_ENCODING, IF_NONE_MATCH, RANGE};
use http::{HeaderMap, HeaderValue};
use libfuzzer_sys::fuzz_target;

use crate::site::coding;
use crate::site::redirects::{Outcome, Redirects};

fuzz_target!(|input: (&str, &[u8], &[u8], u64)| {
    let (path, rules, header, size) = input;
    if let Ok(header) = HeaderValue::from_bytes(header) {
        let headers: HeaderMap =
            [RANGE, IF_NONE_MATCH, ACCEPT_ENCODING].map(|name| (name, header.clone())).into_iter().collect();
        if let Ok(Some(wanted)) = range::wanted(conditional::range(&headers, "\"a\""), size) {
            assert!(wanted.start < wanted.end && wanted.end <= size);
        }
        conditional::judge(&headers, "\"a\"");
        assert!(coding::accepted(&headers).len() <= 3);
    }
    let Ok(path) = FilePath::parse(path) else { return };
    for name in path.names() {
        assert!(!name.is_empty() && name != "." && name != ".." && !name.contains(['/', '\0']));
    }
    let Ok(rules) = Redirects::parse(rules) else { return };
    match rules.find(&path, Some("a=b")) {
        Some(Outcome::Elsewhere(_, location)) => {
            assert!(HeaderValue::try_from(&location).is_ok());
            let inside = location.starts_with('/') && !location.starts_with("//") && !location.contains('\\');
            assert!(inside || location.starts_with("https://") || location.starts_with("http://"));
        }
        Some(Outcome::File(_, file)) => assert!(file.starts_with('/')),
        None => {}
    }
});
