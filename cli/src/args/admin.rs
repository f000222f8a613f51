//! `af admin …`: what operators do, on the server's machine or as its first user.

use std::path::PathBuf;

use af_control_api::Database;
use clap::{Args as Options, Subcommand};

use super::master_key::Source;
use super::plans::Plans;

#[derive(Debug, Subcommand)]
pub enum Admin {
    /// Write all that the database has, and what functions keep in key-value stores here, to a file, while the server works. Content
    /// is not in it: its files never change, so copy the folder "blocks" of the data directory after it
    Backup(Backup),
    /// Make a new server's database of a backup, on SQLite or PostgreSQL, whichever it came from, and its key-value stores. Then copy
    /// the content
    Restore(Restore),
    /// Seal everything with a new master key, while servers go on; repeat it after a crash, and it goes on
    RotateMasterKey(Rotate),
    /// Say what organizations may have and ask, where that is another thing than the server's options say; as its operator, whom the first
    /// start made
    #[command(subcommand, visible_alias = "plan")]
    Plans(Plans),
}

/// Which database.
#[derive(Debug, Options)]
pub struct Kept {
    /// The server's data directory [default: ~/.local/share/af]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// The server's PostgreSQL database [default: a SQLite file in the data directory]
    #[arg(long, value_name = "URL", env = "AF_DATABASE_URL", hide_env_values = true)]
    pub database: Option<Database>,
}

#[derive(Debug, Options)]
pub struct Backup {
    /// The file to make
    pub file: PathBuf,
    /// Put it in the place of a file that is there already
    #[arg(long)]
    pub replace: bool,
    /// Put the master key in, sealed under the passphrase in AF_BACKUP_PASSPHRASE (12 or more characters): without the key,
    /// settings, secrets and the keys of certificates and private content cannot be opened
    #[arg(long)]
    pub with_key: bool,
    #[command(flatten)]
    pub kept: Kept,
    #[command(flatten)]
    pub master_key: Source,
}

#[derive(Debug, Options)]
pub struct Restore {
    /// The file of a backup; AF_BACKUP_PASSPHRASE opens the key in it
    pub file: PathBuf,
    #[command(flatten)]
    pub kept: Kept,
    #[command(flatten)]
    pub master_key: Source,
}

#[derive(Debug, Options)]
pub struct Rotate {
    #[command(flatten)]
    pub kept: Kept,
    #[command(flatten)]
    pub master_key: Source,
}
