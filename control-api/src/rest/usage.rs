//! `/v1/…/usage`: what functions and sites used, and their projects and organizations by them.

use std::sync::Arc;

use axum::extract::State as Shared;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::problem::{Failure, Path, ProblemDocument, Query};
use super::start;
use crate::app::State;
use crate::domain::Actor;
use crate::domain::usage::read::{self, Asked, Of, Part, Parts, Per, length};

/// From when to when, and in which parts.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Times {
    /// Milliseconds since 1970 UTC, of which the whole day or hour counts; left out: the beginning of this month.
    #[param(minimum = 0)]
    from: Option<i64>,
    /// Milliseconds since 1970 UTC, likewise; left out: now. At most 400 days after `from`, or 62 by hours.
    #[param(minimum = 0)]
    to: Option<i64>,
    /// `day` or `hour`; left out: `day`. Hours are kept of functions and sites only.
    per: Option<String>,
    /// `next` of the page before.
    after: Option<String>,
    /// Items of the page; left out: 100.
    #[param(minimum = 1, maximum = 100)]
    limit: Option<u32>,
}

/// From when to when.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Days {
    /// Milliseconds since 1970 UTC, of which the whole day counts; left out: the beginning of this month.
    #[param(minimum = 0)]
    from: Option<i64>,
    /// Milliseconds since 1970 UTC, likewise; left out: now. At most 400 days after `from`.
    #[param(minimum = 0)]
    to: Option<i64>,
    /// `next` of the page before.
    after: Option<String>,
    /// Items of the page; left out: 100.
    #[param(minimum = 1, maximum = 100)]
    limit: Option<u32>,
}

/// What was used.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct UsageCounts {
    /// Requests that were answered or failed.
    requests: u64,
    /// Of these, those that ended with its failure: a crash, a limit, or a status of 500 or more of its own.
    errors: u64,
    /// CPU time of its code, microseconds.
    cpu_us: u64,
    /// For so long its code was at work for requests, waiting included, microseconds.
    wall_us: u64,
    /// Bytes of bodies that went to clients.
    sent_bytes: u64,
}

/// What was used on a day, or in an hour.
#[derive(Serialize, ToSchema)]
pub(super) struct UsageTime {
    /// When it began, milliseconds since 1970 UTC.
    from: i64,
    /// When it ended.
    to: i64,
    #[serde(flatten)]
    counts: UsageCounts,
}

/// What was used in a time.
#[derive(Serialize, ToSchema)]
pub(super) struct UsageTimes {
    /// When the time begins that counts, milliseconds since 1970 UTC.
    from: i64,
    /// When it ends.
    to: i64,
    /// `day` or `hour`.
    per: &'static str,
    /// In all of it, whatever the page.
    total: UsageCounts,
    /// Days or hours in which something was used, the earliest first.
    data: Vec<UsageTime>,
    /// Give it as `after` to get the next page; null: this is the last.
    next: Option<String>,
}

/// What one of several used.
#[derive(Serialize, ToSchema)]
pub(super) struct UsagePart {
    /// `prj_…`, `fn_…` or `site_…`
    id: String,
    name: String,
    #[serde(flatten)]
    counts: UsageCounts,
}

/// What each of several used in a time.
#[derive(Serialize, ToSchema)]
pub(super) struct UsageParts {
    /// When the time begins that counts, milliseconds since 1970 UTC.
    from: i64,
    /// When it ends.
    to: i64,
    /// Those that there are now, the oldest first.
    data: Vec<UsagePart>,
    /// Give it as `after` to get the next page; null: this is the last.
    next: Option<String>,
}

impl From<af_contract::Usage> for UsageCounts {
    fn from(usage: af_contract::Usage) -> Self {
        let af_contract::Usage { requests, errors, cpu_us, wall_us, sent_bytes } = usage;
        Self { requests, errors, cpu_us, wall_us, sent_bytes }
    }
}

impl From<Part> for UsagePart {
    fn from(Part { id, name, usage }: Part) -> Self {
        Self { id, name, counts: usage.into() }
    }
}

/// What an organization's projects used, those that are gone included, by days.
#[utoipa::path(get, path = "/v1/organizations/{organization}/usage", operation_id = "usage_get_of_organization", tag = "usage",
    params(("organization" = String, Path), Times), responses((status = 200, body = UsageTimes),
    (status = 401, body = ProblemDocument), (status = 403, body = ProblemDocument), (status = 404, body = ProblemDocument)))]
pub(super) async fn of_organization(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Path(organization): Path<String>,
    Query(times): Query<Times>,
) -> Result<axum::Json<UsageTimes>, Failure> {
    used(&state, &actor, Of::Organization(&organization), &times).await
}

/// What a project's functions and sites used, those that are gone included, by days.
#[utoipa::path(get, path = "/v1/projects/{project}/usage", operation_id = "usage_get_of_project", tag = "usage",
    params(("project" = String, Path), Times), responses((status = 200, body = UsageTimes),
    (status = 401, body = ProblemDocument), (status = 403, body = ProblemDocument), (status = 404, body = ProblemDocument)))]
pub(super) async fn of_project(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Path(project): Path<String>,
    Query(times): Query<Times>,
) -> Result<axum::Json<UsageTimes>, Failure> {
    used(&state, &actor, Of::Project(&project), &times).await
}

/// What a function used, by days or hours.
#[utoipa::path(get, path = "/v1/functions/{function}/usage", operation_id = "usage_get_of_function", tag = "usage",
    params(("function" = String, Path), Times), responses((status = 200, body = UsageTimes),
    (status = 401, body = ProblemDocument), (status = 403, body = ProblemDocument), (status = 404, body = ProblemDocument)))]
pub(super) async fn of_function(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Path(function): Path<String>,
    Query(times): Query<Times>,
) -> Result<axum::Json<UsageTimes>, Failure> {
    used(&state, &actor, Of::Function(&function), &times).await
}

/// What a site used, by days or hours.
#[utoipa::path(get, path = "/v1/sites/{site}/usage", operation_id = "usage_get_of_site", tag = "usage",
    params(("site" = String, Path), Times), responses((status = 200, body = UsageTimes),
    (status = 401, body = ProblemDocument), (status = 403, body = ProblemDocument), (status = 404, body = ProblemDocument)))]
pub(super) async fn of_site(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Path(site): Path<String>,
    Query(times): Query<Times>,
) -> Result<axum::Json<UsageTimes>, Failure> {
    used(&state, &actor, Of::Site(&site), &times).await
}

/// What each project of an organization used. What others used that are gone counts for the organization only.
#[utoipa::path(get, path = "/v1/organizations/{organization}/usage/projects", operation_id = "usage_list_projects", tag = "usage",
    params(("organization" = String, Path), Days), responses((status = 200, body = UsageParts),
    (status = 401, body = ProblemDocument), (status = 403, body = ProblemDocument), (status = 404, body = ProblemDocument)))]
pub(super) async fn projects(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Path(organization): Path<String>,
    Query(days): Query<Days>,
) -> Result<axum::Json<UsageParts>, Failure> {
    parts(&state, &actor, (Parts::Projects, &organization), &days).await
}

/// What each function of a project used. What others used that are gone counts for the project only.
#[utoipa::path(get, path = "/v1/projects/{project}/usage/functions", operation_id = "usage_list_functions", tag = "usage",
    params(("project" = String, Path), Days), responses((status = 200, body = UsageParts),
    (status = 401, body = ProblemDocument), (status = 403, body = ProblemDocument), (status = 404, body = ProblemDocument)))]
pub(super) async fn functions(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Path(project): Path<String>,
    Query(days): Query<Days>,
) -> Result<axum::Json<UsageParts>, Failure> {
    parts(&state, &actor, (Parts::Functions, &project), &days).await
}

/// What each site of a project used. What others used that are gone counts for the project only.
#[utoipa::path(get, path = "/v1/projects/{project}/usage/sites", operation_id = "usage_list_sites", tag = "usage",
    params(("project" = String, Path), Days), responses((status = 200, body = UsageParts),
    (status = 401, body = ProblemDocument), (status = 403, body = ProblemDocument), (status = 404, body = ProblemDocument)))]
pub(super) async fn sites(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Path(project): Path<String>,
    Query(days): Query<Days>,
) -> Result<axum::Json<UsageParts>, Failure> {
    parts(&state, &actor, (Parts::Sites, &project), &days).await
}

async fn used(
    state: &State,
    actor: &Actor,
    of: Of<'_>,
    times: &Times,
) -> Result<axum::Json<UsageTimes>, Failure> {
    let start = start(times.after.as_deref(), times.limit);
    let asked = Asked { from: times.from, to: times.to, per: times.per.as_deref(), start };
    let used = read::read(state, actor, of, asked).await?;
    let period = used.period;
    let time = |(from, usage): (i64, af_contract::Usage)| UsageTime {
        from,
        to: from + length(period.per),
        counts: usage.into(),
    };
    Ok(axum::Json(UsageTimes {
        from: period.from,
        to: period.to,
        per: if period.per == Per::Hour { "hour" } else { "day" },
        total: used.total.into(),
        data: used.page.items.into_iter().map(time).collect(),
        next: used.page.next,
    }))
}

async fn parts(
    state: &State,
    actor: &Actor,
    of: (Parts, &str),
    days: &Days,
) -> Result<axum::Json<UsageParts>, Failure> {
    let start = start(days.after.as_deref(), days.limit);
    let asked = Asked { from: days.from, to: days.to, per: None, start };
    let (period, page) = read::list(state, actor, of, asked).await?;
    let data = page.items.into_iter().map(UsagePart::from).collect();
    Ok(axum::Json(UsageParts { from: period.from, to: period.to, data, next: page.next }))
}
