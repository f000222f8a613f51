//! `af usage`

use clap::{Args as Options, ValueEnum};

use super::values::{Days, days};

/// Whose, and from when to when.
#[derive(Debug, Options)]
pub struct Usage {
    /// Of this project [default: the project that you work in]
    #[arg(long, value_name = "ID", conflicts_with = "organization")]
    pub project: Option<String>,
    /// Of all projects of this organization, those that are gone included, by days
    #[arg(long, visible_alias = "org", value_name = "ID", conflicts_with_all = ["function", "site"])]
    pub organization: Option<String>,
    /// Of this function of the project, by days or hours
    #[arg(short, long, value_name = "NAME|ID", conflicts_with = "site")]
    pub function: Option<String>,
    /// Of this site of the project, by days or hours
    #[arg(short, long, value_name = "NAME|ID")]
    pub site: Option<String>,
    /// The first day, of UTC, such as 2026-11-01, or a month, such as 2026-11 [default: the first of --to's month, or of this one]
    #[arg(long, value_name = "DAY|MONTH", value_parser = days)]
    pub from: Option<Days>,
    /// The last day, or a month, which counts whole [default: today]
    #[arg(long, value_name = "DAY|MONTH", value_parser = days)]
    pub to: Option<Days>,
    /// In which parts of the time, of UTC; hours are kept of functions and sites, for 62 days [default: day; of a project, not in
    /// parts, but its functions and sites]
    #[arg(long, value_enum)]
    pub per: Option<Per>,
}

/// By which time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Per {
    Day,
    Hour,
}
