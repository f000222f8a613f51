//! Names that users give: function names and the slugs that become host names.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A function's name: 3 to 30 letters, digits and dashes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct FunctionName(String);

/// The first label of a function's host name: 1 to 63 of `[a-z0-9-]`, no dash at either end.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Slug(String);

/// Characters of the random part of an id.
const ULID_LENGTH: usize = 26;

/// Why a name or slug is refused.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Not a function name.
    #[error(
        "{0:?} is not a function name; use 3 to 30 letters, digits and dashes, at least one of them no dash"
    )]
    Function(String),
    /// Not a slug.
    #[error("{0:?} is not a slug; use 1 to 63 of a-z, 0-9 and dashes, with no dash at either end")]
    Slug(String),
}

impl FunctionName {
    /// Checks a name.
    ///
    /// # Errors
    /// When it is too short or long, or has another character.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let fits = (3..=30).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && text.bytes().any(|b| b != b'-');
        if fits { Ok(Self(text.to_owned())) } else { Err(NameError::Function(shorten(text))) }
    }

    /// The name's slug: lower case, each run of other characters one dash, trimmed.
    #[must_use]
    pub fn slug(&self) -> Slug {
        let lower = self.0.to_ascii_lowercase();
        let words: Vec<&str> = lower.split('-').filter(|word| !word.is_empty()).collect();
        Slug(words.join("-"))
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Slug {
    /// Checks a slug.
    ///
    /// # Errors
    /// When it is empty, too long, has another character or a dash at an end.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let fits = (1..=63).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            && !text.starts_with('-')
            && !text.ends_with('-');
        if fits { Ok(Self(text.to_owned())) } else { Err(NameError::Slug(shorten(text))) }
    }

    /// Whether the slug could be taken for the label of a deployment's preview host
    /// ([`crate::feed::preview_label`]).
    #[must_use]
    pub fn is_like_preview(&self) -> bool {
        self.0.rsplit_once("--").is_some_and(|(_, id)| id.len() == ULID_LENGTH && !id.contains('-'))
    }

    /// The slug as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn shorten(text: &str) -> String {
    text.chars().take(80).collect()
}

impl std::borrow::Borrow<str> for Slug {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for FunctionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Slug {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for FunctionName {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        Self::parse(&text)
    }
}

impl From<FunctionName> for String {
    fn from(name: FunctionName) -> Self {
        name.0
    }
}

impl TryFrom<String> for Slug {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        Self::parse(&text)
    }
}

impl From<Slug> for String {
    fn from(slug: Slug) -> Self {
        slug.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_letters_digits_and_dashes() {
        for good in ["abc", "Hello-World", "a1-", "123456789012345678901234567890"] {
            assert!(FunctionName::parse(good).is_ok(), "{good}");
        }
        for bad in ["", "ab", "---", "a b c", "höllo", "a_b", "1234567890123456789012345678901"] {
            assert!(FunctionName::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_slug_is_lower_case_with_single_dashes() {
        let slug = |name| FunctionName::parse(name).unwrap().slug().to_string();
        assert_eq!(slug("Hello--World"), "hello-world");
        assert_eq!(slug("-api-"), "api");
    }

    proptest::proptest! {
        #[test]
        fn every_name_has_a_valid_slug(text in "[a-zA-Z0-9-]{3,30}") {
            if let Ok(name) = FunctionName::parse(&text) {
                proptest::prop_assert!(Slug::parse(name.slug().as_str()).is_ok());
            }
        }
    }
}
