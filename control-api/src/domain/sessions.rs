//! Short-lived tokens: JWTs (RFC 7519), signed with keys of this platform (EdDSA, RFC 8037), which others can check by
//! `/.well-known/jwks.json`, or with a secret that is shared with them (HS256).

use ring::hmac;
use ring::signature::{ED25519, UnparsedPublicKey};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::access::{self, Grant, Noun};
use super::audit::{self, Event};
pub use super::jwt::Algorithm;
use super::jwt::{self, Audience, Claims, Unverified};
use super::tokens::Shown;
use super::{Actor, Call, Error, State, id, now, projects, signing_keys, tokens};

/// How long one works unless it is asked for less, seconds.
pub const LIFE: i64 = 15 * 60;

/// The longest that is believed, whoever issued it, seconds.
pub(super) const LONGEST: i64 = 60 * 60;

/// The shortest, seconds.
const SHORTEST: i64 = 60;

/// Clocks may differ by so much, seconds.
const SKEW: i64 = 60;

/// A shared secret has at least as many bytes as the hash (RFC 7518, 3.2).
const SECRET: usize = 32;

/// How tokens are issued and checked.
#[derive(Clone, Debug)]
pub struct SessionConfig {
    /// Who issues them.
    pub issuer: String,
    /// Whom they are for.
    pub audience: String,
    /// For HS256; none: no such token is issued or believed.
    pub secret: Option<SharedSecret>,
}

impl Default for SessionConfig {
    fn default() -> Self {
        Self { issuer: "af".into(), audience: "af".into(), secret: None }
    }
}

/// A secret that other services have, too.
#[derive(Clone)]
pub struct SharedSecret(Zeroizing<Vec<u8>>);

/// A shared secret that is none.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the shared secret has fewer than {SECRET} bytes; `openssl rand -hex 32` makes a good one")]
pub struct BadSecret;

impl std::str::FromStr for SharedSecret {
    type Err = BadSecret;

    fn from_str(text: &str) -> Result<Self, BadSecret> {
        if text.len() < SECRET {
            return Err(BadSecret);
        }
        Ok(Self(Zeroizing::new(text.as_bytes().to_vec())))
    }
}

impl std::fmt::Debug for SharedSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

/// Who asks, and about which project where the request does not say.
#[derive(Clone, Debug)]
pub struct Session {
    /// Who asks.
    pub actor: Actor,
    /// `prj_…`
    pub project: Option<String>,
}

impl From<Actor> for Session {
    fn from(actor: Actor) -> Self {
        Self { project: actor.about.clone(), actor }
    }
}

/// What a new token is to be.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// The project that requests are about which do not say; the token may do as much as it could without.
    pub about: Option<String>,
    /// Nothing of other projects.
    pub project: Option<String>,
    /// Nothing of other functions.
    pub function: Option<String>,
    /// Nothing else.
    pub scopes: Option<String>,
    /// With what it is signed.
    pub algorithm: Algorithm,
    /// For so long it works; 15 minutes when left out.
    pub seconds: Option<i64>,
}

/// A token for what the actor may do, or for one project of it, and when it ends, milliseconds.
///
/// # Errors
/// As for [`issue_as`].
pub async fn issue(state: &State, actor: &Actor, project: Option<&str>) -> Result<(String, i64), Error> {
    issue_as(state, actor, &Wanted { project: project.map(str::to_owned), ..Wanted::default() }).await
}

/// A token that may no more than the actor's own, and when it ends, milliseconds.
///
/// # Errors
/// When it would be more, it is to live too long, what the actor shows has ended, or there is no shared secret for HS256.
pub async fn issue_as(state: &State, actor: &Actor, wanted: &Wanted) -> Result<(String, i64), Error> {
    if is_foreign(&actor.token) {
        let detail = "this token was issued elsewhere; exchange a personal access token or a project's key";
        return Err(Error::forbidden("insufficient_scope", detail));
    }
    let seconds = wanted.seconds.unwrap_or(LIFE);
    if !(SHORTEST..=LIFE).contains(&seconds) {
        let detail = format!("such a token works for {SHORTEST} to {LIFE} seconds");
        return Err(Error::invalid("invalid_expiry", detail));
    }
    let grant = narrowed(state, actor, wanted).await?;
    let jti = id::new("jwt");
    let iat = now() / 1000;
    // What is exchanged again and again ends with the first one.
    let exp = actor.shown.until.map_or(iat + seconds, |until| (until / 1000).min(iat + seconds));
    if exp <= iat {
        return Err(Error::Unauthenticated);
    }
    let config = &state.api.sessions;
    let claims = Claims {
        iss: config.issuer.clone(),
        aud: Audience::One(config.audience.clone()),
        sub: actor.user.clone(),
        exp,
        iat,
        nbf: Some(iat),
        jti: Some(jti.clone()),
        tid: Some(actor.token.clone()),
        rot: actor.shown.rotations,
        project: grant.project,
        function: grant.function,
        scope: grant.scopes.map(|scopes| scopes.to_string()),
        about: wanted.about.clone(),
    };
    let token = match wanted.algorithm {
        Algorithm::EdDsa => {
            let (kid, key) = signing_keys::current(state).await?;
            let signed = signed(&json!({ "alg": "EdDSA", "typ": "JWT", "kid": kid }), &claims)?;
            format!("{signed}.{}", jwt::encoded(key.sign(signed.as_bytes())))
        }
        Algorithm::Hs256 => {
            let key = shared(state).ok_or_else(|| {
                Error::invalid("no_shared_secret", "this platform has no shared secret; ask for EdDSA")
            })?;
            let signed = signed(&json!({ "alg": "HS256", "typ": "JWT" }), &claims)?;
            format!("{signed}.{}", jwt::encoded(hmac::sign(&key, signed.as_bytes())))
        }
    };
    let project = claims.project.as_deref().or(actor.grant.project.as_deref());
    audit::commit(state.store.begin().await?, actor, Event::maybe("session.create", &jti, project)).await?;
    Ok((token, claims.exp * 1000))
}

/// Trades a token for one that lives for minutes, and is about a project where requests do not say.
///
/// # Errors
/// When the token is unknown or expired, or its owner has no such project.
pub async fn open(state: &State, secret: &str, project: Option<&str>) -> Result<String, Error> {
    let actor = tokens::authenticate(state, secret).await?;
    if let Some(project) = project {
        access::see_project(state, &actor, project, Noun::Projects).await?;
    }
    let wanted = Wanted { about: project.map(str::to_owned), ..Wanted::default() };
    Ok(issue_as(state, &actor, &wanted).await?.0)
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

/// Whether a token is one that another service has issued: it has no row.
pub(super) fn is_foreign(token: &str) -> bool {
    !token.starts_with("tok_")
}

/// Whether a short-lived token with this end is none any more. Both in milliseconds.
pub(super) fn has_ended(until: i64, now: i64) -> bool {
    until.saturating_add(SKEW * 1000) <= now
}

/// Whether a secret has the form of a JWT.
pub(super) fn is_jwt(secret: &str) -> bool {
    secret.starts_with("eyJ") && secret.bytes().filter(|byte| *byte == b'.').count() == 2
}

/// Whoever shows this token, and until when it works, milliseconds.
pub(super) async fn check(state: &State, jwt: &str) -> Result<(Actor, i64), Error> {
    let (algorithm, claims) = verified(state, jwt).await?;
    let config = &state.api.sessions;
    let now = now() / 1000;
    let in_time = claims.exp > now.saturating_sub(SKEW)
        && claims.nbf.unwrap_or(claims.iat) <= now + SKEW
        && claims.iat <= now + SKEW
        && claims.exp > claims.iat
        && claims.exp.saturating_sub(claims.iat) <= LONGEST;
    if claims.iss != config.issuer || !claims.aud.is(&config.audience) || !in_time {
        return Err(Error::Unauthenticated);
    }
    let until = claims.exp.saturating_add(SKEW).saturating_mul(1000);
    let exp = claims.exp.saturating_mul(1000);
    let (mut actor, until) = match &claims.tid {
        Some(token) => {
            let row = state.store.token(token).await?.filter(|row| row.user_id == claims.sub);
            let row = row.ok_or(Error::Unauthenticated)?;
            let ends = [row.expires_at, tokens::replaced(&row, claims.rot)?];
            let until = ends.into_iter().flatten().fold(until, i64::min);
            (tokens::actor(row, Shown { until: Some(exp), rotations: claims.rot })?, until)
        }
        // Of another service, which says who it is. Only the shared secret is anybody else's.
        None if algorithm == Algorithm::Hs256 => {
            let user = state.store.user(&claims.sub).await?.ok_or(Error::Unauthenticated)?;
            let token = format!("jwt_{}", user.id);
            let (grant, call) = (Grant::default(), Call::default());
            let shown = Shown { until: Some(exp), rotations: 0 };
            (Actor { user: user.id, token, shown, grant, call, about: None }, until)
        }
        None => return Err(Error::Unauthenticated),
    };
    actor.grant = within(actor.grant, &claims)?;
    actor.about = claims.about;
    Ok((actor, until))
}

/// What both the token behind it and the claims allow.
fn within(grant: Grant, claims: &Claims) -> Result<Grant, Error> {
    let narrower = Grant {
        project: claims.project.clone().or_else(|| grant.project.clone()),
        function: claims.function.clone().or_else(|| grant.function.clone()),
        scopes: match &claims.scope {
            Some(scope) => Some(scope.parse().map_err(|_| Error::Unauthenticated)?),
            None => grant.scopes.clone(),
        },
        role: grant.role,
    };
    if grant.includes(&narrower) { Ok(narrower) } else { Err(Error::Unauthenticated) }
}

async fn narrowed(state: &State, actor: &Actor, wanted: &Wanted) -> Result<Grant, Error> {
    let mut grant = actor.grant.clone();
    if let Some(function) = &wanted.function {
        let function = access::see_function(state, actor, function).await?;
        (grant.project, grant.function) = (Some(function.project_id), Some(function.id));
    }
    if let Some(project) = &wanted.project {
        access::see_project(state, actor, project, Noun::Projects).await?;
        if wanted.function.is_some() && grant.project.as_ref() != Some(project) {
            return Err(Error::not_found("project", project));
        }
        grant.project = Some(project.clone());
    }
    if let Some(scopes) = &wanted.scopes {
        grant.scopes = Some(scopes.parse()?);
    }
    if actor.grant.includes(&grant) {
        return Ok(grant);
    }
    let detail = "a token is exchanged for none that may do more than itself; sign in with another one";
    Err(Error::forbidden("insufficient_scope", detail))
}

/// What a token says, if its signature is right. The key follows from the algorithm, and never does the token choose what
/// kind of key one is.
async fn verified(state: &State, jwt: &str) -> Result<(Algorithm, Claims), Error> {
    let refused = || Error::Unauthenticated;
    let token = Unverified::parse(jwt).ok_or_else(refused)?;
    let (signed, signature) = (token.signed.as_bytes(), token.signature.as_slice());
    let good = match token.algorithm {
        Algorithm::Hs256 => shared(state).is_some_and(|key| hmac::verify(&key, signed, signature).is_ok()),
        Algorithm::EdDsa => {
            let kid = token.key.as_ref().ok_or_else(refused)?;
            let key = signing_keys::public(state, kid).await?.ok_or_else(refused)?;
            UnparsedPublicKey::new(&ED25519, key).verify(signed, signature).is_ok()
        }
    };
    if !good {
        return Err(refused());
    }
    Ok((token.algorithm, token.claims().ok_or_else(refused)?))
}

fn shared(state: &State) -> Option<hmac::Key> {
    let SharedSecret(secret) = state.api.sessions.secret.as_ref()?;
    Some(hmac::Key::new(hmac::HMAC_SHA256, secret))
}

fn signed(header: &Value, claims: &Claims) -> Result<String, Error> {
    jwt::unsigned(header, claims).map_err(|error| Error::Internal(Box::new(error)))
}
