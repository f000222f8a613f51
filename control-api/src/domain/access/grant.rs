//! Grants: what a token may do of what its owner may.

use super::permission::Permission;
use super::role::Role;
use super::scopes::Scopes;
use crate::domain::Error;

/// What a token may do, of what its owner may.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grant {
    /// Nothing of other projects.
    pub project: Option<String>,
    /// Nothing of other functions.
    pub function: Option<String>,
    /// Nothing else; none: all.
    pub scopes: Option<Scopes>,
    /// A project's own key, which has this role there whoever made it.
    pub role: Option<Role>,
}

impl Grant {
    /// Whether it is all that its owner may do.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        *self == Self::default()
    }

    /// Whether a token with this grant may make one with the other.
    #[must_use]
    pub fn includes(&self, other: &Self) -> bool {
        let same = |mine: &Option<String>, theirs: &Option<String>| mine.is_none() || mine == theirs;
        same(&self.project, &other.project)
            && same(&self.function, &other.function)
            && match (&self.scopes, &other.scopes) {
                (None, _) => true,
                (Some(mine), Some(theirs)) => mine.include(theirs),
                (Some(_), None) => false,
            }
    }

    pub(super) fn allows(&self, permission: Permission) -> Result<(), Error> {
        match &self.scopes {
            Some(scopes) if !scopes.allow(permission) => {
                let detail = format!("this token is for {scopes} only, and this needs {permission}");
                Err(Error::forbidden("insufficient_scope", detail))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_makes_none_that_may_more() {
        let whole = Grant::default();
        let of = |scopes: &str, project: Option<&str>| Grant {
            project: project.map(str::to_owned),
            scopes: Some(scopes.parse().unwrap()),
            ..Grant::default()
        };
        assert!(whole.includes(&of("*", None)));
        let one = of("functions:*", Some("prj_1"));
        assert!(one.includes(&of("functions:read", Some("prj_1"))));
        assert!(!one.includes(&of("functions:read", Some("prj_2"))) && !one.includes(&whole));
        assert!(
            !one.includes(&of("functions:read", None)) && !one.includes(&of("sites:read", Some("prj_1")))
        );
    }
}
