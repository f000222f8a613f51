//! `af audit`

use std::path::PathBuf;

use clap::Args as Options;

use super::values::whole;

/// Whose entries, and how many.
#[derive(Debug, Options)]
pub struct Audit {
    /// What was done in this project [default: the project that you work in]
    #[arg(long, value_name = "ID", conflicts_with = "organization")]
    pub project: Option<String>,
    /// What was done in this organization and its projects, those that are gone included
    #[arg(long, visible_alias = "org", value_name = "ID")]
    pub organization: Option<String>,
    /// So many entries, the newest
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = whole::<u32>(1..=u32::MAX.into()))]
    pub limit: u32,
    /// Write all entries to a file, one JSON object a line, the newest first
    #[arg(long, value_name = "FILE", conflicts_with = "limit")]
    pub export: Option<PathBuf>,
    /// Put it in the place of a file that is there already
    #[arg(long, requires = "export")]
    pub replace: bool,
}
