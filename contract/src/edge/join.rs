//! How an edge becomes one: an operator names it and gets a token, which the edge is started with once.
//!
//! The token never travels. The edge sends its public key with an HMAC under the token's secret, so that nobody who sees that
//! can join with a key of their own; and the token has the fingerprint of the feed key, so that the edge trusts no other.

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use ring::digest::{SHA256, digest};
use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{EdgeError, PublicKey};

const PREFIX: &str = "afj_";

const SECRET_BYTES: usize = 24;

const FINGERPRINT_BYTES: usize = 16;

/// A token that makes its holder an edge, once: `afj_ID.SECRET.FINGERPRINT`.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinToken {
    /// `edge_…`
    pub edge: String,
    secret: Zeroizing<[u8; SECRET_BYTES]>,
    fingerprint: [u8; FINGERPRINT_BYTES],
}

/// Sent by who wants to join, as JSON.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct JoinRequest {
    /// `edge_…`
    pub edge: String,
    /// The edge's own key.
    pub public_key: PublicKey,
    /// HMAC-SHA256 of id and key under the token's secret, base64url.
    pub proof: String,
}

/// What it gets, as JSON.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JoinAnswer {
    /// The control plane's, which signs the feed.
    pub feed_key: PublicKey,
}

impl JoinToken {
    /// A new one for the edge with this id, at the control plane with this feed key.
    ///
    /// # Errors
    /// When the system has no randomness.
    pub fn new(edge: &str, feed_key: &PublicKey) -> Result<Self, EdgeError> {
        let mut secret = Zeroizing::new([0; SECRET_BYTES]);
        SystemRandom::new().fill(&mut *secret).map_err(|_| EdgeError::Random)?;
        Ok(Self { edge: edge.to_owned(), secret, fingerprint: fingerprint(feed_key) })
    }

    /// What the control plane keeps, sealed.
    #[must_use]
    pub fn secret(&self) -> &[u8] {
        &*self.secret
    }

    /// As it is told once.
    #[must_use]
    pub fn reveal(&self) -> Zeroizing<String> {
        let (secret, fingerprint) = (BASE64.encode(*self.secret), BASE64.encode(self.fingerprint));
        Zeroizing::new(format!("{PREFIX}{}.{secret}.{fingerprint}", self.edge))
    }

    /// Asks to join with this key.
    #[must_use]
    pub fn request(&self, key: &PublicKey) -> JoinRequest {
        let proof = hmac::sign(&mac(&*self.secret), &message(&self.edge, key));
        JoinRequest { edge: self.edge.clone(), public_key: *key, proof: BASE64.encode(proof.as_ref()) }
    }

    /// Whether this is the key of the control plane that the token is of.
    ///
    /// # Errors
    /// When it is another one.
    pub fn check(&self, feed_key: &PublicKey) -> Result<(), EdgeError> {
        if fingerprint(feed_key) == self.fingerprint { Ok(()) } else { Err(EdgeError::Audience) }
    }
}

impl JoinRequest {
    /// Whether it was made by who has the token with this secret.
    ///
    /// # Errors
    /// When it was not.
    pub fn verify(&self, secret: &[u8]) -> Result<(), EdgeError> {
        let proof = BASE64.decode(&self.proof).map_err(|_| EdgeError::Form)?;
        let verified = hmac::verify(&mac(secret), &message(&self.edge, &self.public_key), &proof);
        verified.map_err(|_| EdgeError::Signature)
    }
}

fn mac(secret: &[u8]) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, secret)
}

fn message(edge: &str, key: &PublicKey) -> Vec<u8> {
    format!("af edge join 1\0{edge}\0{key}").into_bytes()
}

fn fingerprint(key: &PublicKey) -> [u8; FINGERPRINT_BYTES] {
    let mut short = [0; FINGERPRINT_BYTES];
    short.copy_from_slice(
        digest(&SHA256, key.bytes()).as_ref().get(..FINGERPRINT_BYTES).unwrap_or(&[0; FINGERPRINT_BYTES]),
    );
    short
}

impl FromStr for JoinToken {
    type Err = EdgeError;

    fn from_str(text: &str) -> Result<Self, EdgeError> {
        let mut parts = text.strip_prefix(PREFIX).ok_or(EdgeError::Form)?.split('.');
        let (Some(edge), Some(secret), Some(fingerprint), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(EdgeError::Form);
        };
        let decoded = |text: &str| BASE64.decode(text).map(Zeroizing::new).map_err(|_| EdgeError::Form);
        let secret = decoded(secret)?.as_slice().try_into().map_err(|_| EdgeError::Form)?;
        let fingerprint = decoded(fingerprint)?.as_slice().try_into().map_err(|_| EdgeError::Form)?;
        Ok(Self { edge: edge.to_owned(), secret: Zeroizing::new(secret), fingerprint })
    }
}

impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}.***", self.edge)
    }
}
