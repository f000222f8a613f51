//! A change of settings or secrets, and the deployments that it makes: all of it, or nothing.

use af_content::car::Block;
use af_contract::SettingName;

use super::{
    Changes, Given, Kind, Owner, Place, Rows, Whose, apply, by_name, check, check_changes, check_seen,
    laid_over, whose, write,
};
use crate::domain::access::Noun;
use crate::domain::{Actor, Error, State, blocks, deployments, manifests, projects};
use crate::store::settings as rows;
use crate::store::{Connection, DeploymentRow, FunctionRow, functions};

/// Functions that one change deploys again, at most: each is a manifest that is written and synced while others wait.
const FUNCTIONS: usize = 1000;

/// What a change came to.
#[derive(Debug, Default)]
pub struct Changed {
    /// Names of what is another one now, or gone.
    pub names: Vec<SettingName>,
    /// What was deployed again, with its function.
    pub deployments: Vec<(FunctionRow, DeploymentRow)>,
}

/// Changes an owner's settings or secrets, and deploys each function again that the change concerns: same code, another
/// manifest. All or nothing. What is a secret stays one, also when it is given a value as a setting.
///
/// # Errors
/// When there is no such owner that the actor may change, what is to go is not there, or a function would have too much.
pub async fn change(
    state: &State,
    actor: &Actor,
    owner: Owner<'_>,
    kind: Kind,
    changes: Changes,
    message: Option<&str>,
) -> Result<Changed, Error> {
    let whose = whose(state, actor, owner, Noun::Secrets.write()).await?;
    let message = message.map(deployments::checked_message).transpose()?;
    if changes.is_empty() {
        return Err(Error::invalid(
            "invalid_settings",
            "there is nothing to change; name a value to set or to unset",
        ));
    }
    check_changes(&changes)?;
    bring(state, &whose).await?;
    let committing = state.committing.lock().await;
    let mut db = state.store.begin().await?;
    let mut own = by_name(rows::of_owner(&mut db, &whose.id).await?)?;
    let inherited = match &whose.function {
        Some(_) => by_name(rows::of_owner(&mut db, &whose.project).await?)?,
        None => Rows::new(),
    };
    check_seen(actor, (&inherited, &own), kind)?;
    let message = message.unwrap_or_else(|| described(&whose, kind, &changes));
    for name in changes.iter().filter(|(_, value)| value.is_none()).map(|(name, _)| name) {
        if own.get(name).is_none_or(|row| row.secret != (kind == Kind::Secret)) {
            return Err(Error::not_found(
                if kind == Kind::Secret { "secret" } else { "setting" },
                name.as_str(),
            ));
        }
    }
    let author = &actor.user;
    let place = Place { owner: &whose.id, project: &whose.project, author };
    let names = apply(state, &mut db, &place, (&mut own, &inherited), changes, Given::As(kind)).await?;
    if names.is_empty() {
        return Ok(Changed::default());
    }
    check(&own, None)?;
    write(&mut db, actor, &place, &own, &names).await?;

    let mut changed = Changed { names, ..Changed::default() };
    let (mut manifests, mut newest) = (Vec::new(), 0);
    for (function, all) in concerned(&mut db, &whose, &changed.names, (&own, &inherited)).await? {
        check(&all, Some(&function))?;
        let made = deployments::again(state, &mut db, actor, &function, &all, &message).await?;
        manifests.push(made.manifest);
        newest = made.revision;
        changed.deployments.push((function, made.deployment));
    }
    if manifests.is_empty() {
        projects::commit(db).await?;
    } else {
        let staging = stage(state, manifests).await?;
        blocks::commit(state, db, staging, &committing).await?;
        state.changes.announce(newest);
    }
    Ok(changed)
}

/// Has here what is to be deployed again.
async fn bring(state: &State, whose: &Whose) -> Result<(), Error> {
    let active = match &whose.function {
        Some(function) => Vec::from_iter(function.current_deployment_id.clone()),
        None => {
            let mut db = state.store.snapshot().await?;
            let functions = of_project(&mut db, &whose.project).await?;
            functions.into_iter().filter_map(|function| function.current_deployment_id).collect()
        }
    };
    manifests::bring(state, active).await
}

/// The functions that run something and are told something else now, with all that they are told.
async fn concerned(
    db: &mut Connection,
    whose: &Whose,
    names: &[SettingName],
    (own, inherited): (&Rows, &Rows),
) -> Result<Vec<(FunctionRow, Rows)>, Error> {
    if let Some(function) = &whose.function {
        let function = functions::read(db, &function.id).await?;
        let runs = function.filter(|function| function.current_deployment_id.is_some());
        return Ok(runs.into_iter().map(|function| (function, laid_over(inherited, own))).collect());
    }
    let mut concerned = Vec::new();
    for function in of_project(db, &whose.project).await? {
        let its = by_name(rows::of_owner(db, &function.id).await?)?;
        if names.iter().any(|name| !its.contains_key(name)) {
            concerned.push((function, laid_over(own, &its)));
        }
    }
    Ok(concerned)
}

async fn of_project(db: &mut Connection, project: &str) -> Result<Vec<FunctionRow>, Error> {
    let most = i64::try_from(FUNCTIONS).unwrap_or(i64::MAX);
    let deployed = functions::deployed(db, project, most + 1).await?;
    if deployed.len() > FUNCTIONS {
        let detail = format!(
            "the project has more than {FUNCTIONS} functions, which are too many to be deployed again at once; set it for each function that needs it"
        );
        return Err(Error::conflict("too_many_functions", detail));
    }
    Ok(deployed)
}

async fn stage(state: &State, manifests: Vec<Block>) -> Result<af_content::Staging, Error> {
    blocks::disk(state, move |store| {
        let staging = store.stage()?;
        for manifest in &manifests {
            staging.put(manifest)?;
        }
        Ok(staging)
    })
    .await
}

/// `project secrets A, B set, C unset`: why functions were deployed again.
fn described(whose: &Whose, kind: Kind, changes: &Changes) -> String {
    const SHOWN: usize = 5;
    let listed = |set: bool| {
        let names = changes.iter().filter(|(_, value)| value.is_some() == set);
        let names: Vec<&str> = names.map(|(name, _)| name.as_str()).collect();
        let more = names.len().saturating_sub(SHOWN);
        let shown = names.iter().take(SHOWN).copied().collect::<Vec<_>>().join(", ");
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        (!names.is_empty()).then(|| format!("{shown}{more} {}", if set { "set" } else { "unset" }))
    };
    let project = if whose.function.is_none() { "project " } else { "" };
    let noun = if kind == Kind::Secret { "secret" } else { "setting" };
    let plural = if changes.len() > 1 { "s" } else { "" };
    let parts: Vec<String> = [true, false].into_iter().filter_map(listed).collect();
    format!("{project}{noun}{plural} {}", parts.join(", "))
}
