//! Sites: directories of files that are served as they are, and the slugs that lead to them.

use af_contract::{FunctionName, Slug};

use super::access::{self, Noun};
use super::audit::{self, Event};
use super::functions::{parse_slug, with_suffix};
use super::plans::Limit;
use super::quotas::Terms;
use super::{Actor, Error, Page, Start, State, domains, id, now, usage, versions};
use crate::store::feed::{self, Kind};
use crate::store::{Connection, SiteRow, StoreError, sites, slugs};

/// What a new site is made of.
#[derive(Debug)]
pub struct NewSite {
    /// 3 to 30 letters, digits and dashes.
    pub name: String,
    /// Made of the name when none is given.
    pub slug: Option<String>,
}

/// What is to change; `None` stays as it is.
#[derive(Debug, Default)]
pub struct Change {
    /// Unique in the project.
    pub name: Option<String>,
    /// Moves the site to another host name.
    pub slug: Option<String>,
}

/// The site, if the actor is a member of its project.
///
/// # Errors
/// When there is none that the actor may see.
pub async fn get(state: &State, actor: &Actor, id: &str) -> Result<SiteRow, Error> {
    access::site(state, actor, id, Noun::Sites.read()).await
}

/// A project's sites, oldest first; with `name`, at most the one that has it.
///
/// # Errors
/// When the actor is not a member of the project.
pub async fn list(
    state: &State,
    actor: &Actor,
    project: &str,
    name: Option<&str>,
    start: impl Into<Start<'_>>,
) -> Result<Page<SiteRow>, Error> {
    let start = start.into();
    access::project(state, actor, project, Noun::Sites.read()).await?;
    let (after, limit) = start.by_id("site")?;
    let sites = state.store.sites_of(project, name, after, limit).await?;
    Ok(Page::of(sites, limit, |site| site.id.clone()))
}

/// A project's site with this slug.
///
/// # Errors
/// When the actor is not a member of the project, or it has no such site.
pub async fn by_slug(state: &State, actor: &Actor, project: &str, slug: &str) -> Result<SiteRow, Error> {
    access::project(state, actor, project, Noun::Sites.read()).await?;
    let found = state.store.site_by_slug(project, slug).await?;
    found.ok_or_else(|| Error::not_found("site", slug))
}

/// Makes a site without files. It answers once it is deployed.
///
/// # Errors
/// When the actor is not a member, or the name or slug is malformed or taken.
pub async fn create(state: &State, actor: &Actor, project: &str, new: &NewSite) -> Result<SiteRow, Error> {
    access::project(state, actor, project, Noun::Sites.write()).await?;
    let name = parse_name(&new.name)?;
    let slug = new.slug.as_deref().map(parse_slug).transpose()?;
    let now = now();
    let mut site = SiteRow {
        id: id::new("site"),
        project_id: project.to_owned(),
        name: name.to_string(),
        slug: slug.as_ref().map_or_else(|| name.slug().to_string(), Slug::to_string),
        current_deployment_id: None,
        root_cid: None,
        created_at: now,
        updated_at: now,
    };
    let mut db = state.store.begin().await?;
    let count = sites::count(&mut db, project).await?;
    let terms = Terms::of_project(state, &mut db, project).await?;
    terms.check(Limit::Sites, count, "delete one that is not used")?;
    if slug.is_none() && slugs::is_taken(&mut db, &site.slug).await? {
        // Something else has this name; only the host name has to differ.
        site.slug = with_suffix(&site.slug, &site.id);
    }
    sites::insert(&mut db, &site).await.map_err(named)?;
    let revision = publish(&mut db, &site.id).await?;
    audit::commit(db, actor, Event::project("site.create", &site.id, project)).await?;
    state.changes.announce(revision);
    Ok(site)
}

/// Changes a site's name or slug.
///
/// # Errors
/// When there is none that the actor may see, or a new value is malformed or taken.
pub async fn update(state: &State, actor: &Actor, id: &str, change: &Change) -> Result<SiteRow, Error> {
    access::site(state, actor, id, Noun::Sites.write()).await?;
    let name = change.name.as_deref().map(parse_name).transpose()?;
    let slug = change.slug.as_deref().map(parse_slug).transpose()?;
    let mut db = state.store.begin().await?;
    let found = sites::read(&mut db, id).await?;
    let mut site = found.ok_or_else(|| Error::not_found("site", id))?;
    versions::check(actor, &site)?;
    site.name = name.map_or(site.name, String::from);
    site.slug = slug.map_or(site.slug, String::from);
    site.updated_at = now();
    sites::update(&mut db, &site).await.map_err(named)?;
    let revision = publish(&mut db, id).await?;
    audit::commit(db, actor, Event::project("site.update", id, &site.project_id)).await?;
    state.changes.announce(revision);
    Ok(site)
}

/// Deletes a site and its deployments. Its slug is free at once.
///
/// # Errors
/// When there is none that the actor may see.
pub async fn delete(state: &State, actor: &Actor, id: &str) -> Result<Vec<String>, Error> {
    access::site(state, actor, id, Noun::Sites.write()).await?;
    let mut db = state.store.begin().await?;
    let site = sites::read(&mut db, id).await?.ok_or_else(|| Error::not_found("site", id))?;
    versions::check(actor, &site)?;
    let domains = domains::remove_of(&mut db, id).await?;
    sites::delete(&mut db, id).await?;
    usage::remember(&mut db, id, &site.project_id).await?;
    let revision = publish(&mut db, id).await?;
    audit::commit(db, actor, Event::project("site.delete", id, &site.project_id)).await?;
    state.changes.announce(revision);
    Ok(domains)
}

/// Puts the site as it is now, or that it is gone, into the feed. Returns the revision, to be announced.
pub(super) async fn publish(db: &mut Connection, site: &str) -> Result<u64, Error> {
    Ok(feed::put(db, Kind::Site, site).await?)
}

/// Sites are named as functions are.
fn parse_name(name: &str) -> Result<FunctionName, Error> {
    FunctionName::parse(name).map_err(|_| {
        let shown: String = name.chars().take(80).collect();
        let detail = format!("{shown:?} is not a site name; use 3 to 30 letters, digits and dashes, at least one of them no dash");
        Error::invalid("invalid_site_name", detail)
    })
}

fn named(error: StoreError) -> Error {
    match error {
        StoreError::Taken("name") => Error::Conflict {
            code: "site_name_taken",
            detail: "the project has a site with this name; choose another name, or deploy to that one"
                .into(),
        },
        error => error.into(),
    }
}
