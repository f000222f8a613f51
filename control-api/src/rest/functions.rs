//! `/v1/projects/{project}/functions` and `/v1/functions`

use std::sync::Arc;

use af_contract::RouteTable;
use axum::extract::State as Shared;
use axum::http::StatusCode;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use super::etag::Tagged;
use super::problem::{Failure, Json, Path, ProblemDocument, Query};
use super::{Deleted, List};
use crate::app::State;
use crate::domain::functions::{self, Change, NewFunction};
use crate::domain::pruning::KeepChange;
use crate::domain::{Actor, Start, versions};
use crate::store::FunctionRow;

/// A function.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Function {
    /// `fn_…`
    id: String,
    project_id: String,
    name: String,
    /// The first label of its host name.
    slug: String,
    /// Where it answers.
    invoke_url: String,
    /// `INACTIVE`: switched off, or without code and routes. `DEPLOYING`: its newest deployment is being built, or no edge has reported on it yet. `FAILED`: it could not
    /// be built and there is no older one, or no edge can use it. `ACTIVE`: it answers.
    status: &'static str,
    /// What answers; null before the first deploy.
    current_deployment_id: Option<String>,
    /// Path pattern -> target; null: no table.
    #[schema(value_type = Option<Object>)]
    routes: Option<RouteTable>,
    /// Deployments that stay, of the newest; null: as its project says.
    keep: Option<i64>,
    /// How old other deployments stay; null: as its project says.
    keep_for_seconds: Option<i64>,
    /// Milliseconds since 1970 UTC.
    created_at: i64,
    /// Milliseconds since 1970 UTC.
    updated_at: i64,
}

/// What a new function is made of.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct FunctionInput {
    /// 3 to 30 letters, digits and dashes; unique in the project.
    name: String,
    /// Made of the name when it is left out; unique on the platform.
    slug: Option<String>,
    /// Path pattern -> http(s) URL, or an object that names another target; null: no table.
    #[schema(value_type = Option<Object>)]
    routes: Option<Value>,
}

/// What is to change; what is left out stays.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct FunctionChange {
    name: Option<String>,
    slug: Option<String>,
    /// `ACTIVE` or `INACTIVE`.
    status: Option<String>,
    /// Path pattern -> target; null removes the table.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<Object>)]
    routes: Option<Value>,
    /// How many of the newest deployments stay, 1 to 1000; null: as its project says.
    #[serde(default, deserialize_with = "given")]
    #[schema(minimum = 1, maximum = 1_000)]
    keep: Option<Option<u32>>,
    /// How old other deployments stay, ten years at most; null: as its project says.
    #[serde(default, deserialize_with = "given")]
    #[schema(maximum = 315_360_000)]
    keep_for_seconds: Option<Option<u64>>,
}

/// Tells `null` from nothing.
pub(super) fn given<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

/// Which functions.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Filter {
    /// Only the one with this name.
    name: Option<String>,
    /// `next` of the page before.
    after: Option<String>,
    /// Items of the page; left out: 100.
    #[param(minimum = 1, maximum = 100)]
    limit: Option<u32>,
}

impl Filter {
    fn start(&self) -> Start<'_> {
        super::start(self.after.as_deref(), self.limit)
    }
}

impl Function {
    fn tagged(state: &State, row: FunctionRow) -> Result<Tagged<Self>, Failure> {
        Ok(Tagged::with(versions::tag_of_function(&row), Self::of(state, row)?))
    }

    fn of(state: &State, row: FunctionRow) -> Result<Self, Failure> {
        let (routes, status) = (functions::routes(&row)?, row.status());
        Ok(Self {
            invoke_url: state.invoke_url(&row.slug),
            id: row.id,
            project_id: row.project_id,
            name: row.name,
            slug: row.slug,
            status,
            current_deployment_id: row.current_deployment_id,
            routes,
            keep: row.keep_newest,
            keep_for_seconds: row.keep_for_seconds,
            created_at: row.created_at,
            updated_at: row.updated_at,
        })
    }
}

/// A project's functions, oldest first.
#[utoipa::path(get, path = "/v1/projects/{project}/functions", operation_id = "function_list", tag = "functions",
    params(("project" = String, Path), Filter), responses((status = 200, body = List<Function>),
    (status = 401, body = ProblemDocument), (status = 403, body = ProblemDocument), (status = 404, body = ProblemDocument)))]
pub(super) async fn list(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Path(project): Path<String>,
    Query(filter): Query<Filter>,
) -> Result<axum::Json<List<Function>>, Failure> {
    let page = functions::list(&state, &actor, &project, filter.name.as_deref(), filter.start()).await?;
    List::try_of(page, |row| Function::of(&state, row))
}

/// Makes a function. It answers once it has a deployment.
#[utoipa::path(post, path = "/v1/projects/{project}/functions", operation_id = "function_create", tag = "functions",
    params(("project" = String, Path)), request_body = FunctionInput, responses(
    (status = 201, body = Function), (status = 400, body = ProblemDocument),
    (status = 401, body = ProblemDocument), (status = 403, body = ProblemDocument), (status = 404, body = ProblemDocument),
    (status = 409, body = ProblemDocument)))]
pub(super) async fn create(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Path(project): Path<String>,
    Json(input): Json<FunctionInput>,
) -> Result<(StatusCode, Tagged<Function>), Failure> {
    let new = NewFunction { name: input.name, slug: input.slug, routes: input.routes };
    let function = functions::create(&state, &actor, &project, new).await?;
    Ok((StatusCode::CREATED, Function::tagged(&state, function)?))
}

/// One function.
#[utoipa::path(get, path = "/v1/functions/{function}", operation_id = "function_get", tag = "functions",
    params(("function" = String, Path)), responses((status = 200, body = Function),
    (status = 401, body = ProblemDocument), (status = 403, body = ProblemDocument), (status = 404, body = ProblemDocument)))]
pub(super) async fn get(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Path(id): Path<String>,
) -> Result<Tagged<Function>, Failure> {
    let function = functions::get(&state, &actor, &id).await?;
    Function::tagged(&state, function)
}

/// Changes a function's name, slug, status or route table, or which deployments it keeps.
#[utoipa::path(patch, path = "/v1/functions/{function}", operation_id = "function_update", tag = "functions",
    params(("function" = String, Path)), request_body = FunctionChange, responses(
    (status = 200, body = Function), (status = 400, body = ProblemDocument),
    (status = 401, body = ProblemDocument), (status = 403, body = ProblemDocument), (status = 404, body = ProblemDocument),
    (status = 409, body = ProblemDocument)))]
pub(super) async fn update(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Path(id): Path<String>,
    Json(input): Json<FunctionChange>,
) -> Result<Tagged<Function>, Failure> {
    let FunctionChange { name, slug, status, routes, keep, keep_for_seconds } = input;
    let keep = KeepChange { newest: keep, seconds: keep_for_seconds };
    let change = Change { name, slug, status, routes, keep };
    let function = functions::update(&state, &actor, &id, change).await?;
    Function::tagged(&state, function)
}

/// Deletes a function, its deployments and its domains.
#[utoipa::path(delete, path = "/v1/functions/{function}", operation_id = "function_delete", tag = "functions",
    params(("function" = String, Path)), responses((status = 200, body = Deleted),
    (status = 401, body = ProblemDocument), (status = 403, body = ProblemDocument), (status = 404, body = ProblemDocument)))]
pub(super) async fn delete(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Path(id): Path<String>,
) -> Result<axum::Json<Deleted>, Failure> {
    let domains = functions::delete(&state, &actor, &id).await?;
    Ok(axum::Json(Deleted { deleted: id, domains }))
}
