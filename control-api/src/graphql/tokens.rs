//! Personal access tokens, sessions, and who one is.

use async_graphql::{Context, ID, InputObject, Object, SimpleObject};

use super::asker::{actor, asker, state};
use super::failure::Result;
use super::projects::one_id;
use super::scalars::{Date, Listing, PaginationInput};
use crate::domain::logins::{self, Approval, Which};
use crate::domain::tokens::{self, Wanted};
use crate::domain::{Error, sessions};
use crate::store::{TokenRow, UserRow};

/// A token without its secret.
pub(super) struct PersonalAccessToken(TokenRow);

#[Object]
impl PersonalAccessToken {
    async fn id(&self) -> ID {
        ID(self.0.id.clone())
    }

    async fn name(&self) -> &str {
        &self.0.name
    }

    /// Its first characters.
    async fn masked_token(&self) -> &str {
        &self.0.masked
    }

    /// Null: never.
    async fn expires_at(&self) -> Option<Date> {
        self.0.expires_at.map(Date)
    }

    /// To the minute; null: not yet.
    async fn last_used_at(&self) -> Option<Date> {
        self.0.last_used_at.map(Date)
    }

    async fn created_at(&self) -> Date {
        Date(self.0.created_at)
    }

    /// A token does not change.
    async fn updated_at(&self) -> Date {
        Date(self.0.created_at)
    }
}

/// A token that was just made; the secret is shown once.
#[derive(SimpleObject)]
struct PersonalAccessTokenCreated {
    id: ID,
    name: String,
    token: String,
    expires_at: Option<Date>,
    last_used_at: Option<Date>,
    created_at: Date,
    updated_at: Date,
}

/// Who shows the token.
pub(super) struct User(UserRow);

#[Object]
impl User {
    async fn id(&self) -> ID {
        ID(self.0.id.clone())
    }

    async fn username(&self) -> &str {
        &self.0.name
    }

    async fn name(&self) -> &str {
        &self.0.name
    }

    async fn email(&self) -> Option<&str> {
        self.0.email.as_deref()
    }
}

/// What one may still make.
#[derive(SimpleObject)]
struct ApiKeyRateLimit {
    /// Tokens that may be made today (UTC).
    remaining: i64,
    /// Tokens that may be made in a day.
    limit: i64,
    /// When the next day begins.
    reset_at: Date,
    active_tokens: i64,
    max_active_tokens: i64,
}

/// What serves.
#[derive(SimpleObject)]
struct Version {
    /// The commit that it was built from, where the build said so; else its version.
    commit_hash: String,
}

#[derive(InputObject)]
struct LoginWithPersonalAccessTokenDataInput {
    personal_access_token: String,
    /// What the session is about where a request does not say.
    project_id: Option<ID>,
}

#[derive(InputObject)]
struct DeletePersonalAccessTokenWhereInput {
    id: ID,
}

#[derive(InputObject)]
struct CreateLoginVerificationSessionWhereInput {
    /// The last part of the address that the terminal shows.
    id: ID,
}

#[derive(InputObject)]
struct CreatePersonalAccessTokenFromVerificationSessionWhereInput {
    /// 32 to 128 random letters, digits, dashes and underscores, which the terminal has chosen.
    id: ID,
}

#[derive(InputObject)]
struct CreatePersonalAccessTokenFromVerificationSessionDataInput {
    /// What the token is to be called.
    name: Option<String>,
}

#[derive(Default)]
pub(super) struct Query;

#[Object(name = "TokenQuery")]
impl Query {
    /// What serves.
    async fn version(&self) -> Version {
        let built = option_env!("AF_COMMIT").unwrap_or(env!("CARGO_PKG_VERSION"));
        Version { commit_hash: built.into() }
    }

    /// Who shows the token.
    async fn me(&self, ctx: &Context<'_>) -> Result<User> {
        Ok(User(tokens::owner(state(ctx)?, actor(ctx)?).await?))
    }

    /// Who shows the token.
    async fn user(&self, ctx: &Context<'_>) -> Result<User> {
        Ok(User(tokens::owner(state(ctx)?, actor(ctx)?).await?))
    }

    /// The actor's tokens, oldest first.
    #[graphql(complexity = "20 * child_complexity")]
    async fn personal_access_tokens(
        &self,
        ctx: &Context<'_>,
        filter: Option<PaginationInput>,
    ) -> Result<Listing<PersonalAccessToken>> {
        let (state, actor) = (state(ctx)?, actor(ctx)?);
        let read = |after: String| async move { tokens::list(state, actor, &after).await };
        Ok(Listing::read(filter, read, |row: &TokenRow| row.id.clone(), PersonalAccessToken).await?)
    }

    /// What one may still make.
    async fn api_key_rate_limit(&self, ctx: &Context<'_>) -> Result<ApiKeyRateLimit> {
        let allowance = tokens::allowance(state(ctx)?, actor(ctx)?).await?;
        Ok(ApiKeyRateLimit {
            remaining: allowance.left,
            limit: allowance.a_day,
            reset_at: Date(allowance.next_day),
            active_tokens: allowance.active,
            max_active_tokens: allowance.most_active,
        })
    }
}

#[derive(Default)]
pub(super) struct Mutation;

#[Object(name = "TokenMutation")]
impl Mutation {
    /// Trades a token for a JWT that lives for 15 minutes.
    async fn login_with_personal_access_token(
        &self,
        ctx: &Context<'_>,
        data: LoginWithPersonalAccessTokenDataInput,
    ) -> Result<String> {
        let project = data.project_id.as_ref().map(|project| project.as_str()).filter(|id| !id.is_empty());
        let state = state(ctx)?;
        let opened = sessions::open(state, &data.personal_access_token, project).await;
        if matches!(opened, Err(Error::Unauthenticated)) {
            asker(ctx)?.failed(state).await?;
        }
        Ok(opened?)
    }

    /// Makes a token.
    async fn create_personal_access_token(
        &self,
        ctx: &Context<'_>,
        name: String,
        expires_at: Option<Date>,
    ) -> Result<PersonalAccessTokenCreated> {
        let expires_at = expires_at.map(|at| at.0);
        let wanted = Wanted { name, expires_at, ..Wanted::default() };
        let (row, token) = tokens::create(state(ctx)?, actor(ctx)?, &wanted).await?;
        Ok(PersonalAccessTokenCreated {
            id: ID(row.id),
            name: row.name,
            token,
            expires_at: row.expires_at.map(Date),
            last_used_at: None,
            created_at: Date(row.created_at),
            updated_at: Date(row.created_at),
        })
    }

    /// Deletes a token; whoever still shows it is refused from now on. Returns what it was.
    async fn delete_personal_access_token(
        &self,
        ctx: &Context<'_>,
        id: Option<ID>,
        r#where: Option<DeletePersonalAccessTokenWhereInput>,
    ) -> Result<PersonalAccessToken> {
        let (state, actor) = (state(ctx)?, actor(ctx)?);
        let id = one_id("token", id, r#where.map(|by| by.id))?;
        Ok(PersonalAccessToken(tokens::delete(state, actor, &id).await?))
    }

    /// Signs in the terminal that has shown its address: it gets a token that may all that the actor may.
    async fn create_login_verification_session(
        &self,
        ctx: &Context<'_>,
        r#where: CreateLoginVerificationSessionWhereInput,
    ) -> Result<bool> {
        let (state, actor, which) = (state(ctx)?, actor(ctx)?, Which::Session(&r#where.id));
        Box::pin(logins::approve(state, actor, which, &Approval::default())).await?;
        Ok(true)
    }

    /// A terminal's token, once somebody has signed it in; null until then. The first question begins the session.
    async fn create_personal_access_token_from_verification_session(
        &self,
        ctx: &Context<'_>,
        r#where: CreatePersonalAccessTokenFromVerificationSessionWhereInput,
        data: CreatePersonalAccessTokenFromVerificationSessionDataInput,
    ) -> Result<Option<String>> {
        let (state, call) = (state(ctx)?, asker(ctx)?.call());
        Ok(Box::pin(logins::ask(state, call, &r#where.id, data.name.as_deref())).await?)
    }
}
