//! Paths that are filled in with what a pattern's parts stood for.

use super::pattern::{Pattern, Token, tokens};

/// A path with places for parameters and wildcards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Literal(String),
    /// What the pattern's part with this number stood for; only parameters and wildcards count.
    Capture(usize),
}

/// What a pattern's parameters and wildcards stood for, in order: pieces of the request's path.
pub type Captures<'a> = [&'a str];

/// Why a template cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// The pattern has no such parameter.
    #[error("the pattern has no parameter :{0}")]
    Unknown(String),
    /// The pattern has fewer wildcards.
    #[error("there are more * than in the pattern")]
    Wildcards,
    /// A path with a segment `.` or `..` came out.
    #[error("the path cannot be forwarded: it would lead to another place of the backend")]
    DotSegment,
}

impl Template {
    /// Reads a template for a pattern.
    ///
    /// # Errors
    /// When it has a part that the pattern lacks.
    pub fn parse(text: &str, pattern: &Pattern) -> Result<Self, TemplateError> {
        let captured: Vec<Token<'_>> =
            pattern.tokens().into_iter().filter(|token| !matches!(token, Token::Literal(_))).collect();
        let mut wildcards =
            captured.iter().enumerate().filter(|(_, token)| **token == Token::Any).map(|(number, _)| number);
        let parts = tokens(text).into_iter().map(|token| match token {
            Token::Literal(text) => Ok(Part::Literal(text.to_owned())),
            Token::Any => wildcards.next().map(Part::Capture).ok_or(TemplateError::Wildcards),
            parameter @ Token::Parameter(name) => {
                let number = captured.iter().position(|token| *token == parameter);
                number.map(Part::Capture).ok_or_else(|| TemplateError::Unknown(name.to_owned()))
            }
        });
        Ok(Self { parts: parts.collect::<Result<_, _>>()? })
    }

    /// Whether nothing is filled in.
    #[must_use]
    pub fn is_fixed(&self) -> bool {
        !self.parts.iter().any(|part| matches!(part, Part::Capture(_)))
    }

    /// The path.
    ///
    /// # Errors
    /// When a segment would be `.` or `..`: captures come from a path without them, but may be joined to one.
    pub fn fill(&self, captures: &Captures<'_>) -> Result<String, TemplateError> {
        let mut path = String::new();
        for part in &self.parts {
            path.push_str(match part {
                Part::Literal(text) => text,
                Part::Capture(number) => captures.get(*number).copied().unwrap_or_default(),
            });
        }
        if path.split(['/', '\\']).any(is_dot_segment) {
            return Err(TemplateError::DotSegment);
        }
        Ok(path)
    }
}

/// As the URL standard knows them, escapes included.
fn is_dot_segment(segment: &str) -> bool {
    segment.len() <= 6 && matches!(segment.to_ascii_lowercase().replace("%2e", ".").as_str(), "." | "..")
}
