//! Settings of deployments. They are sealed before they are stored, and opened for the edges only.

use std::collections::BTreeMap;

use af_contract::{Blake3Hash, SettingName, SettingValue, Settings, setting};

use super::{Error, State};

/// What a deploy changes in the settings of the deployment before: new values, or none for one that goes.
pub type Changes = BTreeMap<SettingName, Option<SettingValue>>;

/// Sealed values by name.
pub type SealedSettings = BTreeMap<SettingName, Vec<u8>>;

/// The next deployment's settings. Those that do not change keep their sealed bytes.
///
/// # Errors
/// When they are too many or too large, or the stored ones cannot be opened.
pub(super) async fn next(
    state: &State,
    function: &str,
    current: Option<&str>,
    changes: Changes,
) -> Result<SealedSettings, Error> {
    let mut sealed = match current {
        Some(deployment) => state.store.settings_of(deployment).await?,
        None => SealedSettings::new(),
    };
    if changes.is_empty() {
        return Ok(sealed);
    }
    let mut all = Settings::new();
    for (name, value) in &sealed {
        all.insert(name.clone(), SettingValue::new(open(state, function, name, value)?));
    }
    for (name, value) in changes {
        match value {
            Some(value) => {
                let internal = |error| Error::Internal(Box::new(error));
                let new = state.seal.seal(&[function, name.as_str()], value.reveal()).map_err(internal)?;
                sealed.insert(name.clone(), new);
                all.insert(name, value);
            }
            None => {
                sealed.remove(&name);
                all.remove(&name);
            }
        }
    }
    setting::check(&all).map_err(|error| Error::invalid("invalid_settings", error))?;
    Ok(sealed)
}

/// What a manifest says of settings.
pub(super) fn digests(sealed: &SealedSettings) -> BTreeMap<SettingName, Blake3Hash> {
    let digest = |value: &Vec<u8>| Blake3Hash(*blake3::hash(value).as_bytes());
    sealed.iter().map(|(name, value)| (name.clone(), digest(value))).collect()
}

pub(super) fn open(state: &State, function: &str, name: &SettingName, value: &[u8]) -> Result<String, Error> {
    let opened = state.seal.unseal(&[function, name.as_str()], value);
    opened.map_err(|error| Error::Internal(Box::new(error)))
}
