//! Route tables as options and files have them.

use std::fs;

use af_contract::RouteTable;
use anyhow::{Context, bail};

/// What `--routes` says: JSON, or the path of a file with it. `null` is no table.
pub fn read(option: &str) -> anyhow::Result<Option<RouteTable>> {
    let text = option.trim_start();
    let json = text.starts_with(['{', '[', '"']) || matches!(text.trim_end(), "null" | "true" | "false");
    let (text, from) = if json {
        (option.to_owned(), "--routes".to_owned())
    } else {
        let read = fs::read_to_string(option);
        (
            read.with_context(|| format!("--routes is neither JSON nor a file that can be read: {option}"))?,
            option.to_owned(),
        )
    };
    let value = match serde_json::from_str(&text) {
        Ok(value) => value,
        Err(error) => bail!("{from} is not JSON: {error}"),
    };
    Ok(RouteTable::parse(value)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_are_json_or_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("routes.json");
        fs::write(&path, r#"{"/b": "https://b", "/a": "https://a"}"#).unwrap();
        for option in [path.to_str().unwrap(), r#" {"/b":"https://b","/a":"https://a"}"#] {
            assert_eq!(read(option).unwrap().unwrap().to_string(), r#"{"/b":"https://b","/a":"https://a"}"#);
        }
        assert!(read("null").unwrap().is_none());
        for (option, text) in [
            ("nowhere.json", "neither JSON nor a file"),
            (r#"{"/a": "#, "is not JSON"),
            ("[]", "Routes must be an object mapping path patterns to target URLs"),
            ("{}", "Routes object cannot be empty"),
        ] {
            assert!(format!("{:#}", read(option).unwrap_err()).contains(text), "{option}");
        }
    }
}
