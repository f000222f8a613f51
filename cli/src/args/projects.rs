//! `af projects …`, and which deployments functions keep.

use af_contract::limits;
use clap::{Args as Options, Subcommand};
use serde_json::{Map, Value};

use super::values::{Part, default_or, duration, whole};

#[derive(Debug, Subcommand)]
pub enum Projects {
    /// List the projects that you are a member of
    List,
    /// Show one project
    Get(One),
    /// Make a project
    Create(Create),
    /// Change a project's name, or which deployments its functions keep
    Update(Update),
    /// Show the plan of the project's organization, the project's limits, and what is used of them
    Quotas(One),
    /// Delete a project that has no functions
    Delete {
        /// The project's id
        project: String,
    },
}

#[derive(Debug, Options)]
pub struct Create {
    /// 1 to 60 characters
    #[arg(short, long)]
    pub name: String,
    /// Whose it is to be: an organization's id [default: your own organization]
    #[arg(long, value_name = "ID")]
    pub org: Option<String>,
}

/// Which project.
#[derive(Debug, Options)]
pub struct One {
    /// The project's id [default: the one that you work in]
    pub project: Option<String>,
}

#[derive(Debug, Options)]
pub struct Update {
    #[command(flatten)]
    pub one: One,
    /// A new name
    #[arg(long)]
    pub name: Option<String>,
    #[command(flatten)]
    pub keep: Keep,
}

/// Which deployments stay when old ones are pruned.
#[derive(Debug, Options)]
pub struct Keep {
    /// How many of the newest deployments stay when a server prunes them, once a day; "default" is what the project says, and for a
    /// project 100
    #[arg(long, value_name = "N", value_parser = default_or(whole::<u32>(1..=limits::DEPLOYMENTS_KEPT.into())))]
    pub keep: Option<Part<u32>>,
    /// How old other deployments stay, such as 30d; 0s: no longer than those of --keep; "default" is what the project says, and for a
    /// project 0s
    #[arg(long, value_name = "TIME", value_parser = default_or(duration))]
    pub keep_for: Option<Part<humantime::Duration>>,
}

impl Keep {
    /// As a change of a function or project says it.
    pub fn change(&self) -> Map<String, Value> {
        let newest = self.keep.as_ref().map(|part| match part {
            Part::Default => Value::Null,
            Part::Is(newest) => (*newest).into(),
        });
        let seconds = self.keep_for.as_ref().map(|part| match part {
            Part::Default => Value::Null,
            Part::Is(age) => age.as_secs().into(),
        });
        let fields = [("keep", newest), ("keepForSeconds", seconds)];
        fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
    }
}
