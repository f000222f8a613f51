//! Functions and their deployments, under the names of both platforms: one text, expanded twice.

use async_graphql::{Context, Enum, ID, InputObject, Json, MaybeUndefined, Object};
use serde_json::Value;

use super::asker::{actor, project, state};
use super::failure::{Failure, Result};
use super::loaders::{self, Current, Newest};
use super::scalars::{Date, Listing, PaginationInput};
use crate::domain::builds::{self, Source};
use crate::domain::functions::{self as rules, Change, NewFunction};
use crate::domain::{Error, reports};
use crate::store::{DeployedRow, FunctionRow};

/// What a trigger says: the same in two places, as the clients differ.
struct Triggered {
    function: ID,
    cid: Option<String>,
    blake3: Option<String>,
    assets: Option<String>,
    sgx: bool,
}

async fn trigger(ctx: &Context<'_>, wanted: Triggered) -> std::result::Result<DeployedRow, Error> {
    let (state, actor) = (state(ctx)?.clone(), actor(ctx)?.clone());
    if wanted.sgx {
        let detail = "this platform runs nothing in SGX; deploy without it";
        return Err(Error::invalid("sgx_unavailable", detail));
    }
    let source = Source::parse(wanted.cid.as_deref(), wanted.blake3.as_deref(), wanted.assets.as_deref())?;
    let function = wanted.function.0;
    // A client that goes away must not stop it between its steps.
    let triggered = async move {
        let made = Box::pin(builds::trigger(&state, &actor, &function, source)).await?;
        // Clients take the answer for the end.
        reports::settled(&state, &made.id).await?;
        builds::get(&state, &actor, &made.id).await
    };
    tokio::spawn(triggered).await.map_err(|error| Error::Internal(Box::new(error)))?
}

/// The platform's sites run no functions: a domain leads to either.
fn without_site(site: Option<&String>) -> std::result::Result<(), Error> {
    match site {
        Some(site) if !site.is_empty() => {
            let detail = "a function is of no site here; leave the site out, and give each its own domain";
            Err(Error::invalid("invalid_site", detail))
        }
        _ => Ok(()),
    }
}

macro_rules! surface {
    (
        $(#[$doc:meta])* $module:ident, prefix: $prefix:tt, status: $status:tt, function: $function:tt, deployment: $deployment:tt,
        function_id: $function_id:tt, inputs: [$by_name:tt, $by_id:tt, $functions_where:tt, $deployment_where:tt,
        $deployments_where:tt, $create_data:tt, $update_data:tt, $delete_where:tt, $trigger_data:tt,
        $trigger_where:tt], update_by: $update_by:ident $(($update_where:tt))?, roots: [$query:tt, $mutation:tt], queries: [$get:tt, $get_by_name:tt, $list:tt, $get_deployment:tt, $list_deployments:tt],
        mutations: [$create:tt, $update:tt, $delete:tt, $trigger:tt]
    ) => {
        $(#[$doc])*
        pub(in crate::graphql) mod $module {
            use super::*;

            fn failed(error: Error) -> Failure {
                Failure::named($prefix)(error)
            }

            /// What a function is doing.
            #[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
            #[graphql(name = $status)]
            pub(in crate::graphql) enum Status {
                /// Answers.
                Active,
                /// Is switched off, or has nothing yet that could answer.
                Inactive,
                /// Its newest deployment is being built, or no edge has made it ready yet.
                Deploying,
                /// Its newest deployment could not be built and there is no older one, or no edge can use it.
                Failed,
            }

            impl Status {
                pub(in crate::graphql) fn of(text: &str) -> Self {
                    match text {
                        "INACTIVE" => Self::Inactive,
                        "DEPLOYING" => Self::Deploying,
                        "FAILED" => Self::Failed,
                        _ => Self::Active,
                    }
                }

                fn text(self) -> String {
                    match self {
                        Self::Active => "ACTIVE",
                        Self::Inactive => "INACTIVE",
                        Self::Deploying => "DEPLOYING",
                        Self::Failed => "FAILED",
                    }
                    .to_owned()
                }
            }

            /// A function.
            #[derive(Clone)]
            pub(in crate::graphql) struct Function(pub(in crate::graphql) FunctionRow);

            #[Object(name = $function)]
            impl Function {
                async fn id(&self) -> ID {
                    ID(self.0.id.clone())
                }

                async fn name(&self) -> &str {
                    &self.0.name
                }

                /// The first label of its host name.
                async fn slug(&self) -> &str {
                    &self.0.slug
                }

                /// Where it answers.
                async fn invoke_url(&self, ctx: &Context<'_>) -> Result<String> {
                    Ok(state(ctx)?.invoke_url(&self.0.slug))
                }

                /// Path pattern -> target; null: no table.
                async fn routes(&self) -> Result<Option<Json<Value>>> {
                    let routes = rules::routes(&self.0)?.map(serde_json::to_value).transpose();
                    Ok(routes.map_err(|error| Error::Internal(Box::new(error)))?.map(Json))
                }

                async fn project_id(&self) -> ID {
                    ID(self.0.project_id.clone())
                }

                /// Always null: functions are of no site here.
                async fn site_id(&self) -> Option<String> {
                    None
                }

                async fn status(&self) -> Status {
                    Status::of(self.0.status())
                }

                async fn current_deployment_id(&self) -> Option<ID> {
                    self.0.current_deployment_id.clone().map(ID)
                }

                /// What it runs.
                async fn current_deployment(&self, ctx: &Context<'_>) -> Result<Option<Deployment>> {
                    let Some(deployment) = self.0.current_deployment_id.clone() else { return Ok(None) };
                    let key = Current { project: self.0.project_id.clone(), deployment };
                    Ok(loaders::one(ctx, key).await?.map(Deployment))
                }

                /// The ten newest.
                #[graphql(complexity = "10 * child_complexity")]
                async fn deployments(&self, ctx: &Context<'_>) -> Result<Vec<Deployment>> {
                    let key = Newest { project: self.0.project_id.clone(), function: self.0.id.clone() };
                    let newest = loaders::one(ctx, key).await?.unwrap_or_default();
                    Ok(newest.into_iter().map(Deployment).collect())
                }

                async fn created_at(&self) -> Date {
                    Date(self.0.created_at)
                }

                async fn updated_at(&self) -> Date {
                    Date(self.0.updated_at)
                }
            }

            /// One immutable version of a function, or source code on its way to be one.
            pub(in crate::graphql) struct Deployment(pub(in crate::graphql) DeployedRow);

            #[Object(name = $deployment)]
            impl Deployment {
                async fn id(&self) -> ID {
                    ID(self.0.id.clone())
                }

                #[graphql(name = $function_id)]
                async fn function_id(&self) -> ID {
                    ID(self.0.function_id.clone())
                }

                /// What was sent: the component, or source code.
                async fn cid(&self) -> &str {
                    &self.0.cid
                }

                /// Of the component.
                async fn blake3_hash(&self) -> Option<&str> {
                    self.0.blake3.as_deref()
                }

                async fn assets_cid(&self) -> Option<&str> {
                    self.0.assets_cid.as_deref()
                }

                /// Always false: nothing runs in SGX here.
                async fn sgx(&self) -> bool {
                    false
                }

                async fn status(&self) -> Status {
                    Status::of(&self.0.status)
                }

                /// Why it failed, or which approval it waits for.
                async fn status_reason(&self) -> Option<&str> {
                    self.0.reason.as_deref()
                }

                async fn created_at(&self) -> Date {
                    Date(self.0.created_at)
                }

                async fn updated_at(&self) -> Date {
                    Date(self.0.updated_at)
                }
            }

            #[derive(InputObject)]
            #[graphql(name = $by_name)]
            pub(in crate::graphql) struct ByName {
                name: String,
            }

            #[derive(InputObject)]
            #[graphql(name = $by_id)]
            pub(in crate::graphql) struct ById {
                id: ID,
            }

            #[derive(InputObject)]
            #[graphql(name = $functions_where)]
            pub(in crate::graphql) struct FunctionsWhere {
                /// Functions are of no site here, so there are none.
                site_id: Option<ID>,
            }

            /// One of them.
            #[derive(InputObject)]
            #[graphql(name = $deployment_where)]
            pub(in crate::graphql) struct DeploymentWhere {
                id: Option<ID>,
                /// The newest of a function with this content.
                cid: Option<String>,
                /// The newest of this function.
                function_id: Option<ID>,
            }

            /// The function, under either name.
            #[derive(InputObject)]
            #[graphql(name = $deployments_where)]
            pub(in crate::graphql) struct DeploymentsWhere {
                #[graphql(name = $function_id)]
                named: Option<ID>,
                function_id: Option<ID>,
            }

            #[derive(InputObject)]
            #[graphql(name = $create_data)]
            pub(in crate::graphql) struct CreateData {
                /// 3 to 30 letters, digits and dashes; unique in the project.
                name: String,
                site_id: Option<String>,
                /// Made of the name when it is left out; unique on the platform.
                slug: Option<String>,
                /// Path pattern -> http(s) URL, or an object that names another target.
                routes: Option<Json<Value>>,
                status: Option<Status>,
            }

            #[derive(InputObject)]
            #[graphql(name = $update_data)]
            pub(in crate::graphql) struct UpdateData {
                name: Option<String>,
                site_id: Option<String>,
                slug: Option<String>,
                /// Another table; null removes it.
                routes: MaybeUndefined<Json<Value>>,
                /// `ACTIVE` or `INACTIVE`.
                status: Option<Status>,
            }

            $(#[derive(InputObject)]
            #[graphql(name = $update_where)]
            pub(in crate::graphql) struct UpdateWhere {
                id: String,
            })?

            #[derive(InputObject)]
            #[graphql(name = $delete_where)]
            pub(in crate::graphql) struct DeleteWhere {
                id: String,
            }

            #[derive(InputObject)]
            #[graphql(name = $trigger_where)]
            pub(in crate::graphql) struct TriggerWhere {
                function_id: ID,
                cid: Option<String>,
            }

            #[derive(InputObject, Default)]
            #[graphql(name = $trigger_data)]
            pub(in crate::graphql) struct TriggerData {
                /// Here or in `where`.
                cid: Option<String>,
                assets_cid: Option<String>,
                /// Of the component, 64 hex digits: refused where it has another one.
                blake3_hash: Option<String>,
                sgx: Option<bool>,
            }

            #[derive(Default)]
            pub(in crate::graphql) struct Query;

            #[Object(name = $query)]
            impl Query {
                /// One function.
                #[graphql(name = $get)]
                async fn function(&self, ctx: &Context<'_>, r#where: ById) -> Result<Option<Function>> {
                    let found = rules::get(state(ctx)?, actor(ctx)?, &r#where.id).await;
                    Ok(Some(Function(found.map_err(failed)?)))
                }

                /// A project's function by its name.
                #[graphql(name = $get_by_name)]
                async fn by_name(&self, ctx: &Context<'_>, r#where: ByName) -> Result<Option<Function>> {
                    let (project, name) = (project(ctx).await?, r#where.name);
                    let page = rules::list(state(ctx)?, actor(ctx)?, &project, Some(&name), "").await;
                    let found = page.map_err(failed)?.items.into_iter().next();
                    found.map(|row| Some(Function(row))).ok_or_else(|| Failure::no_function($prefix, &name))
                }

                /// A project's functions, oldest first.
                #[graphql(name = $list, complexity = "20 * child_complexity")]
                async fn functions(
                    &self,
                    ctx: &Context<'_>,
                    filter: Option<PaginationInput>,
                    r#where: Option<FunctionsWhere>,
                ) -> Result<Listing<Function>> {
                    let (state, actor, project) = (state(ctx)?, actor(ctx)?, project(ctx).await?);
                    if r#where.is_some_and(|filter| filter.site_id.is_some()) {
                        return Ok(Listing::whole(Vec::new()));
                    }
                    let project = project.as_str();
                    let read = |after: String| async move { rules::list(state, actor, project, None, &after).await };
                    let listing = Listing::read(filter, read, |row: &FunctionRow| row.id.clone(), Function);
                    listing.await.map_err(failed)
                }

                /// One deployment: by its id, or the newest of a function.
                #[graphql(name = $get_deployment)]
                async fn deployment(&self, ctx: &Context<'_>, r#where: DeploymentWhere) -> Result<Option<Deployment>> {
                    let (state, actor) = (state(ctx)?, actor(ctx)?);
                    if let Some(id) = &r#where.id {
                        return Ok(Some(Deployment(builds::get(state, actor, id).await.map_err(failed)?)));
                    }
                    let Some(function) = &r#where.function_id else {
                        let detail = "say which deployment: with its id, or a function and, if you like, a cid";
                        return Err(failed(Error::invalid("invalid_where", detail)));
                    };
                    let page = builds::list(state, actor, function, r#where.cid.as_deref(), "").await;
                    Ok(page.map_err(failed)?.items.into_iter().next().map(Deployment))
                }

                /// A function's deployments, newest first.
                #[graphql(name = $list_deployments, complexity = "20 * child_complexity")]
                async fn deployments(
                    &self,
                    ctx: &Context<'_>,
                    filter: Option<PaginationInput>,
                    r#where: DeploymentsWhere,
                ) -> Result<Listing<Deployment>> {
                    let (state, actor) = (state(ctx)?, actor(ctx)?);
                    let Some(function) = r#where.named.or(r#where.function_id) else {
                        return Err(failed(Error::invalid("invalid_where", "say which function")));
                    };
                    let function = function.as_str();
                    let read = |before: String| async move { builds::list(state, actor, function, None, &before).await };
                    let listing = Listing::read(filter, read, |row: &DeployedRow| row.id.clone(), Deployment);
                    listing.await.map_err(failed)
                }
            }

            #[derive(Default)]
            pub(in crate::graphql) struct Mutation;

            #[Object(name = $mutation)]
            impl Mutation {
                /// Makes a function. It answers once it has a deployment.
                #[graphql(name = $create)]
                async fn create(&self, ctx: &Context<'_>, data: CreateData) -> Result<Function> {
                    let (state, actor, project) = (state(ctx)?, actor(ctx)?, project(ctx).await?);
                    without_site(data.site_id.as_ref()).map_err(failed)?;
                    let routes = data.routes.map(|routes| routes.0);
                    let new = NewFunction { name: data.name, slug: data.slug, routes };
                    let mut row = rules::create(state, actor, &project, new).await.map_err(failed)?;
                    if let Some(status) = data.status.filter(|status| *status != Status::Active) {
                        let change = Change { status: Some(status.text()), ..Change::default() };
                        row = rules::update(state, actor, &row.id, change).await.map_err(failed)?;
                    }
                    Ok(Function(row))
                }

                /// Changes a function's name, slug, status or route table.
                #[graphql(name = $update)]
                async fn update(&self, ctx: &Context<'_>, r#where: $update_by, data: UpdateData) -> Result<Function> {
                    let (state, actor) = (state(ctx)?, actor(ctx)?);
                    without_site(data.site_id.as_ref()).map_err(failed)?;
                    let routes = match data.routes {
                        MaybeUndefined::Undefined => None,
                        MaybeUndefined::Null => Some(Value::Null),
                        MaybeUndefined::Value(routes) => Some(routes.0),
                    };
                    let status = data.status.map(Status::text);
                    let (name, slug) = (data.name, data.slug);
                    let change = Change { name, slug, status, routes, ..Change::default() };
                    let row = rules::update(state, actor, &r#where.id, change).await;
                    Ok(Function(row.map_err(failed)?))
                }

                /// Deletes a function, its deployments and its domains. Returns what it was.
                #[graphql(name = $delete)]
                async fn delete(&self, ctx: &Context<'_>, r#where: DeleteWhere) -> Result<Function> {
                    let (state, actor) = (state(ctx)?, actor(ctx)?);
                    let row = rules::get(state, actor, &r#where.id).await.map_err(failed)?;
                    rules::delete(state, actor, &r#where.id).await.map_err(failed)?;
                    Ok(Function(row))
                }

                /// Deploys content by its CID: a component at once, JavaScript once it is built.
                #[graphql(name = $trigger)]
                async fn trigger(
                    &self,
                    ctx: &Context<'_>,
                    r#where: TriggerWhere,
                    data: Option<TriggerData>,
                ) -> Result<Deployment> {
                    let data = data.unwrap_or_default();
                    let wanted = Triggered {
                        function: r#where.function_id,
                        cid: r#where.cid.or(data.cid),
                        blake3: data.blake3_hash,
                        assets: data.assets_cid,
                        sgx: data.sgx.unwrap_or_default(),
                    };
                    Ok(Deployment(super::trigger(ctx, wanted).await.map_err(failed)?))
                }
            }
        }
    };
}

surface! {
    /// Under the names that clients of Alternate Futures know.
    af, prefix: "AF", status: "FunctionStatus", function: "AFFunction", deployment: "AFFunctionDeployment",
    function_id: "afFunctionId",
    inputs: ["AFFunctionByNameWhereInput", "AFFunctionWhereInput", "AFFunctionsWhereInput", "AFFunctionDeploymentWhereInput",
        "AFFunctionDeploymentsWhereInput", "CreateAFFunctionDataInput", "UpdateAFFunctionDataInput",
        "DeleteAFFunctionWhereInput", "TriggerAFFunctionDeploymentDataInput",
        "TriggerAFFunctionDeploymentWhereInput"],
    update_by: ById, roots: ["AFQuery", "AFMutation"],
    queries: ["afFunction", "afFunctionByName", "afFunctions", "afFunctionDeployment", "afFunctionDeployments"],
    mutations: ["createAFFunction", "updateAFFunction", "deleteAFFunction", "triggerAFFunctionDeployment"]
}

surface! {
    /// Under the names that clients of Fleek know.
    fleek, prefix: "Fleek", status: "FleekFunctionStatus", function: "FleekFunction", deployment: "FleekFunctionDeployment",
    function_id: "fleekFunctionId",
    inputs: ["FleekFunctionByNameWhereInput", "FleekFunctionWhereInput", "FleekFunctionsWhereInput",
        "FleekFunctionDeploymentWhereInput", "FleekFunctionDeploymentsWhereInput", "CreateFleekFunctionDataInput",
        "UpdateFleekFunctionDataInput", "DeleteFleekFunctionWhereInput",
        "TriggerFleekFunctionDeploymentDataInput", "TriggerFleekFunctionDeploymentWhereInput"],
    update_by: UpdateWhere ("UpdateFleekFunctionWhereInput"), roots: ["FleekQuery", "FleekMutation"],
    queries: ["fleekFunction", "fleekFunctionByName", "fleekFunctions", "fleekFunctionDeployment", "fleekFunctionDeployments"],
    mutations: ["createFleekFunction", "updateFleekFunction", "deleteFleekFunction", "triggerFleekFunctionDeployment"]
}
