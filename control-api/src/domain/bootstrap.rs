//! The first start: a user, a project and a token, so that a new server can be used at once.

use super::access::Grant;
use super::audit::{self, Event};
use super::{Actor, Error, State, id, now, organizations, projects, tokens};
use crate::store::{
    NewToken, StoreError, TokenRow, UserRow, organizations as organization_rows, projects as project_rows,
};
use crate::store::{tokens as token_rows, users};

/// Shorter ones could be guessed.
const SHORTEST: usize = 16;

/// What the first start made.
#[derive(Clone, Debug)]
pub struct Made {
    /// `prj_…`
    pub project: String,
    /// The token's secret, shown only now.
    pub token: String,
}

/// Makes the first user, project and token where there is no user yet. A `token` that is given works
/// after this call, also on later starts.
///
/// # Errors
/// When the token has no usable form, or the database fails.
pub async fn first_start(state: &State, token: Option<&str>) -> Result<Option<Made>, Error> {
    if let Some(token) = token {
        check(token)?;
    }
    match (state.store.first_user().await?, token) {
        (None, token) => make(state, token).await,
        (Some(user), Some(token)) => add(state, &user, token).await.map(|()| None),
        (Some(_), None) => Ok(None),
    }
}

async fn make(state: &State, token: Option<&str>) -> Result<Option<Made>, Error> {
    let secret = token.map_or_else(tokens::random_secret, |token| Ok(token.to_owned()))?;
    let (user, organization) = (id::new("usr"), organizations::new("first")?);
    let project = projects::new(&organization.id, "first")?;
    let row = tokens::row(&user, "first start", &secret, None, &Grant::default());
    let mut db = state.store.begin().await?;
    if users::has_operator(&mut db).await? {
        // Another server was faster.
        drop(db);
        return Box::pin(first_start(state, token)).await;
    }
    users::insert(&mut db, &user, "owner", None, now()).await?;
    users::make_operator(&mut db, &user).await?;
    organization_rows::insert(&mut db, &organization, &user).await?;
    project_rows::insert(&mut db, &project).await?;
    token_rows::insert(&mut db, NewToken { row: &row, hash: tokens::hash(&secret) }).await?;
    audit::commit(db, &Actor::without_token(&user), made(&row)).await?;
    Ok(Some(Made { project: project.id, token: secret }))
}

/// A restart of a scripted set-up shows the same token again.
async fn add(state: &State, user: &UserRow, token: &str) -> Result<(), Error> {
    let hash = tokens::hash(token);
    let row = tokens::row(&user.id, &format!("bootstrap {}", now()), token, None, &Grant::default());
    let mut db = state.store.begin().await?;
    // Now that nobody else writes: another server may start with the same token.
    if state.store.token_by_hash(&hash, now()).await?.is_some() {
        return Ok(());
    }
    match token_rows::insert(&mut db, NewToken { row: &row, hash }).await {
        Ok(()) => audit::commit(db, &Actor::without_token(&user.id), made(&row)).await,
        Err(error @ StoreError::Taken(_)) => Err(Error::Internal(Box::new(error))),
        Err(error) => Err(error.into()),
    }
}

/// It is the user's own, as those that they make by themselves.
fn made(row: &TokenRow) -> Event<'_> {
    Event::maybe("token.bootstrap", &row.id, None)
}

fn check(token: &str) -> Result<(), Error> {
    let fits = (SHORTEST..=256).contains(&token.len()) && token.bytes().all(|byte| byte.is_ascii_graphic());
    if fits {
        return Ok(());
    }
    let detail = "a bootstrap token has 16 to 256 printable ASCII characters without spaces; \
                  `openssl rand -hex 32` makes a good one";
    Err(Error::invalid("invalid_bootstrap_token", detail))
}
