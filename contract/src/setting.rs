//! Settings: what a function is told by its owner, such as a key of a service that it calls.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::limits::{SETTING_BYTES, SETTINGS, SETTINGS_BYTES};

/// A setting's name: 1 to 128 letters, digits and underscores, the first no digit.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SettingName(String);

/// A setting's value, which is never shown.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SettingValue(String);

/// All settings of a deployment.
pub type Settings = BTreeMap<SettingName, SettingValue>;

/// Why settings are refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SettingError {
    /// Not a name.
    #[error(
        "{0:?} is not a setting's name; use 1 to 128 letters, digits and underscores, and no digit first"
    )]
    Name(String),
    /// Longer than [`SETTING_BYTES`], or with a NUL byte, which no environment can hold.
    #[error("the value of {0} has {1} bytes; it may have at most {SETTING_BYTES}, and none of them zero")]
    Value(SettingName, usize),
    /// More than [`SETTINGS`].
    #[error("{0} settings are too many; a function may have at most {SETTINGS}")]
    Count(usize),
    /// Together longer than [`SETTINGS_BYTES`].
    #[error("the settings have {0} bytes together; a function may have at most {SETTINGS_BYTES}")]
    Total(usize),
}

impl SettingName {
    /// Checks a name.
    ///
    /// # Errors
    /// When it is empty, too long, or has another character.
    pub fn parse(text: &str) -> Result<Self, SettingError> {
        let fits = (1..=128).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
            && !text.starts_with(|c: char| c.is_ascii_digit());
        let shortened = || text.chars().take(80).collect();
        if fits { Ok(Self(text.to_owned())) } else { Err(SettingError::Name(shortened())) }
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl SettingValue {
    /// Any text; [`check`] says whether it is too long.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// The value, for the function that it is meant for.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

/// Whether a function may have these settings.
///
/// # Errors
/// When a value is too long, or there are too many.
pub fn check(settings: &Settings) -> Result<(), SettingError> {
    for (name, value) in settings {
        check_value(name, value)?;
    }
    check_sizes(settings.iter().map(|(name, value)| (name, value.0.len())))
}

/// Whether a setting may have this value.
///
/// # Errors
/// When it is too long, or has a NUL byte.
pub fn check_value(name: &SettingName, value: &SettingValue) -> Result<(), SettingError> {
    let fits = value.0.len() <= SETTING_BYTES && !value.0.contains('\0');
    if fits { Ok(()) } else { Err(SettingError::Value(name.clone(), value.0.len())) }
}

/// Whether a function may have settings with values of these lengths, in bytes, all together.
///
/// # Errors
/// When there are too many, or they are too long together.
pub fn check_sizes<'a>(settings: impl Iterator<Item = (&'a SettingName, usize)>) -> Result<(), SettingError> {
    let (count, total) =
        settings.fold((0, 0), |(count, total), (name, length)| (count + 1, total + name.0.len() + length));
    match () {
        () if count > SETTINGS => Err(SettingError::Count(count)),
        () if total > SETTINGS_BYTES => Err(SettingError::Total(total)),
        () => Ok(()),
    }
}

impl std::borrow::Borrow<str> for SettingName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SettingName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for SettingValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl TryFrom<String> for SettingName {
    type Error = SettingError;

    fn try_from(text: String) -> Result<Self, SettingError> {
        Self::parse(&text)
    }
}

impl From<SettingName> for String {
    fn from(name: SettingName) -> Self {
        name.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(pairs: &[(&str, usize)]) -> Settings {
        let pairs = pairs.iter();
        pairs
            .map(|(name, size)| (SettingName::parse(name).unwrap(), SettingValue("x".repeat(*size))))
            .collect()
    }

    #[test]
    fn names_are_those_of_an_environment() {
        for name in ["A", "_", "DATABASE_URL", "a1"] {
            assert!(SettingName::parse(name).is_ok(), "{name}");
        }
        for name in ["", "1A", "A-B", "A=B", "Ä", "A B", &"A".repeat(129)] {
            assert!(SettingName::parse(name).is_err(), "{name}");
        }
    }

    #[test]
    fn too_much_is_refused() {
        assert_eq!(check(&settings(&[("A", SETTING_BYTES)])), Ok(()));
        assert!(matches!(check(&settings(&[("A", SETTING_BYTES + 1)])), Err(SettingError::Value(..))));
        let names: Vec<String> = (0..=SETTINGS).map(|number| format!("S{number}")).collect();
        let many: Vec<_> = names.iter().map(|name| (name.as_str(), 1)).collect();
        assert_eq!(check(&settings(&many)), Err(SettingError::Count(SETTINGS + 1)));
        let long: Vec<_> = names.iter().take(10).map(|name| (name.as_str(), SETTING_BYTES)).collect();
        assert!(matches!(check(&settings(&long)), Err(SettingError::Total(_))));
    }

    #[test]
    fn a_value_is_never_shown() {
        assert_eq!(format!("{:?}", settings(&[("A", 3)])), r#"{SettingName("A"): ***}"#);
    }
}
