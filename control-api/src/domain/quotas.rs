//! How many things one user can make, so that nobody's lists grow without end.

use super::{Error, State};
use crate::store::{Connection, FunctionRow, deployments};

/// How many there may be of what anybody can make; the defaults are what no honest user has come to.
#[derive(Clone, Copy, Debug)]
pub struct Quotas {
    /// Functions of a project.
    pub functions: u32,
    /// Sites of a project.
    pub sites: u32,
    /// Deployments of a function.
    pub deployments: u32,
    /// Deployments of all functions of a project.
    pub project_deployments: u32,
    /// Projects of an organization.
    pub projects: u32,
    /// Organizations that a user owns.
    pub organizations: u32,
}

impl Default for Quotas {
    fn default() -> Self {
        Self {
            functions: 10_000,
            sites: 10_000,
            // A server prunes them once a day: this is one every nine seconds.
            deployments: 10_000,
            project_deployments: 100_000,
            projects: 1_000,
            organizations: 100,
        }
    }
}

/// Refuses one more than `most`.
///
/// # Errors
/// When there are as many: `a project has at most 10 functions`.
pub(super) fn check(count: i64, most: u32, whose: &str, what: &str) -> Result<(), Error> {
    if count < i64::from(most) {
        return Ok(());
    }
    let detail = format!(
        "{whose} has at most {most} {what}; delete one that is not used, or ask the operator for more"
    );
    Err(Error::conflict("quota_exceeded", detail))
}

/// Refuses one more deployment of a function.
///
/// # Errors
/// When it or its project has as many as there may be, with what to do.
pub(super) async fn deployments(
    state: &State,
    db: &mut Connection,
    function: &FunctionRow,
) -> Result<(), Error> {
    let quotas = state.api.quotas;
    let id = &function.id;
    let prune = format!(
        "remove old ones with `af functions prune {id} --keep N` (POST /v1/functions/{id}/prune), or ask the operator for more"
    );
    let refused = |detail: String| Err(Error::conflict("quota_exceeded", detail));
    if deployments::count(db, id).await? >= i64::from(quotas.deployments) {
        return refused(format!("a function has at most {} deployments; {prune}", quotas.deployments));
    }
    let of_project = deployments::count_of_project(db, &function.project_id).await?;
    if of_project >= i64::from(quotas.project_deployments) {
        let most = quotas.project_deployments;
        return refused(format!("the functions of a project have at most {most} deployments; {prune}"));
    }
    Ok(())
}
