//! What a body or query cannot be read for, in words of HTTP and JSON instead of those of this program.

use std::error::Error;

use af_contract::strict::{Plain, Strictly};
use serde::de::DeserializeOwned;

/// What deserializers call things, and what clients know them as.
const WORDS: [(&str, &str); 11] = [
    ("invalid type: map", "invalid type: object"),
    ("invalid type: sequence", "invalid type: array"),
    ("expected a map", "expected an object"),
    ("expected a sequence", "expected an array"),
    ("expected u8", "expected a whole number from 0 to 255"),
    ("expected u16", "expected a whole number from 0 to 65535"),
    ("expected u32", "expected a whole number from 0 to 4294967295"),
    ("expected u64", "expected a whole number from 0"),
    ("expected usize", "expected a whole number from 0"),
    ("expected i64", "expected a whole number"),
    ("expected unit", "expected null"),
];

/// Before the name of a type.
const TYPES: [&str; 3] = ["expected struct ", "expected tuple struct ", "expected internally tagged enum "];

/// Reads JSON of a query, a header or a lenient body as strictly as [`super::problem::object`] reads bodies.
pub(super) fn document<T: DeserializeOwned>(text: impl AsRef<[u8]>) -> serde_json::Result<T> {
    let Plain = serde_json::from_slice(text.as_ref())?;
    serde_json::from_slice(text.as_ref()).map(|Strictly(value)| value)
}

/// The cause of what the framework refused, which names the place: `limits.functions: invalid value: …`.
pub(super) fn words(rejection: &dyn Error) -> String {
    let text = rejection.source().map_or_else(|| rejection.to_string(), ToString::to_string);
    translated(text)
}

pub(super) fn translated(mut text: String) -> String {
    for (word, plain) in WORDS {
        text = text.replace(word, plain);
    }
    for word in TYPES {
        if let Some((before, after)) = text.split_once(word) {
            let after = after.trim_start_matches(|c: char| c.is_alphanumeric() || c == '_');
            text = format!("{before}expected an object{after}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "it is only read")]
    struct Thing {
        name: String,
        percent: u8,
        within: Option<Box<Thing>>,
    }

    #[test]
    fn nothing_is_told_of_this_program() {
        for (body, told) in [
            (r#"{"name":7}"#, "invalid type: integer `7`, expected a string at line 1 column 9"),
            (r#"{"name":{}}"#, "invalid type: object, expected a string at line 1 column 8"),
            (r#"{"name":"a"}"#, "missing field `percent` at line 1 column 12"),
            (
                r#"{"nmae":"a"}"#,
                "unknown field `nmae`, expected one of `name`, `percent`, `within` at line 1 column 7",
            ),
            (
                r#"{"percent":300}"#,
                "invalid value: integer `300`, expected a whole number from 0 to 255 at line 1 column 14",
            ),
            (r#"{"within":7}"#, "invalid type: integer `7`, expected an object at line 1 column 11"),
        ] {
            let error = serde_json::from_str::<Thing>(body).unwrap_err();
            assert_eq!(translated(error.to_string()), told);
        }
    }
}
