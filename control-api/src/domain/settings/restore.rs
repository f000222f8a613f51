//! A function's own values when another of its deployments becomes active: they follow it, or are what they were.

use af_contract::SettingName;

use super::{Place, Rows, by_name, write};
use crate::domain::{Actor, Error, deployments};
use crate::store::settings as rows;
use crate::store::{Connection, DeploymentRow, FunctionRow};

/// Why another deployment becomes active.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::domain) enum Going {
    /// Rollback: the values of the deployment are to count again.
    Back,
    /// Promotion.
    Forward,
}

/// Gives a function its own values of a deployment that becomes active, and no others. Where one newer than the active one is
/// promoted, what was set later than there stays. What is a secret by now stays one.
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
    if going == Going::Forward && deployments::is_newer(db, function, deployment).await? {
        for (name, row) in &current {
            if own.get(name).is_none_or(|copy| copy.updated_at <= row.updated_at) {
                own.insert(name.clone(), row.clone());
            }
        }
    }
    for (name, row) in &mut own {
        row.secret |= [&current, &inherited].iter().any(|rows| rows.get(name).is_some_and(|row| row.secret));
    }
    let place = Place { owner: &function.id, project: &function.project_id, author: &actor.user };
    write(db, actor, &place, &own, &differing(&current, &own)).await
}

/// That a deployment has the values that its function has now.
///
/// # Errors
/// When they were changed since it was made.
pub(in crate::domain) async fn check_current(
    db: &mut Connection,
    function: &FunctionRow,
    deployment: &DeploymentRow,
) -> Result<(), Error> {
    let current = by_name(rows::of_owner(db, &function.id).await?)?;
    let copies = by_name(rows::copies(db, &deployment.id, &function.id).await?)?;
    let changed = differing(&current, &copies);
    if changed.is_empty() {
        return Ok(());
    }
    let names: Vec<&str> = changed.iter().map(SettingName::as_str).collect();
    let detail = format!(
        "settings of the function were changed since this was deployed, and it would run with the old ones: {}; deploy it again, and allow that",
        names.join(", ")
    );
    Err(Error::conflict("settings_changed", detail))
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
