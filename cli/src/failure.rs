//! A failure that programs tell from others by its code, with what else there is to say of it.

use serde_json::{Map, Value, json};

/// Why a command did not do what it was to do.
#[derive(Debug, thiserror::Error)]
#[error("{detail}")]
pub struct Failure {
    code: &'static str,
    detail: String,
    /// Lines for people, before the error itself.
    table: String,
    /// For programs, beside the code.
    fields: Map<String, Value>,
}

impl Failure {
    /// With a stable code, and a sentence that says what to do.
    pub fn new(code: &'static str, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into(), table: String::new(), fields: Map::new() }
    }

    /// Says more: `table` to people, `value` under `name` to programs.
    pub fn with(mut self, table: String, name: &str, value: Value) -> Self {
        self.table = table;
        self.fields.insert(name.to_owned(), value);
        self
    }

    /// What people see before the error; may be empty.
    pub fn table(&self) -> &str {
        &self.table
    }

    /// What programs see, with the text of the whole error.
    pub fn value(&self, detail: &str) -> Value {
        let mut fields = self.fields.clone();
        fields.insert("code".to_owned(), self.code.into());
        fields.insert("detail".to_owned(), detail.into());
        json!({ "error": fields })
    }
}
