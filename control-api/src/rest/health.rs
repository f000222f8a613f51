//! Whether the control API can do its work.

use std::sync::Arc;

use axum::extract::State as Shared;
use serde::Serialize;
use utoipa::ToSchema;

use super::problem::{Failure, ProblemDocument};
use crate::app::State;
use crate::domain::Error;

/// The control API works.
#[derive(Serialize, ToSchema)]
pub(super) struct Health {
    /// `ok`
    status: &'static str,
    /// Of this program.
    version: &'static str,
}

/// Whether the control API and its database work. Needs no token.
#[utoipa::path(get, path = "/health", operation_id = "health_get", tag = "health", security(()), responses(
    (status = 200, body = Health), (status = 500, body = ProblemDocument)))]
pub(super) async fn health(Shared(state): Shared<Arc<State>>) -> Result<axum::Json<Health>, Failure> {
    state.store.latest_revision().await.map_err(Error::from)?;
    Ok(axum::Json(Health { status: "ok", version: env!("CARGO_PKG_VERSION") }))
}
