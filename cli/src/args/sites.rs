//! The options of `af sites`.

use std::path::PathBuf;

use af_contract::ContentId;
use clap::{Args as Options, Subcommand};

use super::values::cid;

#[derive(Debug, Subcommand)]
pub enum Sites {
    /// Make a site; it answers once it is deployed
    Create(CreateSite),
    /// Send a folder, or name the CID of one, and make it what the site serves
    Deploy(DeploySite),
    /// List the project's sites
    List,
    /// List a site's deployments, newest first
    Deployments(NamedSite),
    /// Go back to an older deployment
    Rollback(RollbackSite),
    /// Change a site's name or slug
    Update(UpdateSite),
    /// Delete a site and its deployments
    Delete(NamedSite),
}

/// Which site.
#[derive(Debug, Options)]
pub struct NamedSite {
    /// The site's name or id
    #[arg(short, long, alias = "site-id")]
    pub name: String,
}

#[derive(Debug, Options)]
pub struct CreateSite {
    /// 3 to 30 letters, digits and dashes
    #[arg(short, long)]
    pub name: String,
    /// The host name's first part [default: made of the name]
    #[arg(long)]
    pub slug: Option<String>,
}

#[derive(Debug, Options)]
pub struct DeploySite {
    /// The folder. Names that begin with a dot are left out, except .well-known [default: distDir of af.config, after
    /// its buildCommand]
    #[arg(short, long, value_name = "DIR")]
    pub path: Option<PathBuf>,
    /// Instead of a folder, the CID of a directory that the server fetches from its sources of content, such as IPFS
    #[arg(long, value_name = "CID", conflicts_with = "path", value_parser = cid)]
    pub cid: Option<ContentId>,
    /// The site's name or id [default: the only site of af.config]
    #[arg(short, long, alias = "site-id")]
    pub name: Option<String>,
    /// Make the site if there is none with this name
    #[arg(long)]
    pub create: bool,
    /// Not supported
    #[arg(long, hide = true)]
    pub private: bool,
}

#[derive(Debug, Options)]
pub struct RollbackSite {
    #[command(flatten)]
    pub site: NamedSite,
    /// The deployment to go back to [default: the one before the current]
    #[arg(long, value_name = "ID", visible_alias = "deployment")]
    pub to: Option<String>,
}

#[derive(Debug, Options)]
pub struct UpdateSite {
    /// The site's name or id
    #[arg(short = 'n', long = "site", alias = "site-id", value_name = "NAME")]
    pub site: String,
    /// A new name
    #[arg(long)]
    pub name: Option<String>,
    /// A new first part of the host name
    #[arg(long)]
    pub slug: Option<String>,
}
