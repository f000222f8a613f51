//! What the DNS says of a claim of a name. It says no more than that: who may have the name is decided in
//! [`super::verification`].

use std::net::IpAddr;

use af_contract::DomainName;

use super::{Error, State};
use crate::dns::DnsError;
use crate::store::{DomainRow, StoreError};

/// What a verification record says before the token.
pub const TXT_PREFIX: &str = "af-site-verification=";

/// The label under which a verification record may be, because a name with a CNAME can have no other record.
const TXT_LABEL: &str = "_af";

/// Aliases of aliases that are followed. The DNS itself knows no bound; honest chains have one to three.
const ALIASES: usize = 8;

/// How a project proves that a name is its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// A TXT record with the claim's token: nobody but the one who manages the name can have made it for this claim.
    Txt,
    /// The name is an alias of a host of the project.
    Cname,
    /// The name has the edges' addresses, and no others.
    Address,
}

/// What the DNS says.
#[derive(Debug)]
pub enum Evidence {
    /// The claim is right. Tokens: those of all verification records that were found.
    Proven {
        /// Without [`TXT_PREFIX`].
        tokens: Vec<String>,
    },
    /// It is not, and here is what to change.
    Missing(String),
    /// The DNS failed.
    Unknown(String),
}

impl Method {
    /// Reads a method by its name.
    ///
    /// # Errors
    /// When there is none with this name.
    pub fn parse(text: &str) -> Result<Self, Error> {
        match text {
            "TXT" => Ok(Self::Txt),
            "CNAME" => Ok(Self::Cname),
            "A" => Ok(Self::Address),
            other => {
                let shown: String = other.chars().take(40).collect();
                let detail = format!("{shown:?} is not a verification method; use TXT, CNAME or A");
                Err(Error::invalid("invalid_verification_method", detail))
            }
        }
    }

    /// Its name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Txt => "TXT",
            Self::Cname => "CNAME",
            Self::Address => "A",
        }
    }
}

/// The names at which a verification record is looked for.
pub(crate) fn txt_names(name: &DomainName) -> [String; 2] {
    [format!("{TXT_LABEL}.{}", name.base()), name.base().to_owned()]
}

/// Asks the DNS about a claim.
///
/// # Errors
/// When the database fails.
pub(super) async fn look(state: &State, domain: &DomainRow) -> Result<Evidence, Error> {
    let name = parse_stored(&domain.hostname)?;
    let evidence = match Method::parse(&domain.method)? {
        Method::Txt => texts(state, &name, &domain.token).await,
        Method::Cname => aliases(state, &name, &domain.project_id).await?,
        Method::Address => addresses(state, &name).await,
    };
    Ok(evidence)
}

/// A name as the database has it.
pub(super) fn parse_stored(name: &str) -> Result<DomainName, StoreError> {
    DomainName::parse(name).map_err(|_| StoreError::Value { what: "domain name", value: name.to_owned() })
}

async fn texts(state: &State, name: &DomainName, token: &str) -> Evidence {
    let mut tokens = Vec::new();
    let mut failed = None;
    let mut found = None;
    for place in txt_names(name) {
        match state.domains.dns.texts(&place).await {
            Ok(texts) => {
                // Who was given a name by an alias was not given those below it.
                let usable = texts.into_iter().filter(|text| name.wildcard_base().is_none() || !text.aliased);
                tokens.extend(
                    usable.filter_map(|text| Some(text.value.trim().strip_prefix(TXT_PREFIX)?.to_owned())),
                );
            }
            Err(error) if error.is_answer() => found = Some(error),
            Err(error) => failed = Some(error),
        }
    }
    if tokens.iter().any(|other| other == token) {
        return Evidence::Proven { tokens };
    }
    if let Some(error) = failed {
        return Evidence::Unknown(error.to_string());
    }
    let wanted =
        format!("add a TXT record with the value {TXT_PREFIX}{token} to {}", txt_names(name).join(" or "));
    Evidence::Missing(match found {
        _ if !tokens.is_empty() => format!("the verification record is another claim's; {wanted}"),
        Some(error) => format!("{error}; {wanted}"),
        None => format!("no TXT record of {} is the verification record; {wanted}", name.base()),
    })
}

/// Follows aliases until one is a host of the project.
async fn aliases(state: &State, name: &DomainName, project: &str) -> Result<Evidence, Error> {
    let mut at = name.as_str().to_owned();
    for _ in 0..ALIASES {
        match state.domains.dns.alias(&at).await {
            Ok(target) => at = target,
            Err(error) if !error.is_answer() => return Ok(Evidence::Unknown(error.to_string())),
            Err(error) if at == name.as_str() => {
                let detail = format!("{error}; add one that points to the host of the function or site");
                return Ok(Evidence::Missing(detail));
            }
            Err(_) => {
                let detail = format!("{name} is an alias of {at}, which is no host of this project");
                return Ok(Evidence::Missing(detail));
            }
        }
        if let Some(slug) = state.domains.slug_of(&at)
            && state.store.project_of_slug(slug).await?.is_some_and(|owner| owner == project)
        {
            return Ok(Evidence::Proven { tokens: Vec::new() });
        }
    }
    Ok(Evidence::Missing(format!("{name} is an alias of an alias, more than {ALIASES} times")))
}

async fn addresses(state: &State, name: &DomainName) -> Evidence {
    let edges = &state.domains.config.edge_addresses;
    match state.domains.dns.addresses(name.as_str()).await {
        Ok(found) => match found.iter().find(|address| !edges.contains(address)) {
            None => Evidence::Proven { tokens: Vec::new() },
            Some(other) => Evidence::Missing(format!(
                "{name} has the address {other}, which is none of this platform; it may have these only: {}",
                listed(edges)
            )),
        },
        Err(error @ (DnsError::NoName(_) | DnsError::NoRecord { .. })) => {
            Evidence::Missing(format!("{error}; add one with {}", listed(edges)))
        }
        Err(error) => Evidence::Unknown(error.to_string()),
    }
}

fn listed(addresses: &[IpAddr]) -> String {
    addresses.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(", ")
}
