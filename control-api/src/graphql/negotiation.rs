//! Which media type an answer has: of the GraphQL-over-HTTP specification, and what its section on media types leaves open for clients that
//! say nothing.

use axum::http::HeaderMap;
use axum::http::header::ACCEPT;

/// How an answer is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// `application/json`: for older clients, whose statuses say little.
    Json,
    /// `application/graphql-response+json`: statuses say what came of it.
    Graphql,
    /// `text/event-stream`: one event for each response.
    Events,
}

const KNOWN: [(&str, &str, Answer); 3] = [
    ("application", "json", Answer::Json),
    ("application", "graphql-response+json", Answer::Graphql),
    ("text", "event-stream", Answer::Events),
];

impl Answer {
    pub(super) fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/json; charset=utf-8",
            Self::Graphql => "application/graphql-response+json; charset=utf-8",
            Self::Events => "text/event-stream",
        }
    }

    /// What the client likes best. `None`: nothing that there is.
    pub(super) fn choose(headers: &HeaderMap) -> Option<Self> {
        let accepted: Vec<&str> =
            headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok()).collect();
        if accepted.is_empty() {
            return Some(Self::Json);
        }
        let ranges = accepted.iter().flat_map(|value| value.split(','));
        let mut best: Option<(u32, Self)> = None;
        for (quality, range) in ranges.filter_map(range) {
            // The first of those that it likes as much.
            if quality > 0 && best.is_none_or(|(known, _)| quality > known) {
                best = Some((quality, range));
            }
        }
        best.map(|(_, answer)| answer)
    }
}

/// A media range's quality, in thousandths, and what it means here.
fn range(text: &str) -> Option<(u32, Answer)> {
    let mut parts = text.split(';').map(str::trim);
    let kind = parts.next()?.to_ascii_lowercase();
    let quality = parts.filter_map(|part| part.strip_prefix("q=")).find_map(|q| q.parse::<f32>().ok());
    let (major, minor) = kind.split_once('/')?;
    let matches = |known: &&(&str, &str, Answer)| {
        (major == "*" || major == known.0) && (minor == "*" || minor == known.1)
    };
    let (_, _, answer) = KNOWN.iter().find(matches)?;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 1000")]
    let quality = (quality.unwrap_or(1.0).clamp(0.0, 1.0) * 1000.0) as u32;
    Some((quality, *answer))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_of_what_there_is_is_chosen() {
        for (accept, chosen) in [
            ("application/json", Some(Answer::Json)),
            ("application/graphql-response+json", Some(Answer::Graphql)),
            ("application/graphql-response+json, application/json;q=0.9", Some(Answer::Graphql)),
            ("application/json, multipart/mixed", Some(Answer::Json)),
            ("application/json;q=0.5, application/graphql-response+json;q=0.7", Some(Answer::Graphql)),
            ("*/*", Some(Answer::Json)),
            ("application/*;q=0.1", Some(Answer::Json)),
            ("text/event-stream", Some(Answer::Events)),
            ("text/html, */*;q=0.8", Some(Answer::Json)),
            ("text/html", None),
            ("application/json;q=0", None),
            ("", None),
        ] {
            let headers = HeaderMap::from_iter([(ACCEPT, accept.parse().unwrap())]);
            assert_eq!(Answer::choose(&headers), chosen, "{accept}");
        }
        assert_eq!(Answer::choose(&HeaderMap::new()), Some(Answer::Json));
    }
}
