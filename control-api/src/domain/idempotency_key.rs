//! What an `Idempotency-Key` may be (draft-ietf-httpapi-idempotency-key-header).

/// Characters of a key.
const LENGTH: std::ops::RangeInclusive<usize> = 1..=255;

/// A key, if it is one.
#[derive(Debug, PartialEq, Eq)]
pub struct Key(pub(super) String);

/// A key that is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an Idempotency-Key has 1 to 255 visible ASCII characters; a random UUID makes a good one")]
pub struct BadKey;

impl Key {
    /// 1 to 255 visible characters, with or without the quotes of a structured field.
    ///
    /// # Errors
    /// When it is something else.
    pub fn parse(text: &str) -> Result<Self, BadKey> {
        let inner = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text);
        if LENGTH.contains(&inner.len()) && inner.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Ok(Self(inner.to_owned()));
        }
        Err(BadKey)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_visible_and_bounded() {
        for good in ["8e03978e-40d5-43dd-bc93-6894a57f9324", "\"quoted\"", "x", &"k".repeat(255)] {
            assert!(Key::parse(good).is_ok(), "{good}");
        }
        assert_eq!(Key::parse("\"quoted\"").unwrap().0, "quoted");
        for bad in ["", "\"\"", "with space", "tab\t", "ü", &"k".repeat(256)] {
            assert!(Key::parse(bad).is_err(), "{bad}");
        }
    }
}
