//! Functions: what a user names and a slug leads to.

use af_contract::{ContentId, FunctionName, RouteTable, Slug};
use serde_json::Value;

use super::access::{self, Noun};
use super::audit::{self, Event};
use super::plans::Limit;
use super::pruning::KeepChange;
use super::quotas::Terms;
use super::{Actor, Error, Page, Start, State, domains, id, now, triggers, usage, versions};
use crate::store::feed::{self, Kind};
use crate::store::{FunctionRow, StoreError, functions, slugs};

/// What a new function is made of.
#[derive(Debug)]
pub struct NewFunction {
    /// 3 to 30 letters, digits and dashes.
    pub name: String,
    /// Made of the name when none is given.
    pub slug: Option<String>,
    /// Its route table.
    pub routes: Option<Value>,
}

/// What is to change; `None` stays as it is.
#[derive(Debug, Default)]
pub struct Change {
    /// Unique in the project.
    pub name: Option<String>,
    /// Moves the function to another host name.
    pub slug: Option<String>,
    /// `ACTIVE` or `INACTIVE`.
    pub status: Option<String>,
    /// Another route table; `null` removes it.
    pub routes: Option<Value>,
    /// Which deployments it keeps.
    pub keep: KeepChange,
}

/// The function, if the actor is a member of its project.
///
/// # Errors
/// When there is none that the actor may see.
pub async fn get(state: &State, actor: &Actor, id: &str) -> Result<FunctionRow, Error> {
    access::see_function(state, actor, id).await
}

/// A project's functions, oldest first; with `name`, at most the one that has it.
///
/// # Errors
/// When the actor is not a member of the project.
pub async fn list(
    state: &State,
    actor: &Actor,
    project: &str,
    name: Option<&str>,
    start: impl Into<Start<'_>>,
) -> Result<Page<FunctionRow>, Error> {
    let start = start.into();
    access::see_project(state, actor, project, Noun::Functions).await?;
    let (after, limit) = start.by_id("fn")?;
    if let Some(only) = &actor.grant.function {
        let function = get(state, actor, only).await?;
        let named = name.is_none_or(|name| name == function.name) && after.is_empty();
        return Ok(Page { items: named.then_some(function).into_iter().collect(), next: None });
    }
    let functions = state.store.functions_of(project, name, after, limit).await?;
    Ok(Page::of(functions, limit, |function| function.id.clone()))
}

/// Makes a function without code. It answers once it is deployed.
///
/// # Errors
/// When the actor is not a member, or the name or slug is malformed or taken.
pub async fn create(
    state: &State,
    actor: &Actor,
    project: &str,
    new: NewFunction,
) -> Result<FunctionRow, Error> {
    access::project(state, actor, project, Noun::Functions.write()).await?;
    let name = parse_name(&new.name)?;
    let slug = new.slug.as_deref().map(parse_slug).transpose()?;
    let routes = new.routes.map(parse_routes).transpose()?.flatten();
    let now = now();
    let mut function = FunctionRow {
        id: id::new("fn"),
        project_id: project.to_owned(),
        name: name.to_string(),
        slug: slug.as_ref().map_or_else(|| name.slug().to_string(), Slug::to_string),
        status: "ACTIVE".into(),
        current_deployment_id: None,
        reported: None,
        build: None,
        routes: routes.as_ref().map(RouteTable::to_string),
        keep_newest: None,
        keep_for_seconds: None,
        created_at: now,
        updated_at: now,
    };
    let mut db = state.store.begin().await?;
    let count = functions::count(&mut db, project).await?;
    let terms = Terms::of_project(state, &mut db, project).await?;
    terms.check(Limit::Functions, count, "delete one that is not used")?;
    if slug.is_none() && slugs::is_taken(&mut db, &function.slug).await? {
        // Somebody else has a function of this name; only the host name has to differ.
        function.slug = with_suffix(&function.slug, &function.id);
    }
    functions::insert(&mut db, &function).await.map_err(named)?;
    let revision = feed::put(&mut db, Kind::Function, &function.id).await?;
    audit::commit(db, actor, Event::project("function.create", &function.id, project)).await?;
    state.changes.announce(revision);
    Ok(function)
}

/// Changes a function's name, slug, status or route table, or which deployments it keeps.
///
/// # Errors
/// When there is none that the actor may see, or a new value is malformed or taken.
pub async fn update(state: &State, actor: &Actor, id: &str, change: Change) -> Result<FunctionRow, Error> {
    access::function(state, actor, id, Noun::Functions.write()).await?;
    if change.keep.is_some() {
        access::function(state, actor, id, Noun::Deployments.write()).await?;
    }
    let name = change.name.as_deref().map(parse_name).transpose()?;
    let slug = change.slug.as_deref().map(parse_slug).transpose()?;
    let status = change.status.as_deref().map(parse_status).transpose()?;
    let routes = change.routes.map(parse_routes).transpose()?;
    change.keep.check()?;
    let mut db = state.store.begin().await?;
    let found = functions::read(&mut db, id).await?;
    let mut function = found.ok_or_else(|| Error::not_found("function", id))?;
    versions::check_function(actor, &function)?;
    function.name = name.map_or(function.name, String::from);
    function.slug = slug.map_or(function.slug, String::from);
    function.status = status.map_or(function.status, str::to_owned);
    if let Some(routes) = routes {
        function.routes = routes.as_ref().map(RouteTable::to_string);
    }
    change.keep.apply(&mut function.keep_newest, &mut function.keep_for_seconds);
    function.updated_at = now();
    functions::update(&mut db, &function).await.map_err(named)?;
    triggers::schedule(state, &mut db, &function).await?;
    let revision = feed::put(&mut db, Kind::Function, id).await?;
    audit::commit(db, actor, Event::project("function.update", id, &function.project_id)).await?;
    state.changes.announce(revision);
    Ok(function)
}

/// Deletes a function, its deployments and its domains, whose names are returned. Its slug is free at once.
///
/// # Errors
/// When there is none that the actor may see.
pub async fn delete(state: &State, actor: &Actor, id: &str) -> Result<Vec<String>, Error> {
    access::function(state, actor, id, Noun::Functions.write()).await?;
    let mut db = state.store.begin().await?;
    let function = functions::read(&mut db, id).await?.ok_or_else(|| Error::not_found("function", id))?;
    versions::check_function(actor, &function)?;
    let domains = domains::remove_of(&mut db, id).await?;
    functions::delete(&mut db, id).await?;
    usage::remember(&mut db, id, &function.project_id).await?;
    let revision = feed::put(&mut db, Kind::Function, id).await?;
    audit::commit(db, actor, Event::project("function.delete", id, &function.project_id)).await?;
    state.logs.forget(id);
    state.changes.announce(revision);
    Ok(domains)
}

/// The function's route table.
///
/// # Errors
/// When the stored one is none.
pub fn routes(function: &FunctionRow) -> Result<Option<RouteTable>, Error> {
    Ok(function.routes.as_deref().map(feed::table).transpose()?.flatten())
}

fn parse_name(name: &str) -> Result<FunctionName, Error> {
    FunctionName::parse(name).map_err(|error| Error::invalid("invalid_function_name", error))
}

/// A slug that leads nowhere else: neither to a preview host nor to content by its CID.
pub(super) fn parse_slug(slug: &str) -> Result<Slug, Error> {
    let slug = Slug::parse(slug).map_err(|error| Error::invalid("invalid_slug", error))?;
    let like = match slug.as_str() {
        _ if slug.is_like_preview() => "the preview host of a deployment",
        // RFC 5891: browsers would show such a host as another name than it is.
        text if text.starts_with("xn--") => "an internationalized name",
        text if ContentId::parse(text).is_ok() => "a CID, whose host serves its content",
        _ => return Ok(slug),
    };
    let detail = format!("{:?} looks like {like}; choose another slug", slug.as_str());
    Err(Error::invalid("invalid_slug", detail))
}

fn parse_routes(document: Value) -> Result<Option<RouteTable>, Error> {
    RouteTable::parse(document).map_err(|error| Error::invalid("invalid_routes", error))
}

fn parse_status(status: &str) -> Result<&'static str, Error> {
    match status {
        "ACTIVE" => Ok("ACTIVE"),
        "INACTIVE" => Ok("INACTIVE"),
        other => {
            let detail = format!("{other:?} is not a status; use ACTIVE or INACTIVE");
            Err(Error::invalid("invalid_status", detail))
        }
    }
}

fn named(error: StoreError) -> Error {
    match error {
        StoreError::Taken("name") => Error::Conflict {
            code: "function_name_taken",
            detail: "the project has a function with this name; choose another name, or deploy to that one"
                .into(),
        },
        error => error.into(),
    }
}

/// The last characters of an id are its random part.
pub(super) fn with_suffix(slug: &str, id: &str) -> String {
    let random = id.get(id.len().saturating_sub(6)..).unwrap_or(id);
    format!("{slug}-{random}")
}
