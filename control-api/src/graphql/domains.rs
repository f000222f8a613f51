//! Domains: what leads to a site or function once it is verified.

use async_graphql::{Context, Enum, ID, InputObject, Object, SimpleObject};

use super::asker::{actor, project, state};
use super::failure::Result;
use super::projects::one_id;
use super::scalars::{Date, Listing, PaginationInput};
use super::zones::{CreateZoneForSiteWhereInput, DomainsByZoneIdWhereInput, Zone, ZoneWhereInput, site_of};
use crate::domain::domains::{self, NewDomain, Owner};
use crate::domain::{Error, sites, verification};
use crate::store::{DomainRow, SiteRow};

/// A name that leads to a site or function once it is verified.
pub(super) struct Domain(pub(super) DomainRow);

/// A DNS record that makes a domain work.
#[derive(SimpleObject)]
struct DnsConfig {
    id: ID,
    /// `TXT`, `CNAME`, `A` or `AAAA`.
    r#type: String,
    name: String,
    value: String,
    created_at: Date,
    updated_at: Date,
}

/// How far a domain is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
enum DomainStatus {
    /// It waits for its records.
    Created,
    /// It is verified.
    Active,
    /// Its records were not found, or are gone.
    VerifyingFailed,
}

/// Whether a domain is proven.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
enum VerificationStatus {
    Pending,
    Verified,
    Failed,
}

/// Whether TLS works at a domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
enum SslStatus {
    None,
    Pending,
    Active,
    Expired,
    Failed,
}

/// Which kind of name. Here, all are of the DNS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
enum DomainType {
    #[graphql(name = "WEB2")]
    Web2,
    Arns,
    Ens,
    Ipns,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
enum DnslinkStatus {
    Created,
}

#[Object]
impl Domain {
    async fn id(&self) -> ID {
        ID(self.0.id.clone())
    }

    async fn hostname(&self) -> &str {
        &self.0.hostname
    }

    async fn is_verified(&self) -> bool {
        self.0.status == "VERIFIED"
    }

    async fn verified(&self) -> bool {
        self.0.status == "VERIFIED"
    }

    async fn status(&self) -> DomainStatus {
        match (self.0.status.as_str(), self.0.checked_at) {
            ("VERIFIED", _) => DomainStatus::Active,
            ("PENDING", None) => DomainStatus::Created,
            _ => DomainStatus::VerifyingFailed,
        }
    }

    /// What the last check found amiss.
    async fn error_message(&self) -> Option<&str> {
        self.0.reason.as_deref()
    }

    /// Always null.
    async fn dnslink_status(&self) -> Option<DnslinkStatus> {
        None
    }

    async fn domain_type(&self) -> DomainType {
        DomainType::Web2
    }

    async fn project_id(&self) -> ID {
        ID(self.0.project_id.clone())
    }

    async fn site_id(&self) -> Option<ID> {
        (self.0.owner_kind == "site").then(|| ID(self.0.owner_id.clone()))
    }

    async fn function_id(&self) -> Option<ID> {
        (self.0.owner_kind == "function").then(|| ID(self.0.owner_id.clone()))
    }

    /// Null for a function's.
    async fn zone(&self) -> Option<Zone> {
        let row = &self.0;
        let site = SiteRow {
            id: row.owner_id.clone(),
            project_id: row.project_id.clone(),
            name: row.owner_slug.clone().unwrap_or_default(),
            slug: row.owner_slug.clone().unwrap_or_default(),
            current_deployment_id: None,
            root_cid: None,
            created_at: row.created_at,
            updated_at: row.updated_at,
        };
        (row.owner_kind == "site").then(|| Zone::of(&site))
    }

    /// The records that make it work.
    async fn dns_configs(&self, ctx: &Context<'_>) -> Result<Vec<DnsConfig>> {
        let records = domains::records(state(ctx)?, &self.0)?;
        let shaped = records.into_iter().enumerate().map(|(place, record)| DnsConfig {
            id: ID(format!("{}-{place}", self.0.id)),
            r#type: record.kind.into(),
            name: record.name,
            value: record.value,
            created_at: Date(self.0.created_at),
            updated_at: Date(self.0.updated_at),
        });
        Ok(shaped.collect())
    }

    /// What the TXT record has to say, where it is verified by one.
    async fn txt_verification_token(&self) -> Option<&str> {
        (self.0.method == "TXT").then_some(self.0.token.as_str())
    }

    async fn txt_verification_status(&self) -> VerificationStatus {
        match self.0.status.as_str() {
            "VERIFIED" => VerificationStatus::Verified,
            "FAILED" => VerificationStatus::Failed,
            _ => VerificationStatus::Pending,
        }
    }

    async fn dns_verified_at(&self) -> Option<Date> {
        self.0.verified_at.map(Date)
    }

    async fn last_dns_check(&self) -> Option<Date> {
        self.0.checked_at.map(Date)
    }

    /// Checks in a row that found the proof of a verified name gone.
    async fn dns_check_attempts(&self) -> i64 {
        self.0.misses
    }

    async fn ssl_status(&self) -> SslStatus {
        match domains::ssl_status(&self.0) {
            "ACTIVE" => SslStatus::Active,
            "EXPIRED" => SslStatus::Expired,
            "PENDING" => SslStatus::Pending,
            _ => SslStatus::None,
        }
    }

    /// Null: only the edges know.
    async fn ssl_issued_at(&self) -> Option<Date> {
        None
    }

    /// Of the project's own certificate.
    async fn ssl_expires_at(&self) -> Option<Date> {
        self.0.certificate_not_after.map(Date)
    }

    /// Whether the edges get certificates by themselves.
    async fn ssl_auto_renew(&self) -> bool {
        self.0.certificate_not_after.is_none()
    }

    /// Always null.
    async fn arns_name(&self) -> Option<String> {
        None
    }

    /// Always null.
    async fn ens_name(&self) -> Option<String> {
        None
    }

    /// Always null.
    async fn ipns_hash(&self) -> Option<String> {
        None
    }

    async fn created_at(&self) -> Date {
        Date(self.0.created_at)
    }

    async fn updated_at(&self) -> Date {
        Date(self.0.updated_at)
    }
}

/// What to do to verify a domain.
#[derive(SimpleObject)]
struct DomainVerificationInstructions {
    /// `TXT`, `CNAME` or `A`.
    method: String,
    record_type: String,
    hostname: String,
    value: String,
    instructions: String,
}

#[derive(InputObject)]
struct DomainWhereInput {
    id: ID,
}

#[derive(InputObject)]
struct DomainByHostnameWhereInput {
    hostname: String,
}

#[derive(InputObject)]
struct CreateDomainInput {
    hostname: String,
    /// What it leads to: this site,
    site_id: Option<ID>,
    /// or this function.
    function_id: Option<ID>,
    domain_type: Option<DomainType>,
    /// `TXT` when it is left out, `CNAME` or `A`.
    verification_method: Option<String>,
}

#[derive(InputObject)]
struct CreateDomainWhereInput {
    zone_id: ID,
}

#[derive(InputObject)]
struct CreateDomainDataInput {
    hostname: String,
}

#[derive(InputObject)]
struct VerifyDomainWhereInput {
    id: ID,
}

#[derive(InputObject)]
struct VerifyDomainDataInput {
    placeholder: Option<String>,
}

#[derive(InputObject)]
struct DeleteDomainWhereInput {
    id: ID,
}

#[derive(Default)]
pub(super) struct Query;

#[Object(name = "DomainQuery")]
impl Query {
    /// One domain.
    async fn domain(
        &self,
        ctx: &Context<'_>,
        id: Option<ID>,
        r#where: Option<DomainWhereInput>,
    ) -> Result<Domain> {
        let id = one_id("domain", id, r#where.map(|by| by.id))?;
        Ok(Domain(domains::get(state(ctx)?, actor(ctx)?, &id).await?))
    }

    /// The project's domain with this name.
    async fn domain_by_hostname(
        &self,
        ctx: &Context<'_>,
        hostname: Option<String>,
        r#where: Option<DomainByHostnameWhereInput>,
    ) -> Result<Domain> {
        let project = project(ctx).await?;
        let name = hostname.or(r#where.map(|by| by.hostname)).unwrap_or_default();
        let page = domains::list(state(ctx)?, actor(ctx)?, &project, Some(&name), "").await?;
        let found = page.items.into_iter().next();
        Ok(Domain(found.ok_or_else(|| Error::not_found("domain", &name))?))
    }

    /// A project's domains, oldest first.
    #[graphql(complexity = "20 * child_complexity")]
    async fn domains(&self, ctx: &Context<'_>, filter: Option<PaginationInput>) -> Result<Listing<Domain>> {
        let (state, actor, project) = (state(ctx)?, actor(ctx)?, project(ctx).await?);
        let project = project.as_str();
        let read = |after: String| async move { domains::list(state, actor, project, None, &after).await };
        Ok(Listing::read(filter, read, |row: &DomainRow| row.id.clone(), Domain).await?)
    }

    /// A site's domains.
    #[graphql(complexity = "20 * child_complexity")]
    async fn domains_by_zone_id(
        &self,
        ctx: &Context<'_>,
        r#where: DomainsByZoneIdWhereInput,
    ) -> Result<Listing<Domain>> {
        let site = site_of(ctx, &r#where.zone_id).await?;
        let rows = domains::of_sites(state(ctx)?, actor(ctx)?, &site.project_id, &[site.id]).await?;
        Ok(Listing::whole(rows.into_iter().map(Domain).collect()))
    }

    /// What to do to verify a domain.
    async fn domain_verification_instructions(
        &self,
        ctx: &Context<'_>,
        domain_id: ID,
    ) -> Result<DomainVerificationInstructions> {
        let (state, actor) = (state(ctx)?, actor(ctx)?);
        let domain = domains::get(state, actor, &domain_id).await?;
        let records = domains::records(state, &domain)?;
        let record = records.into_iter().find(|record| record.purpose == "VERIFICATION");
        let none = || {
            Error::conflict("no_record", "this platform does not say which record would prove it; use TXT")
        };
        let record = record.ok_or_else(none)?;
        Ok(DomainVerificationInstructions {
            method: domain.method,
            instructions: format!(
                "Make a {} record for {} with the value {}, then verify the domain.",
                record.kind, record.name, record.value
            ),
            record_type: record.kind.into(),
            hostname: record.name,
            value: record.value,
        })
    }

    /// A site's zone.
    async fn zone(&self, ctx: &Context<'_>, id: Option<ID>, r#where: Option<ZoneWhereInput>) -> Result<Zone> {
        let id = one_id("zone", id, r#where.map(|by| by.id))?;
        Ok(Zone::of(&site_of(ctx, &id).await?))
    }

    /// The zones of a project's sites.
    #[graphql(complexity = "20 * child_complexity")]
    async fn zones(&self, ctx: &Context<'_>, filter: Option<PaginationInput>) -> Result<Listing<Zone>> {
        let (state, actor, project) = (state(ctx)?, actor(ctx)?, project(ctx).await?);
        let project = project.as_str();
        let read = |after: String| async move { sites::list(state, actor, project, None, &after).await };
        Ok(Listing::read(filter, read, |row: &SiteRow| row.id.clone(), |site| Zone::of(&site)).await?)
    }
}

#[derive(Default)]
pub(super) struct Mutation;

#[Object(name = "DomainMutation")]
impl Mutation {
    /// Claims a name: with `input`, or with `where` and `data` for a zone, which is verified by CNAME.
    async fn create_domain(
        &self,
        ctx: &Context<'_>,
        input: Option<CreateDomainInput>,
        r#where: Option<CreateDomainWhereInput>,
        data: Option<CreateDomainDataInput>,
    ) -> Result<Domain> {
        let (state, actor) = (state(ctx)?, actor(ctx)?);
        let (project, new) = match (input, r#where, data) {
            (Some(input), None, None) => (project(ctx).await?, claimed(input)?),
            (None, Some(by), Some(data)) => {
                let site = site_of(ctx, &by.zone_id).await?;
                let method = if data.hostname.starts_with("*.") { "TXT" } else { "CNAME" };
                let owner = Owner::new(None, Some(site.id))?;
                (site.project_id, NewDomain { hostname: data.hostname, owner, method: Some(method.into()) })
            }
            _ => return Err(Error::invalid("invalid_input", "give input, or where and data").into()),
        };
        Ok(Domain(domains::create(state, actor, &project, new).await?))
    }

    /// Looks for a domain's records now.
    async fn verify_domain(
        &self,
        ctx: &Context<'_>,
        domain_id: Option<ID>,
        r#where: Option<VerifyDomainWhereInput>,
        data: Option<VerifyDomainDataInput>,
    ) -> Result<Domain> {
        let _clients_of_fleek_send_nothing_in_it = data.and_then(|data| data.placeholder);
        let id = one_id("domain", domain_id, r#where.map(|by| by.id))?;
        Ok(Domain(verification::verify(state(ctx)?, actor(ctx)?, &id).await?))
    }

    /// Says how far a verified domain's TLS is: the edges get certificates by themselves, and need no address of mail for it.
    async fn provision_ssl(&self, ctx: &Context<'_>, domain_id: ID, email: Option<String>) -> Result<Domain> {
        let _not_needed = email;
        let domain = domains::get(state(ctx)?, actor(ctx)?, &domain_id).await?;
        if domain.status != "VERIFIED" {
            let detail = "a domain has to be verified before it can have a certificate";
            return Err(Error::conflict("domain_not_verified", detail).into());
        }
        Ok(Domain(domain))
    }

    /// Gives a name up. Returns what it was.
    async fn delete_domain(
        &self,
        ctx: &Context<'_>,
        id: Option<ID>,
        r#where: Option<DeleteDomainWhereInput>,
    ) -> Result<Domain> {
        let (state, actor) = (state(ctx)?, actor(ctx)?);
        let id = one_id("domain", id, r#where.map(|by| by.id))?;
        let domain = domains::get(state, actor, &id).await?;
        domains::delete(state, actor, &id).await?;
        Ok(Domain(domain))
    }

    /// A site has its zone from the start: returns it.
    async fn create_zone_for_site(
        &self,
        ctx: &Context<'_>,
        r#where: CreateZoneForSiteWhereInput,
    ) -> Result<Zone> {
        Ok(Zone::of(&sites::get(state(ctx)?, actor(ctx)?, &r#where.site_id).await?))
    }
}

fn claimed(input: CreateDomainInput) -> std::result::Result<NewDomain, Error> {
    if input.domain_type.is_some_and(|kind| kind != DomainType::Web2) {
        let detail = "only names of the DNS (WEB2) lead to anything here";
        return Err(Error::invalid("invalid_domain_type", detail));
    }
    let owner = Owner::new(input.function_id.map(|id| id.0), input.site_id.map(|id| id.0))?;
    Ok(NewDomain { hostname: input.hostname, owner, method: input.verification_method })
}
