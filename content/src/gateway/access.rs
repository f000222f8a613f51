//! Who may read from the gateway.

use http::HeaderMap;
use http::header::AUTHORIZATION;

use super::GatewayError;

/// Shorter tokens can be guessed.
const TOKEN_BYTES: usize = 16;

/// Who may read.
#[derive(Clone, Debug)]
pub enum Access {
    /// Anybody.
    Public,
    /// Whoever has the token.
    Private(Token),
}

/// The secret of a private gateway. Only its hash is kept, and hashes are compared in constant time.
#[derive(Clone)]
pub struct Token(blake3::Hash);

/// No such token is accepted.
#[derive(Debug, thiserror::Error)]
#[error("a gateway's token has {TOKEN_BYTES} or more visible ASCII characters")]
pub struct TokenError;

impl Token {
    /// Takes a token.
    ///
    /// # Errors
    /// When it is too short, or cannot stand in a header.
    pub fn new(text: &str) -> Result<Self, TokenError> {
        let visible = text.bytes().all(|byte| byte.is_ascii_graphic());
        if visible && text.len() >= TOKEN_BYTES {
            Ok(Self(blake3::hash(text.as_bytes())))
        } else {
            Err(TokenError)
        }
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

impl Access {
    /// Whether a request with these headers may read.
    ///
    /// # Errors
    /// When it may not.
    pub fn check(&self, headers: &HeaderMap) -> Result<(), GatewayError> {
        let Self::Private(token) = self else { return Ok(()) };
        let given = headers.get(AUTHORIZATION).and_then(|value| {
            let (scheme, given) = value.as_bytes().split_at_checked(7)?;
            scheme.eq_ignore_ascii_case(b"bearer ").then_some(given)
        });
        match given {
            Some(given) if blake3::hash(given.trim_ascii()) == token.0 => Ok(()),
            _ => Err(GatewayError::Unauthenticated),
        }
    }

    /// Whether caches that several people share may keep an answer.
    pub(super) const fn is_public(&self) -> bool {
        matches!(self, Self::Public)
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn only_the_token_opens_a_private_gateway() {
        let token = "0123456789abcdef";
        let access = Access::Private(Token::new(token).unwrap());
        assert!(!format!("{access:?}").contains(token));
        for (value, opens) in [
            ("Bearer 0123456789abcdef", true),
            ("bearer  0123456789abcdef ", true),
            ("Bearer 0123456789abcdeF", false),
            ("Bearer 0123456789abcde", false),
            ("Bearer ", false),
            ("Bearer", false),
            ("Basic 0123456789abcdef", false),
            ("0123456789abcdef", false),
        ] {
            let headers = HeaderMap::from_iter([(AUTHORIZATION, HeaderValue::from_static(value))]);
            assert_eq!(access.check(&headers).is_ok(), opens, "{value}");
            assert!(Access::Public.check(&headers).is_ok());
        }
        assert!(access.check(&HeaderMap::new()).is_err());
        for weak in ["", "0123456789abcde", "0123456789 abcdef"] {
            assert!(Token::new(weak).is_err(), "{weak}");
        }
    }
}
