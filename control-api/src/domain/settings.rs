//! Settings and secrets: what functions are told. A project has some for all its functions, a function its own, which win. They
//! are sealed with the project's key, copied into each deployment, and opened for the edges; settings are shown to members,
//! too, secrets to nobody.

mod change;
mod former;
mod restore;

use std::collections::{BTreeMap, HashMap};

use af_contract::{Blake3Hash, SettingName, SettingValue, limits, setting};

pub use self::change::{Changed, change};
pub(crate) use self::former::recover;
pub(super) use self::restore::{Going, check_current, restore};
use super::access::{self, Noun, Permission};
use super::audit::{self, Event};
use super::project_keys::{self, internal};
use super::sealing::Seal;
use super::{Actor, Error, State, now, versions};
use crate::store::settings::{self as rows, DeployedRow};
use crate::store::{Connection, FunctionRow, SettingRow, StoreError};

/// Values in one change: as many as a function may have, all of them others.
const CHANGES: usize = 2 * limits::SETTINGS;

/// What changes: new values, or none for one that goes.
pub type Changes = BTreeMap<SettingName, Option<SettingValue>>;

/// Values as they are stored, by name.
pub(super) type Rows = BTreeMap<SettingName, SettingRow>;

/// What a value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Shown to whoever may read it.
    Setting,
    /// Never shown.
    Secret,
}

/// Whose values.
#[derive(Clone, Copy, Debug)]
pub enum Owner<'a> {
    /// For all its functions.
    Project(&'a str),
    /// Its own.
    Function(&'a str),
}

/// A setting or secret as members see it.
#[derive(Debug)]
pub struct Listed {
    /// Its row.
    pub row: SettingRow,
    /// What it is; none for a secret.
    pub value: Option<String>,
    /// Who gave it.
    pub author: Option<String>,
}

/// Whose values, found and permitted.
struct Whose {
    id: String,
    project: String,
    function: Option<FunctionRow>,
}

/// How a value came.
#[derive(Clone, Copy)]
enum Given {
    As(Kind),
    /// With a deployment. Nobody has said that it may be shown.
    Deployed,
}

/// An owner's settings, or secrets, by name. A function's include those of its project that it has none of its own for.
///
/// # Errors
/// When there is no such owner that the actor may see, or a setting cannot be opened.
pub async fn list(state: &State, actor: &Actor, owner: Owner<'_>, kind: Kind) -> Result<Vec<Listed>, Error> {
    let whose = whose(state, actor, owner, Noun::Secrets.read()).await?;
    let mut all = by_name(state.store.settings_of(&whose.project).await?)?;
    if whose.function.is_some() {
        all.extend(by_name(state.store.settings_of(&whose.id).await?)?);
    }
    all.retain(|_, row| row.secret == (kind == Kind::Secret));
    let seal = match state.store.project_key(&whose.project).await? {
        Some(sealed) if kind == Kind::Setting => {
            Some(project_keys::open(&state.keys, &whose.project, &sealed)?)
        }
        _ => None,
    };
    let mut authors = HashMap::new();
    let mut listed = Vec::new();
    for row in all.into_values() {
        if !authors.contains_key(&row.author_id) {
            let author = state.store.user(&row.author_id).await?;
            authors.insert(row.author_id.clone(), author.map(|author| author.name));
        }
        let author = authors.get(&row.author_id).cloned().flatten();
        let value = seal.as_ref().map(|seal| seal.unseal(&[&row.owner_id, &row.name], &row.sealed));
        listed.push(Listed { value: value.transpose().map_err(internal)?, author, row });
    }
    Ok(listed)
}

/// The entity tag of an owner's settings, or secrets. Of a secret it says that it was given again, and not whether it is another.
#[must_use]
pub fn tag(listed: &[Listed]) -> String {
    versions::tag(&listed.iter().map(|listed| &listed.row).collect::<Vec<_>>())
}

/// Refuses a change of settings or secrets that are not what the actor has seen of them.
fn check_seen(actor: &Actor, (inherited, own): (&Rows, &Rows), kind: Kind) -> Result<(), Error> {
    let mut all = laid_over(inherited, own);
    all.retain(|_, row| row.secret == (kind == Kind::Secret));
    versions::check(actor, &all.values().collect::<Vec<_>>())
}

/// The values of a deployment.
pub(super) struct Next {
    pub all: Rows,
    /// Names of those that it brings and that its function does not get.
    pub brought: Vec<SettingName>,
}

/// The values of a function's next deployment. What the deployment changes is the function's from then on, but not if it is
/// a preview.
pub(super) async fn next(
    state: &State,
    db: &mut Connection,
    actor: &Actor,
    function: &FunctionRow,
    (changes, preview): (Changes, bool),
) -> Result<Next, Error> {
    let inherited = by_name(rows::of_owner(db, &function.project_id).await?)?;
    let mut own = by_name(rows::of_owner(db, &function.id).await?)?;
    let place = Place { owner: &function.id, project: &function.project_id, author: &actor.user };
    let mut names = Vec::new();
    if !changes.is_empty() {
        names = apply(state, db, &place, (&mut own, &inherited), changes, Given::Deployed).await?;
    }
    let all = laid_over(&inherited, &own);
    check(&all, None)?;
    if !preview {
        write(db, actor, &place, &own, &names).await?;
        names.clear();
    }
    Ok(Next { all, brought: names })
}

/// That one change is not too long, before anything else waits for it.
pub(super) fn check_changes(changes: &Changes) -> Result<(), Error> {
    if changes.len() <= CHANGES {
        return Ok(());
    }
    let detail = format!(
        "{} values are too many for one change; set and unset {CHANGES} at most, and a function may have {}",
        changes.len(),
        limits::SETTINGS
    );
    Err(Error::invalid("invalid_settings", detail))
}

/// What a manifest says of them.
pub(super) fn digests(all: &Rows) -> Result<BTreeMap<SettingName, Blake3Hash>, Error> {
    let digest = |row: &SettingRow| project_keys::exactly(&row.digest).map(|digest| Blake3Hash(*digest));
    all.iter().map(|(name, row)| Ok((name.clone(), digest(row)?))).collect()
}

/// Opens a deployment's value. Keys of projects that were opened for others are in `known`.
pub(super) fn open(
    state: &State,
    function: &str,
    row: &DeployedRow,
    known: &mut HashMap<String, Seal>,
) -> Result<(SettingName, SettingValue), Error> {
    let name = parse(&row.name)?;
    let Some(owner) = &row.owner_id else {
        let value = state.keys.unseal(&[function, &row.name], &row.sealed).map_err(internal)?;
        return Ok((name, SettingValue::new(value)));
    };
    if !known.contains_key(&row.project_id) {
        let sealed = row.project_key.as_deref().unwrap_or_default();
        known.insert(row.project_id.clone(), project_keys::open(&state.keys, &row.project_id, sealed)?);
    }
    let seal = known.get(&row.project_id).ok_or_else(|| Error::not_found("project", &row.project_id))?;
    let value = seal.unseal(&[owner, &row.name], &row.sealed).map_err(internal)?;
    Ok((name, SettingValue::new(value)))
}

/// Whose values change, and by whom.
struct Place<'a> {
    owner: &'a str,
    project: &'a str,
    author: &'a str,
}

/// Seals what is new and takes out what goes. Returns which values are others now.
async fn apply(
    state: &State,
    db: &mut Connection,
    place: &Place<'_>,
    (own, inherited): (&mut Rows, &Rows),
    changes: Changes,
    given: Given,
) -> Result<Vec<SettingName>, Error> {
    let seal = project_keys::of(&state.keys, db, place.project).await?;
    let mut names = Vec::new();
    for (name, value) in changes {
        let Some(value) = value else {
            if own.remove(&name).is_some() {
                names.push(name);
            }
            continue;
        };
        setting::check_value(&name, &value).map_err(|error| Error::invalid("invalid_settings", error))?;
        let sealed_for = [place.owner, name.as_str()];
        let before = own.get(&name);
        let was_secret = before.or_else(|| inherited.get(&name)).map(|row| row.secret);
        let secret = match given {
            Given::As(Kind::Secret) => true,
            Given::As(Kind::Setting) => was_secret.unwrap_or(false),
            Given::Deployed => was_secret.unwrap_or(true),
        };
        // Of a secret, not even that it is the same is told.
        if let Some(before) = before.filter(|before| !before.secret && !secret)
            && seal.unseal(&sealed_for, &before.sealed).map_err(internal)? == value.reveal()
        {
            continue;
        }
        let sealed = seal.seal(&sealed_for, value.reveal()).map_err(internal)?;
        let row = SettingRow {
            owner_id: place.owner.to_owned(),
            name: name.to_string(),
            secret,
            digest: blake3::hash(&sealed).as_bytes().to_vec(),
            sealed,
            author_id: place.author.to_owned(),
            updated_at: now(),
        };
        own.insert(name.clone(), row);
        names.push(name);
    }
    Ok(names)
}

/// Stores what has changed, and writes down who changed it.
async fn write(
    db: &mut Connection,
    actor: &Actor,
    place: &Place<'_>,
    own: &Rows,
    names: &[SettingName],
) -> Result<(), Error> {
    for name in names {
        let action = match own.get(name) {
            Some(row) => {
                rows::put(db, place.project, row).await?;
                if row.secret { "secret.set" } else { "setting.set" }
            }
            None => {
                let secret = rows::remove(db, place.owner, name.as_str()).await?;
                if secret == Some(true) { "secret.unset" } else { "setting.unset" }
            }
        };
        let target = format!("{}/{name}", place.owner);
        audit::write(db, actor, Event::project(action, &target, place.project)).await?;
    }
    Ok(())
}

async fn whose(state: &State, actor: &Actor, owner: Owner<'_>, needed: Permission) -> Result<Whose, Error> {
    match owner {
        Owner::Project(id) => {
            access::project(state, actor, id, needed).await?;
            Ok(Whose { id: id.to_owned(), project: id.to_owned(), function: None })
        }
        Owner::Function(id) => {
            let function = access::function(state, actor, id, needed).await?;
            let project = function.project_id.clone();
            Ok(Whose { id: id.to_owned(), project, function: Some(function) })
        }
    }
}

/// Whether a function may have all these; lengths say it, nothing is opened.
fn check(all: &Rows, function: Option<&FunctionRow>) -> Result<(), Error> {
    let sizes = all.iter().map(|(name, row)| (name, Seal::length(&row.sealed)));
    setting::check_sizes(sizes).map_err(|error| {
        let of = function.map(|function| format!("of {}: ", function.name)).unwrap_or_default();
        Error::invalid("invalid_settings", format!("{of}{error}"))
    })
}

fn laid_over(below: &Rows, above: &Rows) -> Rows {
    let mut all = below.clone();
    all.extend(above.clone());
    all
}

fn by_name(rows: Vec<SettingRow>) -> Result<Rows, Error> {
    rows.into_iter().map(|row| Ok((parse(&row.name)?, row))).collect()
}

fn parse(name: &str) -> Result<SettingName, Error> {
    let bad = |_| StoreError::Value { what: "setting's name", value: name.to_owned() };
    Ok(SettingName::parse(name).map_err(bad)?)
}
