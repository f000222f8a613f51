//! The path that routes are matched with: the request's, in the form that the URL standard gives it.

use std::borrow::Cow;

use url::Url;

/// A path without dot segments, `%2e` included; other escapes stay as they are. What the URL standard escapes in a
/// path is escaped, and a backslash is a slash. `None`: this is no path.
#[must_use]
pub fn normal(path: &str) -> Option<Cow<'_, str>> {
    if !path.starts_with('/') {
        return None;
    }
    if is_normal(path) {
        return Some(Cow::Borrowed(path));
    }
    let url = Url::parse(&format!("http://host.invalid{path}")).ok()?;
    Some(Cow::Owned(url.path().to_owned()))
}

/// Whether nothing could have to change: most paths are like this, and cost one pass.
fn is_normal(path: &str) -> bool {
    let mut before = 0;
    path.bytes().all(|byte| {
        let starts_dots = before == b'/' && matches!(byte, b'.' | b'%');
        before = byte;
        let plain = byte.is_ascii_alphanumeric() || b"/-_.~%!$&'()*+,;=:@[]|".contains(&byte);
        plain && !starts_dots
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dot_segments_go_and_other_escapes_stay() {
        for (path, normal_form) in [
            ("/", "/"),
            ("/a/b", "/a/b"),
            ("/a/./b", "/a/b"),
            ("/a/../b", "/b"),
            ("/a/%2e%2E/b", "/b"),
            ("/a/.%2e", "/"),
            ("/a/b/.", "/a/b/"),
            ("/../../a", "/a"),
            ("/a//b", "/a//b"),
            ("//a", "//a"),
            ("/a%2fb", "/a%2fb"),
            ("/.well-known/x", "/.well-known/x"),
            ("/...", "/..."),
            ("/a\\..\\b", "/b"),
            ("/{a}\"", "/%7Ba%7D%22"),
            ("/%2E%2e%2f", "/%2E%2e%2f"),
        ] {
            assert_eq!(normal(path).unwrap(), normal_form, "{path}");
        }
        assert!(normal("*").is_none());
    }

    proptest::proptest! {
        #[test]
        fn the_short_way_tells_the_same(path in "/[a-z/.%2eE~:*{}\\\\-]{0,20}") {
            let long = Url::parse(&format!("http://host.invalid{path}")).unwrap();
            let short = normal(&path).unwrap();
            proptest::prop_assert_eq!(short.as_ref(), long.path());
            proptest::prop_assert_eq!(normal(&short).unwrap(), short.as_ref());
        }
    }
}
