//! Who asks, and about which project: from the request's headers.

use std::sync::Arc;

use async_graphql::Context;
use axum::http::HeaderMap;

use crate::app::State;
use crate::domain::sessions::{self, Session};
use crate::domain::{Actor, Call, Error};

/// What a request says besides its document.
#[derive(Clone, Debug, Default)]
pub(super) struct Asker {
    pub(super) session: Option<Session>,
    project: Option<String>,
    organization: Option<String>,
    call: Call,
}

impl Asker {
    pub(super) fn new(session: Option<Session>, headers: &HeaderMap, call: Call) -> Self {
        let header = |name: &str| {
            let value = headers.get(name)?.to_str().ok()?.trim();
            (!value.is_empty()).then(|| value.to_owned())
        };
        Self { session, project: header("x-project-id"), organization: header("x-organization-id"), call }
    }
}

impl Asker {
    /// Counts an operation that did not come in a request of its own.
    ///
    /// # Errors
    /// When the address or the token asks too often.
    pub(super) async fn count(&self, state: &State) -> Result<(), Error> {
        if let Some(address) = self.call.address {
            state.rates.address(address, &self.call.standings).await?;
        }
        match &self.session {
            Some(session) => state.rates.count(&session.actor).await,
            None => Ok(()),
        }
    }

    /// For an operation that did not come in a request of its own: what it is about is counted for itself.
    pub(super) fn apart(&self) -> Self {
        let mut asker = self.clone();
        if let Some(session) = &mut asker.session {
            session.actor.call.counted = Default::default();
        }
        asker
    }

    /// The request that the operation came in.
    pub(super) const fn call(&self) -> &Call {
        &self.call
    }

    /// Counts a token that is none, shown in an operation.
    ///
    /// # Errors
    /// When there were too many of them from this address.
    pub(super) async fn failed(&self, state: &State) -> Result<(), Error> {
        match self.call.address {
            Some(address) => state.rates.failed(address).await,
            None => Ok(()),
        }
    }
}

/// Whoever asks, signed in or not.
///
/// # Errors
/// When the request was given nobody.
pub(super) fn asker<'c>(ctx: &Context<'c>) -> Result<&'c Asker, Error> {
    ctx.data::<Asker>().map_err(missing)
}

/// What resolvers work on.
pub(super) fn state<'c>(ctx: &Context<'c>) -> Result<&'c Arc<State>, Error> {
    ctx.data::<Arc<State>>().map_err(missing)
}

/// Who asks.
///
/// # Errors
/// When nobody is signed in.
pub(super) fn actor<'c>(ctx: &Context<'c>) -> Result<&'c Actor, Error> {
    let asker = asker(ctx)?;
    asker.session.as_ref().map(|session| &session.actor).ok_or(Error::Unauthenticated)
}

/// The project that is asked about.
///
/// # Errors
/// When nobody is signed in, or there are several.
pub(super) async fn project(ctx: &Context<'_>) -> Result<String, Error> {
    let asker = asker(ctx)?;
    let session = asker.session.as_ref().ok_or(Error::Unauthenticated)?;
    sessions::project(state(ctx)?, session, asker.project.as_deref()).await
}

/// The organization that is asked about, if one is.
pub(super) fn organization<'c>(ctx: &Context<'c>) -> Option<&'c str> {
    ctx.data_opt::<Asker>()?.organization.as_deref()
}

fn missing(error: async_graphql::Error) -> Error {
    Error::Internal(error.message.into())
}
