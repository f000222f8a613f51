//! Sessions: JWTs that live for minutes, which clients of the older platforms ask for with a token and show from then on. A
//! session is its token's: it ends with it, and may do nothing more.

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use ring::hmac;
use serde::{Deserialize, Serialize};

use super::access::{self, Noun};
use super::{Actor, Error, State, now, projects, tokens};

/// The one header there is. It is compared, not read: no other algorithm can be asked for.
const HEADER: &str = r#"{"alg":"HS256","typ":"JWT"}"#;

const ISSUER: &str = "af";
const AUDIENCE: &str = "af-control-api";

/// Seconds. The published SDK asks for another session after 8 minutes.
const LIFE: i64 = 15 * 60;

/// What clocks of several servers may differ, seconds.
const SKEW: i64 = 60;

/// The longest JWT that is looked at, bytes; ours have less than 500.
const LONGEST: usize = 2048;

/// Who asks, and about which project where the request does not say.
#[derive(Clone, Debug)]
pub struct Session {
    /// Who asks.
    pub actor: Actor,
    /// `prj_…`
    pub project: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct Claims {
    iss: String,
    aud: String,
    /// `usr_…`
    sub: String,
    /// `tok_…`
    token: String,
    project: Option<String>,
    iat: i64,
    exp: i64,
}

/// Trades a token for a session.
///
/// # Errors
/// When the token is unknown or expired, or its owner has no such project.
pub async fn open(state: &State, secret: &str, project: Option<&str>) -> Result<String, Error> {
    let actor = tokens::authenticate(state, secret).await?;
    if let Some(project) = project {
        access::project(state, &actor, project, Noun::Projects.read()).await?;
    }
    let seconds = now() / 1000;
    let claims = Claims {
        iss: ISSUER.into(),
        aud: AUDIENCE.into(),
        sub: actor.user,
        token: actor.token,
        project: project.map(str::to_owned),
        iat: seconds,
        exp: seconds + LIFE,
    };
    sign(state.seal.session_key(), &claims)
}

/// Whoever shows this session, or this token.
///
/// # Errors
/// When it is none of ours, expired, or its token is gone.
pub async fn authenticate(state: &State, shown: &str) -> Result<Session, Error> {
    // No token of ours has dots.
    if shown.bytes().filter(|byte| *byte == b'.').count() != 2 {
        return Ok(Session { actor: tokens::authenticate(state, shown).await?, project: None });
    }
    let claims = verify(state.seal.session_key(), shown, now() / 1000).ok_or(Error::Unauthenticated)?;
    let actor = tokens::by_id(state, &claims.token).await?;
    if actor.user != claims.sub {
        return Err(Error::Unauthenticated);
    }
    Ok(Session { actor, project: claims.project })
}

/// Which project a request is about: the one that it says, or of the session, or of the token, or the only one there is.
///
/// # Errors
/// When there are several.
pub async fn project(state: &State, session: &Session, said: Option<&str>) -> Result<String, Error> {
    let known = said.or(session.project.as_deref()).or(session.actor.grant.project.as_deref());
    if let Some(project) = known {
        return Ok(project.to_owned());
    }
    let mut mine = projects::list(state, &session.actor, "").await?.items.into_iter();
    match (mine.next(), mine.next()) {
        (Some(only), None) => Ok(only.id),
        _ => {
            let detail = "say which project this is about: with the header X-Project-Id";
            Err(Error::invalid("project_required", detail))
        }
    }
}

fn sign(key: &hmac::Key, claims: &Claims) -> Result<String, Error> {
    let claims = serde_json::to_vec(claims).map_err(|error| Error::Internal(Box::new(error)))?;
    let text = format!("{}.{}", encode(HEADER.as_bytes()), encode(&claims));
    let signature = hmac::sign(key, text.as_bytes());
    Ok(format!("{text}.{}", encode(signature.as_ref())))
}

/// What a JWT says, if this server has signed it and it counts at this second.
fn verify(key: &hmac::Key, jwt: &str, now: i64) -> Option<Claims> {
    if jwt.len() > LONGEST {
        return None;
    }
    let (signed, signature) = jwt.rsplit_once('.')?;
    let (header, claims) = signed.split_once('.')?;
    if header != encode(HEADER.as_bytes()) {
        return None;
    }
    let signature = BASE64_URL_SAFE_NO_PAD.decode(signature).ok()?;
    hmac::verify(key, signed.as_bytes(), &signature).ok()?;
    let claims: Claims = serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(claims).ok()?).ok()?;
    let ours = claims.iss == ISSUER && claims.aud == AUDIENCE;
    (ours && claims.iat <= now + SKEW && now < claims.exp).then_some(claims)
}

fn encode(bytes: &[u8]) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_800_000_000;

    fn key(secret: &[u8]) -> hmac::Key {
        hmac::Key::new(hmac::HMAC_SHA256, secret)
    }

    fn claims() -> Claims {
        Claims {
            iss: ISSUER.into(),
            aud: AUDIENCE.into(),
            sub: "usr_1".into(),
            token: "tok_1".into(),
            project: None,
            iat: NOW,
            exp: NOW + LIFE,
        }
    }

    fn verified(jwt: &str, now: i64) -> bool {
        verify(&key(b"ours"), jwt, now).is_some()
    }

    #[test]
    fn a_session_counts_until_it_expires() {
        let jwt = sign(&key(b"ours"), &claims()).unwrap();
        assert!(verified(&jwt, NOW) && verified(&jwt, NOW + LIFE - 1) && verified(&jwt, NOW - SKEW));
        assert!(!verified(&jwt, NOW + LIFE) && !verified(&jwt, NOW - SKEW - 1));
    }

    #[test]
    fn other_issuers_audiences_and_keys_are_refused() {
        for wrong in [
            Claims { iss: "other".into(), ..claims() },
            Claims { aud: "other".into(), ..claims() },
            Claims { aud: String::new(), ..claims() },
        ] {
            assert!(!verified(&sign(&key(b"ours"), &wrong).unwrap(), NOW));
        }
        assert!(!verified(&sign(&key(b"theirs"), &claims()).unwrap(), NOW));
    }

    #[test]
    fn no_other_algorithm_is_accepted() {
        let body = encode(&serde_json::to_vec(&claims()).unwrap());
        let signed = |header: &str, algorithm| {
            let text = format!("{}.{body}", encode(header.as_bytes()));
            let signature = hmac::sign(&hmac::Key::new(algorithm, b"ours"), text.as_bytes());
            format!("{text}.{}", encode(signature.as_ref()))
        };
        assert!(verified(&signed(HEADER, hmac::HMAC_SHA256), NOW));
        for header in [
            r#"{"alg":"none","typ":"JWT"}"#,
            r#"{"alg":"HS384","typ":"JWT"}"#,
            r#"{"alg":"RS256","typ":"JWT"}"#,
            r#"{"alg":"HS256","typ":"JWT","kid":"../../dev/null"}"#,
            r#"{"typ":"JWT","alg":"HS256"}"#,
        ] {
            assert!(!verified(&signed(header, hmac::HMAC_SHA256), NOW), "{header}");
        }
        assert!(!verified(&signed(HEADER, hmac::HMAC_SHA512), NOW));
        let unsigned = format!("{}.{body}.", encode(br#"{"alg":"none","typ":"JWT"}"#));
        assert!(
            !verified(&unsigned, NOW) && !verified(&format!("{}.{body}.", encode(HEADER.as_bytes())), NOW)
        );
    }

    #[test]
    fn what_was_changed_is_refused() {
        let jwt = sign(&key(b"ours"), &claims()).unwrap();
        for place in (0..jwt.len()).filter(|place| jwt.as_bytes().get(*place) != Some(&b'.')) {
            let mut changed = jwt.clone().into_bytes();
            let byte = changed.get_mut(place).unwrap();
            *byte = if *byte == b'A' { b'B' } else { b'A' };
            // The last character of 43 has two bits that count for nothing, which the decoder refuses too.
            assert!(!verified(&String::from_utf8(changed).unwrap(), NOW), "{place}");
        }
        for text in ["", "..", "a.b.c", &"x.".repeat(3000)] {
            assert!(!verified(text, NOW));
        }
    }
}
