//! How many things one user can make, so that nobody's lists grow without end.

use super::Error;

/// How many there may be of what anybody can make; the defaults are what no honest user has come to.
#[derive(Clone, Copy, Debug)]
pub struct Quotas {
    /// Functions of a project.
    pub functions: u32,
    /// Sites of a project.
    pub sites: u32,
    /// Projects of an organization.
    pub projects: u32,
    /// Organizations that a user owns.
    pub organizations: u32,
}

impl Default for Quotas {
    fn default() -> Self {
        Self { functions: 10_000, sites: 10_000, projects: 1_000, organizations: 100 }
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
