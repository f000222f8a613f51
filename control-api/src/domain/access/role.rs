//! Roles: what members of a project or an organization may do.

use std::str::FromStr;

use super::permission::{Noun, Permission, Verb};
use crate::domain::Error;

/// What members may do, the most first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Sees, and changes nothing.
    Viewer,
    /// Sees what is used, and pays for it.
    Billing,
    /// Makes functions, sites and all that belongs to them.
    Developer,
    /// Also says who belongs to it.
    Admin,
    /// Also may end it.
    Owner,
}

const ROLES: [(Role, &str); 5] = [
    (Role::Owner, "owner"),
    (Role::Admin, "admin"),
    (Role::Developer, "developer"),
    (Role::Billing, "billing"),
    (Role::Viewer, "viewer"),
];

impl Role {
    /// Whether members with this role may do this.
    #[must_use]
    pub fn may(self, Permission { noun, verb }: Permission) -> bool {
        let made_by_developers = matches!(
            noun,
            Noun::Functions | Noun::Deployments | Noun::Sites | Noun::Domains | Noun::Storage | Noun::Secrets
        );
        match self {
            Self::Owner => true,
            Self::Admin => verb < Verb::Own,
            Self::Developer => match verb {
                Verb::Read => !matches!(noun, Noun::Tokens | Noun::Audit),
                Verb::Write => made_by_developers,
                Verb::Own => false,
            },
            Self::Billing => match verb {
                Verb::Read => {
                    matches!(noun, Noun::Organizations | Noun::Projects | Noun::Members | Noun::Usage)
                }
                Verb::Write => noun == Noun::Usage,
                Verb::Own => false,
            },
            Self::Viewer => verb == Verb::Read && !matches!(noun, Noun::Tokens | Noun::Audit),
        }
    }

    /// As it is written.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        ROLES.iter().find(|(role, _)| *role == self).map_or("", |(_, name)| name)
    }
}

impl FromStr for Role {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        ROLES.iter().find(|(_, name)| *name == text).map(|(role, _)| *role).ok_or_else(|| {
            let names: Vec<&str> = ROLES.iter().map(|(_, name)| *name).collect();
            Error::invalid("invalid_role", format!("a role is one of {}", names.join(", ")))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::permission::NOUNS;
    use super::*;

    #[test]
    fn roles_build_on_each_other() {
        for (noun, _) in NOUNS {
            for permission in [noun.read(), noun.write(), noun.own()] {
                assert!(Role::Owner.may(permission));
                assert!(Role::Admin.may(permission) || permission.verb == Verb::Own);
                assert!(Role::Admin.may(permission) || !Role::Developer.may(permission));
                assert!(Role::Developer.may(permission) || !Role::Viewer.may(permission));
            }
        }
        assert!(Role::Developer.may(Noun::Secrets.write()) && !Role::Developer.may(Noun::Members.write()));
        assert!(!Role::Billing.may(Noun::Functions.read()) && Role::Billing.may(Noun::Usage.write()));
    }
}
