//! Scopes: what a token is for.

use std::fmt;
use std::str::FromStr;

use super::permission::{NOUNS, Noun, Permission, Verb};
use crate::domain::Error;

/// What a token is for: `functions:read`, `deployments:*` or `*`; a permission to write includes that to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scopes(Vec<(Option<Noun>, Verb)>);

impl Scopes {
    pub(super) fn allow(&self, permission: Permission) -> bool {
        self.0
            .iter()
            .any(|(noun, verb)| noun.is_none_or(|noun| noun == permission.noun) && *verb >= permission.verb)
    }

    /// Whether all that `other` allows is allowed.
    pub(super) fn include(&self, other: &Self) -> bool {
        let all = NOUNS.iter().flat_map(|(noun, _)| [noun.read(), noun.write(), noun.own()]);
        all.filter(|permission| other.allow(*permission)).all(|permission| self.allow(permission))
    }
}

/// Separated by spaces or commas.
impl FromStr for Scopes {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let bad = |scope: &str| {
            let nouns: Vec<&str> = NOUNS.iter().map(|(_, name)| *name).collect();
            let detail = format!(
                "{scope:?} is no scope; a scope is * or NOUN:VERB, with a noun of {}, and read, write or *",
                nouns.join(", ")
            );
            Error::invalid("invalid_scope", detail)
        };
        let mut scopes = Vec::new();
        for scope in text.split([' ', ',']).filter(|scope| !scope.is_empty()) {
            if scope == "*" {
                scopes.push((None, Verb::Own));
                continue;
            }
            let (noun, verb) = scope.split_once(':').ok_or_else(|| bad(scope))?;
            let verb = match verb {
                "read" => Verb::Read,
                "write" => Verb::Write,
                "*" => Verb::Own,
                _ => return Err(bad(scope)),
            };
            let noun = match noun {
                "*" => None,
                noun => {
                    let found = NOUNS.iter().find(|(_, name)| *name == noun);
                    Some(found.map(|(noun, _)| *noun).ok_or_else(|| bad(scope))?)
                }
            };
            scopes.push((noun, verb));
        }
        match scopes.len() {
            0 => Err(bad("")),
            1..=39 => Ok(Self(scopes)),
            _ => Err(Error::invalid("invalid_scope", "these are more scopes than there are")),
        }
    }
}

impl fmt::Display for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, (noun, verb)) in self.0.iter().enumerate() {
            let space = if number == 0 { "" } else { " " };
            let noun = noun.map_or("*", Noun::name);
            let verb = match verb {
                Verb::Read => "read",
                Verb::Write => "write",
                Verb::Own => "*",
            };
            write!(f, "{space}{noun}:{verb}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_say_what_they_allow() {
        let scopes: Scopes = "functions:read, deployments:write".parse().unwrap();
        assert_eq!(scopes.to_string(), "functions:read deployments:write");
        assert!(scopes.allow(Noun::Deployments.read()) && scopes.allow(Noun::Deployments.write()));
        assert!(!scopes.allow(Noun::Functions.write()) && !scopes.allow(Noun::Sites.read()));
        for bad in ["", "functions", "functions:", "function:read", "functions:delete", "*:own", ":read"] {
            assert!(bad.parse::<Scopes>().is_err(), "{bad}");
        }
        let all: Scopes = "*".parse().unwrap();
        assert!(all.include(&scopes) && !scopes.include(&all) && all.allow(Noun::Projects.own()));
    }
}
