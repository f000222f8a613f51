//! The form of short-lived tokens: JWTs (RFC 7519) in the compact form (RFC 7515, 7.1). Whether one is believed is for `sessions.rs`
//! to say; nothing here knows a key.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The longest that is looked at, bytes.
const SIZE: usize = 4096;

/// With what a token is signed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Algorithm {
    /// Ed25519, by a key of this platform.
    #[default]
    #[serde(rename = "EdDSA")]
    EdDsa,
    /// HMAC with SHA-256, by the shared secret.
    #[serde(rename = "HS256")]
    Hs256,
}

/// A token whose signature nobody has looked at yet.
#[derive(Debug)]
pub struct Unverified<'t> {
    /// What it says of itself.
    pub algorithm: Algorithm,
    /// Which key it names.
    pub key: Option<String>,
    /// What is signed.
    pub signed: &'t str,
    /// The signature.
    pub signature: Vec<u8>,
    claims: &'t str,
}

/// What a token says. Times are seconds since 1970 UTC.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// Who issued it.
    pub iss: String,
    /// Whom it is for.
    pub aud: Audience,
    /// Who shows it.
    pub sub: String,
    /// When it ends.
    pub exp: i64,
    /// When it was issued.
    pub iat: i64,
    /// Not before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nbf: Option<i64>,
    /// Its id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jti: Option<String>,
    /// The token that it was exchanged for; without that one it is worth nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tid: Option<String>,
    /// How often that one had been rotated: with its secret before ends what was exchanged for it.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub rot: i64,
    /// Nothing of other projects.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<String>,
    /// Nothing of other functions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub function: Option<String>,
    /// Nothing else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
    /// The project that requests are about which do not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub about: Option<String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's form")]
fn is_zero(count: &i64) -> bool {
    *count == 0
}

/// One, or several.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Audience {
    /// One.
    One(String),
    /// Several.
    Several(Vec<String>),
}

#[derive(Deserialize)]
struct Header {
    alg: Algorithm,
    kid: Option<String>,
    /// Extensions that must be understood, of which we understand none.
    crit: Option<Value>,
}

impl Audience {
    /// Whether it is among them.
    #[must_use]
    pub fn is(&self, wanted: &str) -> bool {
        match self {
            Self::One(one) => one == wanted,
            Self::Several(several) => several.iter().any(|one| one == wanted),
        }
    }
}

impl<'t> Unverified<'t> {
    /// None: it is no token, has more than 4,096 bytes, is signed otherwise, or has extensions that must be understood.
    #[must_use]
    pub fn parse(jwt: &'t str) -> Option<Self> {
        let (signed, signature) = jwt.rsplit_once('.').filter(|_| jwt.len() <= SIZE)?;
        let (header, claims) = signed.split_once('.')?;
        let header: Header = serde_json::from_slice(&decoded(header)?).ok()?;
        let signature = decoded(signature)?;
        if header.crit.is_some() {
            return None;
        }
        Some(Self { algorithm: header.alg, key: header.kid, signed, signature, claims })
    }

    /// What it says: to be asked when the signature is right. None: nothing that a token says.
    #[must_use]
    pub fn claims(&self) -> Option<Claims> {
        serde_json::from_slice(&decoded(self.claims)?).ok()
    }
}

/// What is to be signed.
///
/// # Errors
/// When the claims cannot be written, which they can.
pub fn unsigned(header: &Value, claims: &Claims) -> Result<String, serde_json::Error> {
    Ok(format!("{}.{}", encoded(header.to_string()), encoded(serde_json::to_vec(claims)?)))
}

/// As a part of a token.
pub fn encoded(bytes: impl AsRef<[u8]>) -> String {
    BASE64.encode(bytes)
}

fn decoded(text: &str) -> Option<Vec<u8>> {
    BASE64.decode(text).ok()
}
