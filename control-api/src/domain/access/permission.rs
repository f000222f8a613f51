//! What an operation needs: to read, write or own a noun.

use std::fmt;

/// What an operation is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Noun {
    /// Organizations.
    Organizations,
    /// Projects.
    Projects,
    /// Members and invitations.
    Members,
    /// Functions and their routes.
    Functions,
    /// Deployments of functions and sites.
    Deployments,
    /// What deployments may do beyond the ones before.
    Approvals,
    /// Sites.
    Sites,
    /// Domains and their certificates.
    Domains,
    /// Stored content.
    Storage,
    /// Settings and secrets.
    Secrets,
    /// A project's keys, and a user's tokens.
    Tokens,
    /// What was used, and bills.
    Usage,
    /// Who did what.
    Audit,
}

/// What an operation does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verb {
    /// Looks.
    Read,
    /// Changes.
    Write,
    /// Gives away or ends.
    Own,
}

/// What an operation needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Permission {
    pub(super) noun: Noun,
    pub(super) verb: Verb,
}

pub(super) const NOUNS: [(Noun, &str); 13] = [
    (Noun::Organizations, "organizations"),
    (Noun::Projects, "projects"),
    (Noun::Members, "members"),
    (Noun::Functions, "functions"),
    (Noun::Deployments, "deployments"),
    (Noun::Approvals, "approvals"),
    (Noun::Sites, "sites"),
    (Noun::Domains, "domains"),
    (Noun::Storage, "storage"),
    (Noun::Secrets, "secrets"),
    (Noun::Tokens, "tokens"),
    (Noun::Usage, "usage"),
    (Noun::Audit, "audit"),
];

impl Noun {
    /// To see it.
    #[must_use]
    pub const fn read(self) -> Permission {
        Permission { noun: self, verb: Verb::Read }
    }

    /// To change it.
    #[must_use]
    pub const fn write(self) -> Permission {
        Permission { noun: self, verb: Verb::Write }
    }

    /// To give it away or end it.
    #[must_use]
    pub const fn own(self) -> Permission {
        Permission { noun: self, verb: Verb::Own }
    }

    pub(super) fn name(self) -> &'static str {
        NOUNS.iter().find(|(noun, _)| *noun == self).map_or("", |(_, name)| name)
    }
}

impl fmt::Display for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verb = match self.verb {
            Verb::Read => "read",
            Verb::Write => "write",
            Verb::Own => "*",
        };
        write!(f, "{}:{verb}", self.noun.name())
    }
}
