//! Server-sent events (HTML, section 9.2), as they come.

use std::time::Duration;

use reqwest::Response;

/// A server that says nothing for so long is gone: a control API says something every 15 seconds.
const SILENCE: Duration = Duration::from_secs(60);

/// Bytes of an event. A line of a log has 8 KiB, and may be six times as long in JSON.
const EVENT_BYTES: usize = 256 << 10;

/// What a server says.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Event {
    pub id: Option<String>,
    pub name: String,
    pub data: String,
}

/// A response that is events.
pub struct Events {
    response: Response,
    parser: Parser,
}

#[derive(Default)]
struct Parser {
    unread: Vec<u8>,
    event: Event,
    bytes: usize,
}

impl Events {
    pub fn new(response: Response) -> Self {
        Self { response, parser: Parser::default() }
    }

    /// The next event; none when the server has said all, or cannot be heard any more.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            match self.parser.event() {
                Ok(Some(event)) => return Some(event),
                Ok(None) => {}
                Err(TooLong) => return None,
            }
            let chunk = tokio::time::timeout(SILENCE, self.response.chunk()).await;
            self.parser.unread.extend(chunk.ok()?.ok()??);
        }
    }
}

/// No control API sends such an event.
#[derive(Debug)]
struct TooLong;

impl Parser {
    fn event(&mut self) -> Result<Option<Event>, TooLong> {
        while let Some(end) = self.unread.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.unread.drain(..=end).collect();
            self.bytes += line.len();
            let line = String::from_utf8_lossy(&line);
            let line = line.trim_end_matches(['\r', '\n']);
            if !line.is_empty() {
                self.field(line);
            } else {
                self.bytes = 0;
                let event = std::mem::take(&mut self.event);
                // As browsers have it: a comment alone is no event.
                if !event.data.is_empty() {
                    return Ok(Some(event));
                }
            }
        }
        if self.bytes + self.unread.len() > EVENT_BYTES { Err(TooLong) } else { Ok(None) }
    }

    fn field(&mut self, line: &str) {
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match name {
            "id" => self.event.id = Some(value.to_owned()),
            "event" => value.clone_into(&mut self.event.name),
            "data" => {
                if !self.event.data.is_empty() {
                    self.event.data.push('\n');
                }
                self.event.data.push_str(value);
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SENT: &str =
        ": hello\n\nid: 1-0\nevent: line\ndata: {\"a\": 1}\n\ndata:one\r\ndata: two\r\n\r\nevent: half";

    #[test]
    fn events_are_the_same_however_they_are_cut() {
        for size in 1..SENT.len() {
            let (mut parser, mut events) = (Parser::default(), Vec::new());
            for chunk in SENT.as_bytes().chunks(size) {
                parser.unread.extend(chunk);
                while let Some(event) = parser.event().unwrap() {
                    events.push(event);
                }
            }
            let first = Event { id: Some("1-0".into()), name: "line".into(), data: "{\"a\": 1}".into() };
            let second = Event { data: "one\ntwo".into(), ..Event::default() };
            assert_eq!(events, [first, second], "{size} bytes at a time");
        }
    }

    #[test]
    fn an_event_without_an_end_is_given_up() {
        for sent in ["x".repeat(EVENT_BYTES + 1), "data: x\n".repeat(EVENT_BYTES / 8 + 1)] {
            let mut parser = Parser { unread: sent.into_bytes(), ..Parser::default() };
            assert!(parser.event().is_err());
        }
    }
}
