//! Settings of a function as they are typed: NAME=VALUE, or a file of such lines.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::rc::Rc;

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
    let shown = shown(path);
    if path == Path::new("-") {
        return parse(std::io::stdin().lock(), &shown);
    }
    let file = std::fs::File::open(path).with_context(|| format!("cannot read {shown}"))?;
    parse(BufReader::new(file), &shown)
}

/// A file's name as people read it.
pub fn shown(path: &Path) -> String {
    if path == Path::new("-") { "standard input".to_owned() } else { path.display().to_string() }
}

/// Errors name the line, or of a value of several lines its last, and never a value.
fn parse(file: impl BufRead, shown: &str) -> anyhow::Result<Settings> {
    let number = Rc::new(Cell::new(0));
    let lines = Lines { file, number: number.clone(), fresh: true };
    let mut settings = Settings::new();
    let mut seen = BTreeMap::new();
    for line in dotenvy::from_read_iter(lines) {
        let at = format!("line {} of {shown}", number.get());
        let (name, value) = match line {
            Ok(setting) => setting,
            // The library's error has the whole line in it, and so its value.
            Err(dotenvy::Error::LineParse(line, _)) => bail!("{at} {}", fault(&line)),
            Err(_) => bail!("{at} cannot be read as text"),
        };
        let name = SettingName::parse(&name).with_context(|| at.clone())?;
        if let Some(first) = seen.insert(name.clone(), number.get()) {
            bail!("{at} sets {name} again, which line {first} has set; leave one of them out");
        }
        settings.insert(name, SettingValue::new(value));
    }
    Ok(settings)
}

/// Why a line is none. What stands before the `=` may be a piece of a value of several lines, so it is not shown either.
fn fault(line: &str) -> &'static str {
    let line = line.trim_start();
    let line = line.strip_prefix("export ").unwrap_or(line);
    match line.split_once('=').map(|(name, _)| SettingName::parse(name.trim_end())) {
        None => "is not NAME=VALUE",
        Some(Err(_)) => {
            "is not NAME=VALUE: a name has 1 to 128 letters, digits and underscores, and no digit first"
        }
        Some(Ok(_)) => "has a value that cannot be read; values with spaces need quotes",
    }
}

/// Gives a line at a time, so that whoever has read no further than a line's end is known to be there.
struct Lines<R> {
    file: R,
    /// Of the line that was begun last, from 1.
    number: Rc<Cell<usize>>,
    /// The next byte begins a line.
    fresh: bool,
}

impl<R: BufRead> Read for Lines<R> {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        let most = u64::try_from(into.len()).unwrap_or(u64::MAX);
        let mut line = Vec::new();
        self.file.by_ref().take(most).read_until(b'\n', &mut line)?;
        if !line.is_empty() {
            self.number.set(self.number.get() + usize::from(self.fresh));
            self.fresh = line.ends_with(b"\n");
        }
        into.iter_mut().zip(&line).for_each(|(to, byte)| *to = *byte);
        Ok(line.len())
    }
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
        for (file, said) in [
            ("A=1\n\n# b\nB=two secret words", "line 4 of"),
            ("A=\"of\nseveral\nlines\"\nB=\"1\n1A=secret\n", "line 5 of"),
            ("A=1\n1A=secret\n", "line 2 of"),
            ("A=1\n1A=secret\n", "no digit first"),
            ("A=1\nsecret+piece\n", "line 2 of"),
            ("A=1\nB=2\nA=secret\n", "line 3 of"),
            ("A=1\nB=2\nA=secret\n", "sets A again, which line 1 has set"),
        ] {
            std::fs::write(&path, file).unwrap();
            let error = format!("{:#}", read(&[], Some(&path)).unwrap_err());
            assert!(error.contains(said) && !error.contains("secret"), "{file}: {error}");
        }
        assert!(
            format!("{:#}", read(&[], Some(&dir.path().join("none"))).unwrap_err()).contains("cannot read")
        );
    }
}
