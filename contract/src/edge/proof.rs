//! What an edge shows with each request: a JWT (RFC 7519) that it signed itself (EdDSA, RFC 8037), for one minute and for that request:
//! its method (`htm`), path and query (`htu`), as in DPoP (RFC 9449, 4.2), and its body (`bsh`).

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use ring::digest::{SHA256, digest};
use ring::rand::{SecureRandom, SystemRandom};
use serde::{Deserialize, Serialize};

use super::{EdgeError, KeyPair, PublicKey};

/// For so long a proof counts, seconds; clocks may differ by as much.
pub const PROOF_SECONDS: i64 = 60;

/// Bytes of an edge's version.
pub const VERSION: usize = 32;

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
    /// The request's method.
    htm: String,
    /// The request's path and query. Unlike DPoP's it has no host, and no prefix that a proxy takes away: `aud` says whose it is. Also
    /// unlike that it has the query, which says what is asked for.
    htu: String,
    /// The edge's version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ver: Option<String>,
    /// The public half of the key that the answer is sealed to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    epk: Option<PublicKey>,
    /// SHA-256 of the request's body, base64url.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    bsh: Option<String>,
}

/// What a proof is bound to besides its edge, its control plane and its time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bound {
    method: String,
    target: String,
    share: Option<PublicKey>,
    body: Option<String>,
}

/// What a proof that counts says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// The request that it is for.
    pub bound: Bound,
    /// Of this proof: no other one of the same edge has it.
    pub id: String,
    /// It counts up to this second.
    pub until: i64,
    /// Of the edge, at most [`VERSION`] printable characters.
    pub version: Option<String>,
}

impl Bound {
    /// To a request of this method, and this path and query, letter by letter, under the control plane's address:
    /// `/v1/edge/feed?after=7`.
    #[must_use]
    pub fn to(method: &str, target: &str) -> Self {
        Self { method: method.to_owned(), target: target.to_owned(), share: None, body: None }
    }

    /// To the public half of the key that the answer is sealed to, too.
    #[must_use]
    pub fn with_share(self, share: PublicKey) -> Self {
        Self { share: Some(share), ..self }
    }

    /// To the request's body, too.
    #[must_use]
    pub fn with_body(self, body: &[u8]) -> Self {
        Self { body: Some(BASE64.encode(digest(&SHA256, body))), ..self }
    }

    /// The public half of the key that the answer is sealed to, where it is.
    #[must_use]
    pub const fn share(&self) -> Option<&PublicKey> {
        self.share.as_ref()
    }

    /// Checks that the proof was made for a request of this method, path and query.
    ///
    /// # Errors
    /// When it was made for another one.
    pub fn check_request(&self, method: &str, target: &str) -> Result<(), EdgeError> {
        if self.method == method && self.target == target { Ok(()) } else { Err(EdgeError::Request) }
    }

    /// Checks that the proof was made for this body.
    ///
    /// # Errors
    /// When it was made for another one, or for any.
    pub fn check_body(&self, body: &[u8]) -> Result<(), EdgeError> {
        if *self == self.clone().with_body(body) { Ok(()) } else { Err(EdgeError::Body) }
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
        htm: bound.method,
        htu: bound.target,
        ver: Some(env!("CARGO_PKG_VERSION").to_owned()),
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

    /// Checks that the edge with this key made it, for this control plane, a moment ago. Returns what it says.
    ///
    /// # Errors
    /// When one of that is not so.
    pub fn verify(self, edge: &PublicKey, control: &PublicKey, now: i64) -> Result<Shown, EdgeError> {
        edge.verify(self.signed.as_bytes(), &self.signature)?;
        if self.claims.aud != *control {
            return Err(EdgeError::Audience);
        }
        let Claims { iat, exp, jti, htm, htu, ver, epk, bsh, .. } = self.claims;
        let lasts = (0..=PROOF_SECONDS).contains(&exp.saturating_sub(iat));
        if !lasts || iat > now.saturating_add(PROOF_SECONDS) || exp < now.saturating_sub(PROOF_SECONDS) {
            return Err(EdgeError::Time);
        }
        let is_version =
            |text: &String| text.len() <= VERSION && text.bytes().all(|byte| byte.is_ascii_graphic());
        if !ver.as_ref().is_none_or(is_version) {
            return Err(EdgeError::Form);
        }
        let bound = Bound { method: htm, target: htu, share: epk, body: bsh };
        Ok(Shown { bound, id: jti, until: exp.saturating_add(PROOF_SECONDS), version: ver })
    }
}
