//! Domains: names of their own that projects give their functions and sites.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use af_contract::DomainName;

use super::access::{self, Noun};
use super::audit::{self, Event};
use super::plans::Limit;
use super::proof::{self, Method};
use super::quotas::Terms;
use super::verification::Attempts;
use super::{Actor, Error, Page, Start, State, id, now, tokens, versions};
use crate::dns::Dns;
use crate::store::domains::{self, OwnerKind};
use crate::store::feed::{self, Kind};
use crate::store::{Connection, DomainRow, StoreError};

/// Domains of a project. Each verified one costs a few questions to the DNS a day, and an entry on every edge.
pub(super) const MOST: i64 = 100;

/// Checks closer together would do nothing else.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(10);

/// A name that is checked less often than once a year is not checked.
const LONGEST_INTERVAL: Duration = Duration::from_secs(366 * 24 * 3600);

/// What the control plane has to know about names.
#[derive(Clone, Debug)]
pub struct DomainConfig {
    /// The platform's own domains: functions answer at `<slug>.<one of them>`. The first one is shown.
    pub platform: Vec<String>,
    /// Where the edges are, for names that cannot be aliases. Empty: names are not verified by address.
    pub edge_addresses: Vec<IpAddr>,
    /// Who is asked about names. Empty: the system's servers.
    pub dns_servers: Vec<SocketAddr>,
    /// Between two checks of a verified name.
    pub check_interval: Duration,
}

/// What it works with.
pub(crate) struct Domains {
    pub config: DomainConfig,
    pub dns: Dns,
    pub attempts: Attempts,
}

/// What a domain leads to.
#[derive(Clone, Debug)]
pub struct Owner {
    pub(crate) kind: OwnerKind,
    pub(crate) id: String,
}

/// What a new domain is made of.
#[derive(Debug)]
pub struct NewDomain {
    /// Exact or wildcard.
    pub hostname: String,
    /// What it leads to.
    pub owner: Owner,
    /// How it will be proven; TXT when left out.
    pub method: Option<String>,
}

/// What is to change; `None` stays as it is.
#[derive(Debug, Default)]
pub struct Change {
    /// What it leads to.
    pub owner: Option<Owner>,
    /// How it will be proven from now on.
    pub method: Option<String>,
}

/// A DNS record that a project has to make.
#[derive(Debug)]
pub struct Record {
    /// What it is for: `VERIFICATION` proves the name, `TRAFFIC` makes requests come here.
    pub purpose: &'static str,
    /// `TXT`, `CNAME`, `A` or `AAAA`.
    pub kind: &'static str,
    /// Where.
    pub name: String,
    /// What it says.
    pub value: String,
}

impl Default for DomainConfig {
    fn default() -> Self {
        Self {
            platform: vec!["localhost".into()],
            edge_addresses: Vec::new(),
            dns_servers: Vec::new(),
            check_interval: Duration::from_secs(24 * 3600),
        }
    }
}

impl Domains {
    pub(crate) fn new(mut config: DomainConfig) -> Result<Self, hickory_resolver::net::NetError> {
        for domain in &mut config.platform {
            domain.make_ascii_lowercase();
        }
        config.check_interval = config.check_interval.clamp(SHORTEST_INTERVAL, LONGEST_INTERVAL);
        Ok(Self { dns: Dns::new(&config.dns_servers)?, config, attempts: Attempts::new() })
    }

    /// The slug in a host of the platform.
    pub(super) fn slug_of<'h>(&self, host: &'h str) -> Option<&'h str> {
        let label = |domain: &String| host.strip_suffix(domain.as_str())?.strip_suffix('.');
        self.config.platform.iter().find_map(label).filter(|label| !label.contains('.'))
    }

    /// The platform's own names are given away by slug only.
    fn reserves(&self, name: &DomainName) -> bool {
        self.config.platform.iter().any(|domain| {
            let base = name.base();
            base == domain
                || base.strip_suffix(domain.as_str()).is_some_and(|rest| rest.ends_with('.'))
                || name.covers(domain)
        })
    }
}

impl Owner {
    /// From the two ids of which a request gives one.
    ///
    /// # Errors
    /// When it gives none, or both.
    pub fn new(function: Option<String>, site: Option<String>) -> Result<Self, Error> {
        match (function, site) {
            (Some(id), None) => Ok(Self { kind: OwnerKind::Function, id }),
            (None, Some(id)) => Ok(Self { kind: OwnerKind::Site, id }),
            _ => Err(Error::invalid(
                "invalid_owner",
                "a domain leads to a function or a site; give functionId or siteId, not both",
            )),
        }
    }
}

/// The domain, if the actor is a member of its project.
///
/// # Errors
/// When there is none that the actor may see.
pub async fn get(state: &State, actor: &Actor, id: &str) -> Result<DomainRow, Error> {
    access::domain(state, actor, id, Noun::Domains.read()).await
}

/// A project's domains, oldest first; with `hostname`, at most the one that has it.
///
/// # Errors
/// When the actor is not a member of the project, or the name is none.
pub async fn list(
    state: &State,
    actor: &Actor,
    project: &str,
    hostname: Option<&str>,
    start: impl Into<Start<'_>>,
) -> Result<Page<DomainRow>, Error> {
    let start = start.into();
    access::project(state, actor, project, Noun::Domains.read()).await?;
    let (after, limit) = start.by_id("dom")?;
    let hostname = hostname.map(parse).transpose()?;
    let hostname = hostname.as_ref().map(DomainName::as_str);
    let domains = state.store.domains_of(project, hostname, after, limit).await?;
    Ok(Page::of(domains, limit, |domain| domain.id.clone()))
}

/// The domains of several sites of a project, oldest first.
///
/// # Errors
/// When the actor may not see the project's domains.
pub async fn of_sites(
    state: &State,
    actor: &Actor,
    project: &str,
    sites: &[String],
) -> Result<Vec<DomainRow>, Error> {
    access::project(state, actor, project, Noun::Domains.read()).await?;
    Ok(state.store.domains_of_owners(project, sites).await?)
}

/// Claims a name. It leads somewhere once it is verified.
///
/// # Errors
/// When the actor is not a member, the name is malformed, the platform's or the project's already, or there is no
/// such function or site.
pub async fn create(state: &State, actor: &Actor, project: &str, new: NewDomain) -> Result<DomainRow, Error> {
    access::project(state, actor, project, Noun::Domains.write()).await?;
    let name = parse(&new.hostname)?;
    if state.domains.reserves(&name) {
        let detail =
            format!("{name} is one of the platform's own names; change the slug to get another one of them");
        return Err(Error::invalid("hostname_reserved", detail));
    }
    let method = method(state, &name, new.method.as_deref().unwrap_or("TXT"))?;
    let now = now();
    let domain = DomainRow {
        id: id::new("dom"),
        project_id: project.to_owned(),
        hostname: name.to_string(),
        owner_kind: new.owner.kind.as_str().into(),
        owner_id: new.owner.id.clone(),
        owner_slug: None,
        method: method.as_str().into(),
        token: tokens::random_letters()?,
        status: "PENDING".into(),
        reason: None,
        misses: 0,
        verified_at: None,
        checked_at: None,
        next_check_at: None,
        certificate_not_after: None,
        created_at: now,
        updated_at: now,
    };
    let mut db = state.store.begin().await?;
    check_owner(&mut db, project, &new.owner).await?;
    let terms = Terms::of_project(state, &mut db, project).await?;
    terms.check(Limit::Domains, domains::count(&mut db, project).await?, "remove one that is not used")?;
    domains::insert(&mut db, &domain).await.map_err(named)?;
    audit::commit(db, actor, Event::project("domain.create", &domain.id, project)).await?;
    get(state, actor, &domain.id).await
}

/// Makes a domain lead elsewhere, or be proven otherwise.
///
/// # Errors
/// When there is none that the actor may see, no such function or site in its project, or the method is not possible.
pub async fn update(state: &State, actor: &Actor, id: &str, change: Change) -> Result<DomainRow, Error> {
    let domain = access::domain(state, actor, id, Noun::Domains.write()).await?;
    let name = proof::parse_stored(&domain.hostname)?;
    let method = change.method.as_deref().map(|text| method(state, &name, text)).transpose()?;
    let mut db = state.store.begin().await?;
    let row = domains::read(&mut db, id).await?;
    let mut domain = row.ok_or_else(|| Error::not_found("domain", id))?;
    versions::check(actor, &shown(&domain))?;
    if let Some(owner) = change.owner {
        check_owner(&mut db, &domain.project_id, &owner).await?;
        (domain.owner_kind, domain.owner_id) = (owner.kind.as_str().into(), owner.id);
    }
    if let Some(method) = method {
        domain.method = method.as_str().into();
    }
    domain.updated_at = now();
    domains::update(&mut db, &domain).await?;
    let revision = changed(&mut db, &domain).await?;
    audit::commit(db, actor, Event::project("domain.update", id, &domain.project_id)).await?;
    state.changes.announce(revision.unwrap_or_default());
    get(state, actor, id).await
}

/// Gives a name up. Who proved it last stays known, so that records that are left behind prove nothing for others.
///
/// # Errors
/// When there is none that the actor may see.
pub async fn delete(state: &State, actor: &Actor, id: &str) -> Result<(), Error> {
    access::domain(state, actor, id, Noun::Domains.write()).await?;
    let mut db = state.store.begin().await?;
    let domain = domains::read(&mut db, id).await?.ok_or_else(|| Error::not_found("domain", id))?;
    versions::check(actor, &shown(&domain))?;
    domains::delete(&mut db, id).await?;
    let revision = changed(&mut db, &domain).await?;
    audit::commit(db, actor, Event::project("domain.delete", id, &domain.project_id)).await?;
    state.changes.announce(revision.unwrap_or_default());
    Ok(())
}

/// Removes the domains of a function or site that goes away, in its transaction, and returns their names. The
/// revision that the owner gets after this one announces them too.
pub(super) async fn remove_of(db: &mut Connection, owner: &str) -> Result<Vec<String>, StoreError> {
    let mut names = Vec::new();
    for domain in domains::owned(db, owner).await? {
        domains::delete(db, &domain.id).await?;
        changed(db, &domain).await?;
        names.push(domain.hostname);
    }
    Ok(names)
}

/// The DNS records that make a domain work.
///
/// # Errors
/// When the stored name is none.
pub fn records(state: &State, domain: &DomainRow) -> Result<Vec<Record>, Error> {
    let name = proof::parse_stored(&domain.hostname)?;
    let config = &state.domains.config;
    let method = Method::parse(&domain.method)?;
    let mut records = Vec::new();
    if method == Method::Txt {
        let [place, _] = proof::txt_names(&name);
        let value = format!("{}{}", proof::TXT_PREFIX, domain.token);
        records.push(Record { purpose: "VERIFICATION", kind: "TXT", name: place, value });
    }
    let purpose = if method == Method::Txt { "TRAFFIC" } else { "VERIFICATION" };
    let alias = domain.owner_slug.as_deref().zip(config.platform.first());
    if method == Method::Address || (method == Method::Txt && !config.edge_addresses.is_empty()) {
        records.extend(config.edge_addresses.iter().map(|address| Record {
            purpose,
            kind: if address.is_ipv4() { "A" } else { "AAAA" },
            name: name.to_string(),
            value: address.to_string(),
        }));
    } else if let Some((slug, platform)) = alias {
        let value = format!("{slug}.{platform}");
        records.push(Record { purpose, kind: "CNAME", name: name.to_string(), value });
    }
    Ok(records)
}

/// Whether TLS works at a domain, as far as the control plane knows: of certificates that edges get it hears
/// nothing yet, so a verified name without one of its own is `PENDING`.
#[must_use]
pub fn ssl_status(domain: &DomainRow) -> &'static str {
    match domain.certificate_not_after {
        _ if domain.status != "VERIFIED" => "NONE",
        Some(not_after) if not_after <= now() => "EXPIRED",
        Some(_) => "ACTIVE",
        None => "PENDING",
    }
}

/// All that a domain's answer is made of, for its version: the time decides about a certificate, too.
pub fn shown(domain: &DomainRow) -> (&DomainRow, &'static str) {
    (domain, ssl_status(domain))
}

/// Gives a verified domain a new revision in the feed.
pub(super) async fn changed(db: &mut Connection, domain: &DomainRow) -> Result<Option<u64>, StoreError> {
    // Edges have heard of no other.
    if domain.status != "VERIFIED" {
        return Ok(None);
    }
    feed::put(db, Kind::Domain, &domain.hostname).await.map(Some)
}

async fn check_owner(db: &mut Connection, project: &str, owner: &Owner) -> Result<(), Error> {
    if domains::owner_exists(db, project, owner.kind, &owner.id).await? {
        return Ok(());
    }
    Err(Error::not_found(owner.kind.as_str(), &owner.id))
}

fn parse(hostname: &str) -> Result<DomainName, Error> {
    DomainName::parse(hostname).map_err(|error| Error::invalid("invalid_hostname", error))
}

/// A method by its name, if it can prove this name here.
fn method(state: &State, name: &DomainName, text: &str) -> Result<Method, Error> {
    let method = Method::parse(text)?;
    let detail = match method {
        Method::Cname | Method::Address if name.wildcard_base().is_some() => {
            "a wildcard is verified by TXT: that some name below points here does not prove that all do"
        }
        Method::Address if state.domains.config.edge_addresses.is_empty() => {
            "this platform does not say which addresses its edges have (`af up --edge-address`); use TXT or CNAME"
        }
        _ => return Ok(method),
    };
    Err(Error::invalid("invalid_verification_method", detail))
}

fn named(error: StoreError) -> Error {
    match error {
        StoreError::Taken("hostname") => Error::Conflict {
            code: "domain_exists",
            detail: "the project has this domain already; change it, or remove it first".into(),
        },
        error => error.into(),
    }
}
