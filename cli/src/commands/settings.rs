//! Settings of a function as they are typed: NAME=VALUE, or a file of such lines.

use std::path::Path;

use af_contract::{SettingName, SettingValue, Settings, setting};
use anyhow::{Context, bail};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;

/// All of them; the command line has the last word.
pub fn read(pairs: &[String], file: Option<&Path>) -> anyhow::Result<Settings> {
    let mut settings = match file {
        Some(path) => read_file(path)?,
        None => Settings::new(),
    };
    for pair in pairs {
        let Some((name, value)) = pair.split_once('=') else {
            bail!(
                "--env takes NAME=VALUE, and there is no = in {:?}",
                pair.chars().take(20).collect::<String>()
            )
        };
        settings.insert(SettingName::parse(name)?, SettingValue::new(value.to_owned()));
    }
    setting::check(&settings)?;
    Ok(settings)
}

/// Those of a file in dotenv format; `-` is standard input.
pub fn read_file(path: &Path) -> anyhow::Result<Settings> {
    let shown = path.display();
    if path == Path::new("-") {
        return parse(dotenvy::from_read_iter(std::io::stdin()), "standard input");
    }
    let file = std::fs::File::open(path).with_context(|| format!("cannot read {shown}"))?;
    parse(dotenvy::from_read_iter(file), &shown.to_string())
}

fn parse(
    lines: impl Iterator<Item = dotenvy::Result<(String, String)>>,
    shown: &str,
) -> anyhow::Result<Settings> {
    let mut settings = Settings::new();
    for line in lines {
        // The library's error has the whole line in it, and so its value.
        let Ok((name, value)) = line else {
            bail!("{shown} has a line that is not NAME=VALUE; values with spaces need quotes")
        };
        settings.insert(SettingName::parse(&name)?, SettingValue::new(value));
    }
    Ok(settings)
}

/// As the control API takes them; none when there is nothing to change.
pub fn header(settings: &Settings) -> anyhow::Result<Option<String>> {
    if settings.is_empty() {
        return Ok(None);
    }
    Ok(Some(BASE64_URL_SAFE_NO_PAD.encode(serde_json::to_vec(settings)?)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failure here is the test's failure")]

    use super::*;

    fn shown(settings: &Settings) -> Vec<String> {
        settings.iter().map(|(name, value)| format!("{name}={}", value.reveal())).collect()
    }

    #[test]
    fn a_file_and_the_command_line_add_up() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(".env");
        std::fs::write(&path, "# comment\nexport A=1\nB=\"two words\"\nC='$HOME'\n\n").unwrap();
        let settings = read(&["A=2=3".into(), "D=".into()], Some(&path)).unwrap();
        assert_eq!(shown(&settings), ["A=2=3", "B=two words", "C=$HOME", "D="]);
        assert_eq!(header(&Settings::new()).unwrap(), None);
    }

    #[test]
    fn what_is_no_setting_is_refused_without_its_value() {
        for (pair, said) in
            [("novalue", "no ="), ("1A=secret", "not a setting's name"), ("=secret", "not a setting's name")]
        {
            let error = format!("{:#}", read(&[pair.into()], None).unwrap_err());
            assert!(error.contains(said) && !error.contains("secret"), "{error}");
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(".env");
        std::fs::write(&path, "A=b secret\n").unwrap();
        let error = format!("{:#}", read(&[], Some(&path)).unwrap_err());
        assert!(!error.contains("secret"), "{error}");
        assert!(
            format!("{:#}", read(&[], Some(&dir.path().join("none"))).unwrap_err()).contains("cannot read")
        );
    }
}
