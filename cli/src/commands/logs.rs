//! `af functions logs`: what a function has logged, and what it logs.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use serde_json::{Value, json};

use super::functions::utc;
use super::named::{FUNCTION, find};
use crate::args::logs::Logs;
use crate::client::{Api, Event, Events, text};
use crate::output::Output;

/// Before the first try to connect again; twice as long before each further one.
const PAUSE: Duration = Duration::from_millis(500);

/// The longest.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Shows what was logged; with `--follow` also what comes, until Ctrl-C.
pub async fn logs(api: &Api, options: &Logs, output: &Output) -> anyhow::Result<()> {
    let function = find(api, FUNCTION, &options.name).await?;
    let path = format!("/v1/functions/{}/logs", text(&function, "id"));
    if options.follow {
        return tokio::select! {
            followed = follow(api, &path, output) => followed,
            interrupted = tokio::signal::ctrl_c() => interrupted.context("cannot wait for Ctrl-C"),
        };
    }
    let mut answer = api.get(&format!("{path}?follow=false")).await?;
    let lines = answer.get_mut("data").map(Value::take).unwrap_or_default();
    let mut edges = Edges::default();
    let told: Vec<&Value> = lines.as_array().into_iter().flatten().collect();
    for line in &told {
        edges.note(line);
    }
    let shown: Vec<String> = told.into_iter().map(|line| edges.told(line)).collect();
    let shown = if shown.is_empty() { "nothing was logged lately".to_owned() } else { shown.join("\n") };
    output.result(&lines, &shown);
    Ok(())
}

/// Connects again whenever the connection ends, from where it ended.
async fn follow(api: &Api, path: &str, output: &Output) -> anyhow::Result<()> {
    let mut seen = None::<String>;
    let mut events = Events::new(api.events(path, None).await?);
    let mut pause = PAUSE;
    let mut edges = Edges::default();
    loop {
        let begun = Instant::now();
        let mut is_heard = false;
        while let Some(event) = events.next().await {
            (pause, is_heard) = (PAUSE, true);
            if tell(&event, &mut edges, output)?.is_none() {
                return Ok(());
            }
            seen = event.id.or(seen);
        }
        let waited = pause;
        // A server that ends connections as soon as it has taken them is not asked any faster than one that takes none.
        pause = match is_heard || begun.elapsed() > LONGEST_PAUSE {
            true => PAUSE,
            false => LONGEST_PAUSE.min(pause * 2),
        };
        tokio::time::sleep(waited).await;
        events = loop {
            match api.events(path, seen.as_deref()).await {
                Ok(response) => break Events::new(response),
                Err(error) if error.may_pass() => {
                    pause = LONGEST_PAUSE.min(pause * 2);
                    output.note(&format!("{error}; trying again in {} s", pause.as_secs()));
                    tokio::time::sleep(pause).await;
                }
                Err(error) => return Err(error.into()),
            }
        };
    }
}

/// `None`: nobody reads what is told.
fn tell(event: &Event, edges: &mut Edges, output: &Output) -> anyhow::Result<Option<()>> {
    let data: Value =
        serde_json::from_str(&event.data).context("the server sent an event that is not JSON")?;
    match event.name.as_str() {
        "line" => {
            edges.note(&data);
            Ok(output.item(&data, &edges.readable(&data)))
        }
        "missed" => {
            let lines = data.get("lines").and_then(Value::as_u64);
            let said = match lines {
                Some(lines) => missed(lines),
                None => "[lines may be missing here: the server does not know what was logged meanwhile]"
                    .to_owned(),
            };
            Ok(output.item(&json!({ "missed": lines }), &said))
        }
        "failed" => bail!("{} [{}]", text(&data, "detail"), text(&data, "code")),
        // Of a newer server.
        _ => Ok(Some(())),
    }
}

fn missed(lines: u64) -> String {
    format!("[{lines} lines are missing here: they were lost on their way or not read in time]")
}

/// Edges whose lines were shown: which one a line is from matters to people once there is more than one.
#[derive(Default)]
struct Edges(BTreeSet<String>);

impl Edges {
    fn note(&mut self, line: &Value) {
        let edge = name(line);
        if !self.0.contains(edge) {
            self.0.insert(edge.to_owned());
        }
    }

    /// A line, below what is missing before it.
    fn told(&self, line: &Value) -> String {
        let lines = line.get("missed").and_then(Value::as_u64).map(missed);
        lines.into_iter().chain([self.readable(line)]).collect::<Vec<_>>().join("\n")
    }

    /// A line for people. What a function writes must not move their cursor or name their window.
    fn readable(&self, line: &Value) -> String {
        let at = line.get("at").and_then(Value::as_i64).map(utc).unwrap_or_default();
        let said: String = text(line, "text")
            .chars()
            .map(|c| if c.is_control() && c != '\t' { '\u{fffd}' } else { c })
            .collect();
        let edge = if self.0.len() > 1 { format!("  {}", name(line)) } else { String::new() };
        format!("{at}{edge}  {}  {:8}  {said}", text(line, "requestId"), text(line, "stream"))
    }
}

/// Of the edge that a line is from.
fn name(line: &Value) -> &str {
    // An edge in the control plane's own process has none.
    line.get("edge").and_then(Value::as_str).unwrap_or("here")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_do_nothing_to_a_terminal() {
        let line = json!({
            "at": 1_767_225_630_123_i64, "requestId": "01K", "stream": "stdout", "text": "a\u{1b}[2Jb\tc\u{9b}d\re"
        });
        let shown = Edges::default().readable(&line);
        assert!(shown.ends_with("01K  stdout    a\u{fffd}[2Jb\tc\u{fffd}d\u{fffd}e"), "{shown}");
    }

    #[test]
    fn which_edge_it_was_is_shown_where_there_are_several() {
        let of = |edge: &str| json!({ "at": 1_767_225_630_123_i64, "requestId": "01K", "stream": "stdout", "text": "a", "edge": edge });
        let mut edges = Edges::default();
        edges.note(&of("one"));
        assert!(edges.told(&of("one")).ends_with("Z  01K  stdout    a"), "{}", edges.told(&of("one")));
        edges.note(&json!({}));
        assert!(edges.told(&of("one")).ends_with("  one  01K  stdout    a"));
        let mut line = of("one");
        line["missed"] = json!(3);
        assert!(
            edges.told(&line).starts_with("[3 lines are missing here") && edges.told(&line).contains("]\n20")
        );
    }
}
