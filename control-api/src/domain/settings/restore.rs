//! A function's own values when another of its deployments becomes active: they follow it, or are what they were.

use std::collections::HashMap;

use af_contract::SettingName;

use super::{Place, Rows, by_name, check, laid_over, write};
use crate::domain::{Actor, Error};
use crate::store::settings as rows;
use crate::store::{Connection, DeploymentRow, FunctionRow, deployments};

/// Why another deployment becomes active.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::domain) enum Going {
    /// Rollback: the values of the deployment are to count again.
    Back,
    /// Promotion.
    Forward,
}

/// Gives a function its own values of a deployment that becomes active, and no others. Where one is promoted that never was active, the
/// function keeps the values that it has by now, and gets those that came with the deployment and were not set later. What is a secret
/// by now stays one.
///
/// # Errors
/// When both together are too much, or a value from before an upgrade may have been unset since.
pub(in crate::domain) async fn restore(
    db: &mut Connection,
    actor: &Actor,
    function: &FunctionRow,
    deployment: &DeploymentRow,
    going: Going,
) -> Result<(), Error> {
    let current = by_name(rows::of_owner(db, &function.id).await?)?;
    let inherited = by_name(rows::of_owner(db, &function.project_id).await?)?;
    let mut own = by_name(rows::copies(db, &deployment.id, &function.id).await?)?;
    if going == Going::Forward && !deployments::was_active(db, &deployment.id).await? {
        let brought = rows::brought(db, &deployment.id, &function.id).await?;
        own = merged(&current, own, brought)?;
        check(&laid_over(&inherited, &own), None)?;
    }
    for (name, row) in &mut own {
        row.secret |= [&current, &inherited].iter().any(|rows| rows.get(name).is_some_and(|row| row.secret));
    }
    let place = Place { owner: &function.id, project: &function.project_id, author: &actor.user };
    write(db, actor, &place, &own, &differing(&current, &own)).await
}

/// What a function has, and what a deployment brought that was not set later. `brought` says which that is, as far as it was written down.
fn merged(current: &Rows, copies: Rows, brought: Vec<(String, Option<i64>)>) -> Result<Rows, Error> {
    let brought: HashMap<String, Option<i64>> = brought.into_iter().collect();
    let (mut own, mut unsure) = (current.clone(), Vec::new());
    for (name, copy) in copies {
        let is_later = current.get(&name).is_none_or(|row| row.updated_at < copy.updated_at);
        match brought.get(name.as_str()).copied().flatten() {
            // The function had it, and has it as it is now, or no more.
            Some(0) => {}
            None if !current.contains_key(&name) => unsure.push(name),
            _ if is_later => drop(own.insert(name, copy)),
            _ => {}
        }
    }
    if unsure.is_empty() { Ok(own) } else { Err(changed(&unsure, "deploy it again, and promote that")) }
}

/// That a deployment has the values that its function and its project have now.
///
/// # Errors
/// When they were changed since it was made.
pub(in crate::domain) async fn check_current(
    db: &mut Connection,
    function: &FunctionRow,
    deployment: &DeploymentRow,
) -> Result<(), Error> {
    let (mut current, mut copies) = (Rows::new(), Rows::new());
    // What a function has comes before what its project has.
    for owner in [&function.project_id, &function.id] {
        current.extend(by_name(rows::of_owner(db, owner).await?)?);
        copies.extend(by_name(rows::copies(db, &deployment.id, owner).await?)?);
    }
    let names = differing(&current, &copies);
    if names.is_empty() { Ok(()) } else { Err(changed(&names, "deploy it again, and allow that")) }
}

fn changed(names: &[SettingName], what_to_do: &str) -> Error {
    let names: Vec<&str> = names.iter().map(SettingName::as_str).collect();
    let detail = format!(
        "settings of the function were changed since this was deployed, and it would run with the old ones: {}; {what_to_do}",
        names.join(", ")
    );
    Error::conflict("settings_changed", detail)
}

/// Names of what one has and the other has not, or otherwise.
fn differing(some: &Rows, others: &Rows) -> Vec<SettingName> {
    let mut names: Vec<SettingName> = some.keys().chain(others.keys()).cloned().collect();
    names.sort_unstable();
    names.dedup();
    names.retain(|name| known(some, name) != known(others, name));
    names
}

fn known<'a>(rows: &'a Rows, name: &SettingName) -> Option<(&'a [u8], bool)> {
    rows.get(name).map(|row| (row.digest.as_slice(), row.secret))
}
