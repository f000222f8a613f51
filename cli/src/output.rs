//! What people and programs see: tables and colours on a terminal, JSON on request.

use std::io::{IsTerminal, Write};

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;

use crate::client::{self, Finding};

/// A number and what it counts: `1 block`, `2 blocks`.
pub fn counted(number: u64, one: &str) -> String {
    if number == 1 { format!("1 {one}") } else { format!("{number} {one}s") }
}

/// Where and how to print.
pub struct Output {
    json: bool,
    colour: bool,
}

impl Output {
    pub fn new(json: bool, no_color: bool) -> Self {
        Self { json, colour: !json && !no_color && std::io::stdout().is_terminal() }
    }

    /// A result: `value` for programs, `text` for people.
    pub fn result(&self, value: &Value, text: &str) {
        if self.json { self.line(&format!("{value:#}")) } else { self.line(text) }
    }

    /// One of many results that come one after another: a line. `None`: nobody reads it.
    pub fn item(&self, value: &Value, text: &str) -> Option<()> {
        let mut stdout = std::io::stdout().lock();
        let written = if self.json { writeln!(stdout, "{value}") } else { writeln!(stdout, "{text}") };
        written.and_then(|()| stdout.flush()).ok()
    }

    /// What people may want to know meanwhile, on standard error.
    pub fn note(&self, text: &str) {
        if !self.json {
            // Nobody is left to tell when standard error is closed.
            let _unheard = writeln!(std::io::stderr().lock(), "{text}");
        }
    }

    /// A table of the given fields of each item; with `--json`, the items whole.
    pub fn table(&self, items: &[Value], columns: &[(&str, &str)], empty: &str) {
        self.result(&Value::from(items), &self.columns(items, columns, empty));
    }

    /// The given fields of each item under their titles, or a text where there is no item.
    pub fn columns(&self, items: &[Value], columns: &[(&str, &str)], empty: &str) -> String {
        if items.is_empty() { empty.to_owned() } else { self.rows(items, columns) }
    }

    /// Names and values, one a line.
    pub fn fields(&self, fields: &[(&str, String)]) -> String {
        let width = fields.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
        let line =
            |(name, value): &(&str, String)| format!("{}  {value}", self.bold(&format!("{name:width$}")));
        fields.iter().map(line).collect::<Vec<_>>().join("\n")
    }

    /// What somebody has to do before there is a result, on standard error: a line of JSON for programs, `text` for people.
    pub fn notice(&self, value: &Value, text: &str) {
        let mut stderr = std::io::stderr().lock();
        // Who closes standard error does not want to know.
        let _unheard = if self.json { writeln!(stderr, "{value}") } else { writeln!(stderr, "{text}") };
    }

    /// An error with its causes, on standard error.
    pub fn error(&self, error: &anyhow::Error) {
        let mut stderr = std::io::stderr().lock();
        let written = if self.json {
            writeln!(stderr, "{}", client::described(error))
        } else {
            let table = error.downcast_ref().map_or("", Finding::table);
            let table = if table.is_empty() { String::new() } else { format!("{table}\n") };
            writeln!(stderr, "{table}error: {error:#}")
        };
        // Nobody is left to tell when standard error is closed.
        let _unheard = written;
    }

    /// A bar for `bytes` to send, on a terminal only.
    pub fn progress(&self, bytes: u64) -> ProgressBar {
        self.bar("uploading", bytes)
    }

    /// A bar for `bytes` to get.
    pub fn progress_down(&self, bytes: u64) -> ProgressBar {
        self.bar("downloading", bytes)
    }

    fn bar(&self, what: &str, bytes: u64) -> ProgressBar {
        if self.json || !std::io::stderr().is_terminal() {
            return ProgressBar::hidden();
        }
        let template = format!("  {what} {{bar:30}} {{bytes}}/{{total_bytes}} {{bytes_per_sec}}");
        let style = ProgressStyle::with_template(&template);
        ProgressBar::new(bytes).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
    }

    /// A count of bytes that come, of which nobody knows how many there are, on a terminal only.
    pub fn spinner(&self, doing: &str) -> ProgressBar {
        if self.json || !std::io::stderr().is_terminal() {
            return ProgressBar::hidden();
        }
        let style = ProgressStyle::with_template(&format!("  {doing} {{bytes}} {{bytes_per_sec}}"));
        ProgressBar::new_spinner().with_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()))
    }

    /// Bold on a terminal.
    pub fn bold(&self, text: &str) -> String {
        if self.colour { format!("\x1b[1m{text}\x1b[0m") } else { text.to_owned() }
    }

    fn rows(&self, items: &[Value], columns: &[(&str, &str)]) -> String {
        let cell = |item: &Value, field: &str| match item.get(field) {
            None | Some(Value::Null) => "-".to_owned(),
            Some(Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
        };
        let width = |title: &str, field: &str| {
            items.iter().map(|item| cell(item, field).len()).max().unwrap_or(0).max(title.len())
        };
        let widths: Vec<usize> = columns.iter().map(|(title, field)| width(title, field)).collect();
        let row = |cells: Vec<String>| {
            let padded = cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
            padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
        };
        let head = row(columns.iter().map(|(title, _)| (*title).to_owned()).collect());
        let body = items.iter().map(|item| row(columns.iter().map(|(_, field)| cell(item, field)).collect()));
        std::iter::once(self.bold(&head)).chain(body).collect::<Vec<_>>().join("\n")
    }

    fn line(&self, text: &str) {
        // A closed pipe (`af … | head`) is the reader's choice, not an error.
        let _closed = writeln!(std::io::stdout().lock(), "{text}");
    }
}
