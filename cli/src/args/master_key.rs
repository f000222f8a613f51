//! Where the master key of a server is.

use std::path::PathBuf;

use clap::Args as Options;
use url::Url;

/// What the keys of projects are sealed with. AF_MASTER_KEY in the environment takes the file's place; while it is rotated,
/// AF_MASTER_KEY_PREVIOUS has the one before.
#[derive(Debug, Options)]
#[command(next_help_heading = "Master key")]
pub struct Source {
    /// The file of the master key, made on the first start [default: master.key in the data directory, unless AF_MASTER_KEY
    /// is set]
    #[arg(long, value_name = "FILE")]
    pub master_key_file: Option<PathBuf>,
    /// An Infisical server that has the master key as the secret AF_MASTER_KEY; the machine identity is in
    /// INFISICAL_UNIVERSAL_AUTH_CLIENT_ID and INFISICAL_UNIVERSAL_AUTH_CLIENT_SECRET
    #[arg(long, value_name = "URL", requires = "infisical_project", conflicts_with = "master_key_file")]
    pub infisical_url: Option<Url>,
    /// Its project's id
    #[arg(long, value_name = "ID", requires = "infisical_url")]
    pub infisical_project: Option<String>,
    /// Its environment's slug
    #[arg(long, value_name = "SLUG", default_value = "prod")]
    pub infisical_environment: String,
    /// The folder of the secret
    #[arg(long, value_name = "PATH", default_value = "/")]
    pub infisical_path: String,
}
