//! REST: the whole list of routes. A handler extracts, calls `domain` and shapes the answer.

mod audit;
mod auth;
mod browsers;
mod call;
mod deployments;
mod documented;
mod domains;
mod edges;
mod etag;
mod functions;
mod gateway;
mod health;
mod idempotency;
mod left;
mod login_page;
mod logins;
mod logs;
mod members;
mod operations;
mod organizations;
mod plain;
mod plans;
mod problem;
mod projects;
mod pruning;
mod quotas;
mod rates;
mod rollouts;
mod secrets;
mod sessions;
mod site_deployments;
mod sites;
mod storage;
mod storage_upload;
mod tokens;
mod triggers;
mod upload;
mod upload_proxy;
mod usage;
mod viewer;

use std::sync::Arc;

use af_content::gateway::{Access, Gateway};
use af_contract::limits;
use axum::extract::{DefaultBodyLimit, Request, State as AxumState};
use axum::middleware::Next;
use axum::response::Response;
use axum::{Json, Router, middleware};
use serde::{Deserialize, Serialize};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{Info, OpenApi as Document};
use utoipa::{IntoParams, Modify, OpenApi, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub(crate) use self::auth::authenticate;
pub use self::call::Peer;
pub(crate) use self::idempotency::Effect;
use self::operations::Operations;
use self::problem::Failure;
use crate::app::State;
use crate::domain::{Page, Start};
use crate::graphql::{self, GraphqlConfig};

/// JSON bodies, bytes: a route table, with escapes. Uploads have a limit of their own.
const JSON_BYTES: usize = 2 * limits::ROUTES_BYTES;

#[derive(OpenApi)]
#[openapi(modifiers(&Bearer), security(("token" = [])))]
struct Root;

struct Bearer;

impl Modify for Bearer {
    fn modify(&self, document: &mut Document) {
        let bearer = SecurityScheme::Http(HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build());
        document.components.get_or_insert_default().add_security_scheme("token", bearer);
        document.info = Info::builder()
            .title("Alternate Futures functions")
            .version("1")
            .description(Some(
                "Manages organizations, projects, members, functions, sites, deployments, stored content, domains, settings, secrets and tokens, and says what is used. Answers say by `RateLimit-Policy` and `RateLimit` how often the address, the token and its user may ask, and how much of that is left.",
            ))
            .build();
    }
}

/// All endpoints and the document that describes them; content by CID, too, if there is a gateway.
pub fn router(state: Arc<State>, gateway: Option<Gateway>, graphql: GraphqlConfig) -> Router {
    let (router, document) = endpoints().split_for_parts();
    let document = documented::complete(document);
    let operations = Arc::new(Operations::of(&document));
    // What an edge may read is decided before.
    let content = Gateway::new(state.blocks.clone(), Access::Public);
    router
        .merge(gateway.map(gateway::router).unwrap_or_default())
        .merge(edges::protocol(content))
        .merge(viewer::router())
        .merge(login_page::router())
        .merge(graphql::router(&state, graphql))
        .route("/openapi.json", axum::routing::get(move || async move { Json(document) }))
        .fallback(problem::unknown_path)
        .method_not_allowed_fallback(problem::wrong_method)
        .layer(DefaultBodyLimit::max(JSON_BYTES))
        .layer(middleware::from_fn_with_state(state.clone(), settle))
        .layer(middleware::from_fn_with_state(state.clone(), idempotency::once))
        .layer(middleware::from_fn_with_state(operations, operations::check))
        .layer(middleware::from_fn(etag::not_modified))
        .layer(middleware::from_fn_with_state(state.clone(), browsers::guard))
        .layer(middleware::from_fn_with_state(state.clone(), call::begin))
        .with_state(state)
}

/// A change is answered once it is live here.
async fn settle(AxumState(state): AxumState<Arc<State>>, request: Request, next: Next) -> Response {
    let changes = !request.method().is_safe();
    let response = next.run(request).await;
    if changes && response.status().is_success() {
        state.changes.settle().await;
    }
    response
}

/// The OpenAPI 3.1 document.
#[must_use]
pub fn document() -> Document {
    documented::complete(endpoints().into_openapi())
}

fn endpoints() -> OpenApiRouter<Arc<State>> {
    OpenApiRouter::with_openapi(Root::openapi())
        .routes(routes!(health::health))
        .routes(routes!(auth::me))
        .routes(routes!(organizations::list, organizations::create))
        .routes(routes!(organizations::get, organizations::rename, organizations::delete))
        .routes(routes!(members::organization_list))
        .routes(routes!(
            members::organization_get,
            members::organization_change,
            members::organization_remove
        ))
        .routes(routes!(members::organization_invitations, members::organization_invite))
        .routes(routes!(projects::list, projects::create))
        .routes(routes!(projects::get, projects::update, projects::delete))
        .routes(routes!(projects::rotate_content_key))
        .routes(routes!(members::project_list))
        .routes(routes!(members::project_get, members::project_change, members::project_remove))
        .routes(routes!(members::project_invitations, members::project_invite))
        .routes(routes!(members::accept))
        .routes(routes!(members::take_back))
        .routes(routes!(secrets::project_secrets, secrets::change_project_secrets))
        .routes(routes!(secrets::project_settings, secrets::change_project_settings))
        .routes(routes!(secrets::function_secrets, secrets::change_function_secrets))
        .routes(routes!(secrets::function_settings, secrets::change_function_settings))
        .routes(routes!(functions::list, functions::create))
        .routes(routes!(functions::get, functions::update, functions::delete))
        .routes(routes!(logs::get))
        .routes(routes!(deployments::list))
        .routes(routes!(deployments::create))
        .routes(routes!(deployments::rollback))
        .routes(routes!(rollouts::get, rollouts::put, rollouts::abort))
        .routes(routes!(rollouts::promote))
        .routes(routes!(deployments::approve))
        .routes(routes!(pruning::prune))
        .routes(routes!(deployments::get))
        .routes(routes!(sites::list, sites::create))
        .routes(routes!(sites::get, sites::update, sites::delete))
        .routes(routes!(site_deployments::list))
        .routes(routes!(site_deployments::create))
        .routes(routes!(site_deployments::rollback))
        .routes(routes!(domains::list, domains::create))
        .routes(routes!(domains::get, domains::update, domains::delete))
        .routes(routes!(domains::verify))
        .routes(routes!(domains::put_certificate, domains::delete_certificate))
        .routes(routes!(triggers::get))
        .routes(routes!(triggers::run))
        .routes(routes!(storage::list, storage_upload::store))
        .routes(routes!(storage::usage))
        .routes(routes!(left::list))
        .routes(routes!(storage::pin))
        .routes(routes!(storage_upload::missing))
        .routes(routes!(storage_upload::blocks))
        .routes(routes!(storage::get, storage::unpin))
        .routes(routes!(storage::car))
        .routes(routes!(storage::key))
        .routes(routes!(storage::gc))
        .routes(routes!(audit::of_project))
        .routes(routes!(audit::of_organization))
        .routes(routes!(audit::own))
        .routes(routes!(tokens::list, tokens::create))
        .routes(routes!(tokens::delete))
        .routes(routes!(tokens::rotate))
        .routes(routes!(tokens::keys, tokens::create_key))
        .routes(routes!(edges::list, edges::create))
        .routes(routes!(edges::delete))
        .routes(routes!(plans::list, plans::create))
        .routes(routes!(plans::get, plans::update, plans::delete))
        .routes(routes!(plans::assign, plans::unassign))
        .merge(used())
        .routes(routes!(sessions::exchange))
        .routes(routes!(sessions::validate))
        .routes(routes!(sessions::validate_at_api))
        .routes(routes!(sessions::jwks))
        .routes(routes!(logins::start))
        .routes(routes!(logins::poll))
        .routes(routes!(logins::approve))
        .merge(upload_proxy::router())
}

/// What there may be, and what is used.
fn used() -> OpenApiRouter<Arc<State>> {
    OpenApiRouter::new()
        .routes(routes!(quotas::of_organization))
        .routes(routes!(quotas::of_project))
        .routes(routes!(usage::of_organization))
        .routes(routes!(usage::projects))
        .routes(routes!(usage::of_project))
        .routes(routes!(usage::functions))
        .routes(routes!(usage::sites))
        .routes(routes!(usage::of_function))
        .routes(routes!(usage::of_site))
}

/// One page of a list.
#[derive(Serialize, ToSchema)]
struct List<T> {
    /// The items.
    data: Vec<T>,
    /// Give it as `after` to get the next page; null: this is the last.
    next: Option<String>,
}

/// What is gone.
#[derive(Serialize, ToSchema)]
struct Deleted {
    /// Its id.
    deleted: String,
    /// Domains that led to it, which are gone with it.
    domains: Vec<String>,
}

/// Which page.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct Cursor {
    /// `next` of the page before.
    after: Option<String>,
    /// Items of the page; left out: 100.
    #[param(minimum = 1, maximum = 100)]
    limit: Option<u32>,
}

impl Cursor {
    fn start(&self) -> Start<'_> {
        start(self.after.as_deref(), self.limit)
    }
}

fn start(after: Option<&str>, limit: Option<u32>) -> Start<'_> {
    Start { after: after.unwrap_or_default(), limit }
}

impl<T> List<T> {
    fn of<R>(page: Page<R>, shape: impl Fn(R) -> T) -> Json<Self> {
        Json(Self { data: page.items.into_iter().map(shape).collect(), next: page.next })
    }

    fn try_of<R>(page: Page<R>, shape: impl Fn(R) -> Result<T, Failure>) -> Result<Json<Self>, Failure> {
        let data = page.items.into_iter().map(shape).collect::<Result<_, _>>()?;
        Ok(Json(Self { data, next: page.next }))
    }
}
