//! `/v1/projects/{project}/domains` and `/v1/domains`

use std::sync::Arc;

use af_contract::Certificate;
use axum::extract::State as Shared;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::List;
use super::etag::Tagged;
use super::problem::{Failure, Json, Path, ProblemDocument, Query};
use crate::app::State;
use crate::domain::domains::{self, Change, NewDomain, Owner};
use crate::domain::{Actor, Start, certificates, verification};
use crate::store::DomainRow;

/// A name of its own for a function or a site.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Domain {
    /// `dom_…`
    id: String,
    project_id: String,
    /// `www.example.com`, or `*.example.com` for all names one label below.
    hostname: String,
    /// `WEB2`: a name of the DNS.
    domain_type: &'static str,
    /// What it leads to, if that is a function.
    function_id: Option<String>,
    /// What it leads to, if that is a site.
    site_id: Option<String>,
    /// Whether it leads there now.
    verified: bool,
    /// `TXT`, `CNAME` or `A`.
    verification_method: String,
    /// `PENDING`: never proven. `VERIFIED`. `FAILED`: proven once, and not any more.
    verification_status: String,
    /// What the last check found amiss, and what to do; null: nothing, or there was none.
    verification_error: Option<String>,
    /// A TXT record says `af-site-verification=` and this.
    txt_verification_token: String,
    /// The DNS records to make.
    records: Vec<Record>,
    /// `NONE`: not verified. `PENDING`: an edge gets a certificate when the name is asked for. `ACTIVE`, `EXPIRED`: of
    /// the domain's own certificate. `FAILED` is not used yet: the control plane does not hear of certificates that
    /// edges get.
    ssl_status: &'static str,
    /// When the domain's own certificate ends, milliseconds since 1970 UTC; null: it has none.
    certificate_expires_at: Option<i64>,
    /// Milliseconds since 1970 UTC.
    verified_at: Option<i64>,
    /// When its records were last looked for, milliseconds since 1970 UTC.
    checked_at: Option<i64>,
    /// Milliseconds since 1970 UTC.
    created_at: i64,
    /// Milliseconds since 1970 UTC.
    updated_at: i64,
}

/// A DNS record to make.
#[derive(Serialize, ToSchema)]
struct Record {
    /// `VERIFICATION` proves the name, `TRAFFIC` makes requests come here.
    purpose: &'static str,
    /// `TXT`, `CNAME`, `A` or `AAAA`.
    r#type: &'static str,
    /// Where. A TXT record may also be at the name itself, without `_af.`.
    name: String,
    /// What it says.
    value: String,
}

/// What a new domain is made of: one of `functionId` and `siteId`.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct DomainInput {
    /// `www.example.com`, or `*.example.com` for all names one label below.
    hostname: String,
    /// `fn_…`
    function_id: Option<String>,
    /// `site_…`
    site_id: Option<String>,
    /// `TXT`, `CNAME` or `A`; left out: `TXT`, which always works.
    verification_method: Option<String>,
}

/// What is to change; what is left out stays.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct DomainChange {
    /// `fn_…`
    function_id: Option<String>,
    /// `site_…`
    site_id: Option<String>,
    /// `TXT`, `CNAME` or `A`.
    verification_method: Option<String>,
}

/// A certificate with its key.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CertificateInput {
    /// The certificates in PEM: the domain's own, then who signed it, and so on.
    chain: String,
    /// The private key in PEM.
    key: String,
}

/// Which domains.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct ByName {
    /// Only the one with this name.
    hostname: Option<String>,
    /// `next` of the page before.
    after: Option<String>,
    /// Items of the page; left out: 100.
    #[param(minimum = 1, maximum = 100)]
    limit: Option<u32>,
}

impl ByName {
    fn start(&self) -> Start<'_> {
        super::start(self.after.as_deref(), self.limit)
    }
}

impl Domain {
    fn tagged(state: &State, row: DomainRow) -> Result<Tagged<Self>, Failure> {
        let shape = |row: &DomainRow| Self::of(state, row.clone());
        Tagged::try_of(domains::shown(&row), |(row, _)| shape(row))
    }

    fn of(state: &State, row: DomainRow) -> Result<Self, Failure> {
        let records = domains::records(state, &row)?.into_iter().map(|record| Record {
            purpose: record.purpose,
            r#type: record.kind,
            name: record.name,
            value: record.value,
        });
        let (function_id, site_id) = match row.owner_kind.as_str() {
            "site" => (None, Some(row.owner_id.clone())),
            _ => (Some(row.owner_id.clone()), None),
        };
        Ok(Self {
            records: records.collect(),
            ssl_status: domains::ssl_status(&row),
            verified: row.status == "VERIFIED",
            id: row.id,
            project_id: row.project_id,
            hostname: row.hostname,
            domain_type: "WEB2",
            function_id,
            site_id,
            verification_method: row.method,
            verification_status: row.status,
            verification_error: row.reason,
            txt_verification_token: row.token,
            certificate_expires_at: row.certificate_not_after,
            verified_at: row.verified_at,
            checked_at: row.checked_at,
            created_at: row.created_at,
            updated_at: row.updated_at,
        })
    }
}

/// A project's domains, oldest first.
#[utoipa::path(get, path = "/v1/projects/{project}/domains", operation_id = "domain_list", tag = "domains",
    params(("project" = String, Path), ByName), responses((status = 200, body = List<Domain>),
    (status = 400, body = ProblemDocument), (status = 401, body = ProblemDocument), (status = 403, body = ProblemDocument),
    (status = 404, body = ProblemDocument)))]
pub(super) async fn list(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Path(project): Path<String>,
    Query(filter): Query<ByName>,
) -> Result<axum::Json<List<Domain>>, Failure> {
    let page = domains::list(&state, &actor, &project, filter.hostname.as_deref(), filter.start()).await?;
    List::try_of(page, |row| Domain::of(&state, row))
}

/// Claims a name. It leads to the function or site once it is verified.
#[utoipa::path(post, path = "/v1/projects/{project}/domains", operation_id = "domain_create", tag = "domains",
    params(("project" = String, Path)), request_body = DomainInput, responses(
    (status = 201, body = Domain), (status = 400, body = ProblemDocument),
    (status = 401, body = ProblemDocument), (status = 403, body = ProblemDocument), (status = 404, body = ProblemDocument),
    (status = 409, body = ProblemDocument)))]
pub(super) async fn create(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Path(project): Path<String>,
    Json(input): Json<DomainInput>,
) -> Result<(StatusCode, Tagged<Domain>), Failure> {
    let owner = Owner::new(input.function_id, input.site_id)?;
    let new = NewDomain { hostname: input.hostname, owner, method: input.verification_method };
    let domain = domains::create(&state, &actor, &project, new).await?;
    Ok((StatusCode::CREATED, Domain::tagged(&state, domain)?))
}

/// One domain, with the DNS records that it needs.
#[utoipa::path(get, path = "/v1/domains/{domain}", operation_id = "domain_get",
    tag = "domains", params(("domain" = String, Path)),
    responses((status = 200, body = Domain), (status = 401, body = ProblemDocument), (status = 403, body = ProblemDocument),
    (status = 404, body = ProblemDocument)))]
pub(super) async fn get(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Path(id): Path<String>,
) -> Result<Tagged<Domain>, Failure> {
    Domain::tagged(&state, domains::get(&state, &actor, &id).await?)
}

/// Makes a domain lead elsewhere, or changes how it is verified.
#[utoipa::path(patch, path = "/v1/domains/{domain}", operation_id = "domain_update",
    tag = "domains", params(("domain" = String, Path)),
    request_body = DomainChange, responses((status = 200, body = Domain), (status = 400, body = ProblemDocument),
    (status = 401, body = ProblemDocument), (status = 403, body = ProblemDocument), (status = 404, body = ProblemDocument)))]
pub(super) async fn update(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Path(id): Path<String>,
    Json(input): Json<DomainChange>,
) -> Result<Tagged<Domain>, Failure> {
    let owner = match (input.function_id, input.site_id) {
        (None, None) => None,
        (function, site) => Some(Owner::new(function, site)?),
    };
    let change = Change { owner, method: input.verification_method };
    Domain::tagged(&state, domains::update(&state, &actor, &id, change).await?)
}

/// Gives a name up. It leads nowhere from then on.
#[utoipa::path(delete, path = "/v1/domains/{domain}", operation_id = "domain_delete",
    tag = "domains", params(("domain" = String, Path)),
    responses((status = 204), (status = 401, body = ProblemDocument), (status = 403, body = ProblemDocument), (status = 404, body = ProblemDocument)))]
pub(super) async fn delete(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Path(id): Path<String>,
) -> Result<StatusCode, Failure> {
    domains::delete(&state, &actor, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Looks for the domain's verification record in the DNS. `verified` says whether the name is the project's now,
/// `verificationError` what is amiss.
#[utoipa::path(post, path = "/v1/domains/{domain}/verify", operation_id = "domain_verify",
    tag = "domains", params(("domain" = String, Path)),
    responses((status = 200, body = Domain), (status = 401, body = ProblemDocument), (status = 403, body = ProblemDocument),
    (status = 404, body = ProblemDocument), (status = 409, body = ProblemDocument),
    (status = 429, body = ProblemDocument)))]
pub(super) async fn verify(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Path(id): Path<String>,
) -> Result<Tagged<Domain>, Failure> {
    Domain::tagged(&state, verification::verify(&state, &actor, &id).await?)
}

/// Gives a domain a certificate of its own, which edges use instead of getting one.
#[utoipa::path(put, path = "/v1/domains/{domain}/certificate", operation_id = "certificate_put", tag = "domains",
    params(("domain" = String, Path)), request_body = CertificateInput, responses(
    (status = 200, body = Domain), (status = 400, body = ProblemDocument),
    (status = 401, body = ProblemDocument), (status = 403, body = ProblemDocument), (status = 404, body = ProblemDocument)))]
pub(super) async fn put_certificate(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Path(id): Path<String>,
    Json(input): Json<CertificateInput>,
) -> Result<Tagged<Domain>, Failure> {
    let certificate = Certificate { chain: input.chain, key: input.key };
    Domain::tagged(&state, certificates::put(&state, &actor, &id, certificate).await?)
}

/// Takes a domain's own certificate away, so that edges get one.
#[utoipa::path(delete, path = "/v1/domains/{domain}/certificate", operation_id = "certificate_delete", tag = "domains",
    params(("domain" = String, Path)), responses((status = 200, body = Domain),
    (status = 401, body = ProblemDocument), (status = 403, body = ProblemDocument), (status = 404, body = ProblemDocument)))]
pub(super) async fn delete_certificate(
    Shared(state): Shared<Arc<State>>,
    actor: Actor,
    Path(id): Path<String>,
) -> Result<Tagged<Domain>, Failure> {
    Domain::tagged(&state, certificates::delete(&state, &actor, &id).await?)
}
