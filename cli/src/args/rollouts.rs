//! `af functions rollout | promote | abort | approve | prune`.

use af_contract::Sticky;
use clap::Args as Options;

use super::values::{count, duration, percent, whole};

/// Who gets a new deployment.
#[derive(Debug, Options)]
pub struct Share {
    /// How many of a hundred clients get the deployment, while the others go on with what the function runs; see `af functions
    /// rollout` [default: all]
    #[arg(long, value_name = "N", conflicts_with = "preview", value_parser = percent())]
    pub percent: Option<u8>,
    /// With --percent: by what clients are known, address, header:NAME or cookie:NAME [default: address]
    #[arg(long, value_name = "KEY", requires = "percent")]
    pub sticky: Option<Sticky>,
    #[command(flatten)]
    pub guard: Guard,
}

/// When an edge stops a rollout by itself.
#[derive(Debug, Options)]
pub struct Guard {
    /// Of a hundred requests to the deployment, so many more than to the active one may fail within a minute before the rollout is
    /// stopped; 100: it is never stopped [default: as before, at first 10]
    #[arg(long, value_name = "PERCENT", requires = "percent", value_parser = percent())]
    pub max_errors: Option<u8>,
    /// Requests to the deployment before it is judged [default: as before, at first 20]
    #[arg(long, value_name = "N", requires = "percent", value_parser = count())]
    pub min_requests: Option<u32>,
}

#[derive(Debug, Options)]
pub struct Rollout {
    /// The function's name or id
    pub name: String,
    /// The deployment's id or number
    pub deployment: String,
    /// How many of a hundred clients get it. Raising it takes clients to the deployment, and none away from it
    #[arg(long, value_name = "N", value_parser = percent())]
    pub percent: u8,
    /// By what clients are known, so that each always gets the same: address (an IPv4 address, or an IPv6 network of 64 bits),
    /// header:NAME or cookie:NAME; who lacks that is known by address [default: as before, at first address]
    #[arg(long, value_name = "KEY")]
    pub sticky: Option<Sticky>,
    #[command(flatten)]
    pub guard: Guard,
    /// Also if an edge has stopped the rollout of this deployment: it begins anew, with what it had
    #[arg(long)]
    pub again: bool,
}

#[derive(Debug, Options)]
pub struct Promote {
    /// The function's name or id
    pub name: String,
    /// The deployment's id or number [default: the one that is being rolled out]
    pub deployment: Option<String>,
}

#[derive(Debug, Options)]
pub struct Abort {
    /// The function's name or id
    pub name: String,
}

#[derive(Debug, Options)]
pub struct Approve {
    /// The function's name or id
    pub name: String,
    /// The deployment's id or number
    pub deployment: String,
    /// What it is allowed, such as 'egress to api.example.com' or 'store orders'; may be repeated [default: what it could do that the active
    /// deployment could not when it was made]
    #[arg(long, value_name = "WHAT")]
    pub allow: Vec<String>,
}

#[derive(Debug, Options)]
pub struct Prune {
    /// The function's name or id
    pub name: String,
    /// How many of the newest deployments stay [default: as `af functions update` and `af projects update` have set it, else 100]
    #[arg(long, value_name = "N", value_parser = whole::<u32>(1..=u32::MAX.into()))]
    pub keep: Option<u32>,
    /// Also keep all that are younger than this, such as 30d
    #[arg(long, value_name = "TIME", requires = "keep", value_parser = duration)]
    pub younger_than: Option<humantime::Duration>,
    /// Only say which would go
    #[arg(long)]
    pub dry_run: bool,
}
