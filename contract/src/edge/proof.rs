//! What an edge shows with each request: a JWT (RFC 7519) that it signed itself (EdDSA, RFC 8037), for one minute.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use ring::digest::{SHA256, digest};
use ring::rand::{SecureRandom, SystemRandom};
use serde::{Deserialize, Serialize};

use super::{EdgeError, KeyPair, PublicKey};

/// For so long a proof counts, seconds; clocks may differ by as much.
pub const PROOF_SECONDS: i64 = 60;

/// Bytes; longer ones are not read.
const LONGEST: usize = 2048;

/// The only header: no other algorithm is ever asked for.
const HEADER: &str = r#"{"alg":"EdDSA","typ":"af-edge+jwt"}"#;

#[derive(Serialize, Deserialize)]
struct Claims {
    iss: String,
    aud: PublicKey,
    iat: i64,
    exp: i64,
    jti: String,
    /// The public half of the key that the answer is sealed to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    epk: Option<PublicKey>,
    /// SHA-256 of the request's body, base64url.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    bsh: Option<String>,
}

/// What a proof is bound to besides its edge, its control plane and its time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bound {
    /// The public half of the key that the answer is sealed to, where it is.
    pub share: Option<PublicKey>,
    body: Option<String>,
}

impl Bound {
    /// To the request's body, too.
    #[must_use]
    pub fn with_body(self, body: &[u8]) -> Self {
        Self { body: Some(BASE64.encode(digest(&SHA256, body))), ..self }
    }

    /// Checks that the proof was made for this body.
    ///
    /// # Errors
    /// When it was made for another one, or for any.
    pub fn check_body(&self, body: &[u8]) -> Result<(), EdgeError> {
        if *self == self.clone().with_body(body) { Ok(()) } else { Err(EdgeError::Body) }
    }
}

impl From<Option<PublicKey>> for Bound {
    fn from(share: Option<PublicKey>) -> Self {
        Self { share, body: None }
    }
}

/// A proof that was read, and not verified yet.
pub struct Proof<'a> {
    signed: &'a str,
    signature: Vec<u8>,
    claims: Claims,
}

/// Makes a proof: `edge` (`edge_…`) asks the control plane with the feed key `control`.
///
/// # Errors
/// When the system has no randomness.
pub fn prove(
    key: &KeyPair,
    edge: &str,
    control: &PublicKey,
    bound: Bound,
    now: i64,
) -> Result<String, EdgeError> {
    let mut id = [0; 16];
    SystemRandom::new().fill(&mut id).map_err(|_| EdgeError::Random)?;
    let claims = Claims {
        iss: edge.to_owned(),
        aud: *control,
        iat: now,
        exp: now + PROOF_SECONDS,
        jti: BASE64.encode(id),
        epk: bound.share,
        bsh: bound.body,
    };
    let claims = serde_json::to_vec(&claims).map_err(|_| EdgeError::Form)?;
    let signed = format!("{}.{}", BASE64.encode(HEADER), BASE64.encode(claims));
    let signature = key.sign(signed.as_bytes());
    Ok(format!("{signed}.{}", BASE64.encode(signature.as_ref())))
}

impl<'a> Proof<'a> {
    /// Reads one, to see who wants to be known.
    ///
    /// # Errors
    /// When it is none.
    pub fn read(text: &'a str) -> Result<Self, EdgeError> {
        if text.len() > LONGEST {
            return Err(EdgeError::Form);
        }
        let decoded = |text: &str| BASE64.decode(text).map_err(|_| EdgeError::Form);
        let (signed, signature) = text.rsplit_once('.').ok_or(EdgeError::Form)?;
        let (header, claims) = signed.split_once('.').ok_or(EdgeError::Form)?;
        if decoded(header)? != HEADER.as_bytes() {
            return Err(EdgeError::Form);
        }
        let claims = serde_json::from_slice(&decoded(claims)?).map_err(|_| EdgeError::Form)?;
        Ok(Self { signed, signature: decoded(signature)?, claims })
    }

    /// Who says that it is.
    #[must_use]
    pub fn edge(&self) -> &str {
        &self.claims.iss
    }

    /// Checks that the edge with this key made it, for this control plane, a moment ago. Returns what else it is bound to.
    ///
    /// # Errors
    /// When one of that is not so.
    pub fn verify(self, edge: &PublicKey, control: &PublicKey, now: i64) -> Result<Bound, EdgeError> {
        edge.verify(self.signed.as_bytes(), &self.signature)?;
        if self.claims.aud != *control {
            return Err(EdgeError::Audience);
        }
        let Claims { iat, exp, epk, bsh, .. } = self.claims;
        let lasts = (0..=PROOF_SECONDS).contains(&exp.saturating_sub(iat));
        if !lasts || iat > now.saturating_add(PROOF_SECONDS) || exp < now.saturating_sub(PROOF_SECONDS) {
            return Err(EdgeError::Time);
        }
        Ok(Bound { share: epk, body: bsh })
    }
}
