//! The options of `af admin plans`.

use af_contract::limits::LEAST_DEPLOYMENTS;
use clap::{Args as Options, Subcommand};
use serde_json::{Map, Value};

use super::values::{Part, default_or, whole};

/// The most of anything but bytes and requests.
const MOST: u64 = 1_000_000_000;

/// The fewest deployments.
const LEAST: u64 = LEAST_DEPLOYMENTS as u64;

#[derive(Debug, Subcommand)]
pub enum Plans {
    /// List the plans: what each says, and how many organizations have it
    List,
    /// Make a plan, or change the one of that name: what is not given stays as it is. Organizations that have it lose nothing, also
    /// where they have more than it allows then
    Set(Box<Set>),
    /// Remove a plan that no organization has
    Remove {
        /// Its name or id
        name: String,
    },
    /// Give an organization a plan. It loses nothing, also where it has more than the plan allows
    Assign {
        /// The organization's id
        org: String,
        /// The plan's name or id
        name: String,
    },
    /// Take an organization's plan: what the server's options say counts for it again
    Unassign {
        /// The organization's id
        org: String,
    },
}

#[derive(Debug, Options)]
pub struct Set {
    /// 1 to 64 letters, digits, dots, dashes and underscores
    pub name: String,
    /// Another name
    #[arg(long, value_name = "NAME")]
    pub rename: Option<String>,
    #[command(flatten)]
    pub limits: Limits,
}

/// "default" is what the server's options say.
#[derive(Debug, Options)]
#[command(next_help_heading = "Limits, each a number or \"default\": what the server's options say")]
pub struct Limits {
    /// Projects of an organization
    #[arg(long, value_name = "N", value_parser = default_or(whole::<u64>(0..=MOST)))]
    pub projects: Option<Part<u64>>,
    /// Members of an organization and its projects, each once
    #[arg(long, value_name = "N", value_parser = default_or(whole::<u64>(0..=MOST)))]
    pub members: Option<Part<u64>>,
    /// Requests to the API about an organization and what it has, of all its members and keys
    #[arg(long, value_name = "N", value_parser = default_or(whole::<u64>(1..=60_000_000)))]
    pub requests_per_minute: Option<Part<u64>>,
    /// Functions of a project
    #[arg(long, value_name = "N", value_parser = default_or(whole::<u64>(0..=MOST)))]
    pub functions: Option<Part<u64>>,
    /// Sites of a project
    #[arg(long, value_name = "N", value_parser = default_or(whole::<u64>(0..=MOST)))]
    pub sites: Option<Part<u64>>,
    /// Domains of a project
    #[arg(long, value_name = "N", value_parser = default_or(whole::<u64>(0..=MOST)))]
    pub domains: Option<Part<u64>>,
    /// Deployments of all functions of a project
    #[arg(long, value_name = "N", value_parser = default_or(whole::<u64>(LEAST..=MOST)))]
    pub project_deployments: Option<Part<u64>>,
    /// Deployments of a function
    #[arg(long, value_name = "N", value_parser = default_or(whole::<u64>(LEAST..=MOST)))]
    pub function_deployments: Option<Part<u64>>,
    /// What all pins of a project and its sites' deployments have
    #[arg(long, value_name = "MIB", value_parser = default_or(whole::<u64>(0..=1 << 30)))]
    pub storage_mb: Option<Part<u64>>,
    /// Pins of a project
    #[arg(long, value_name = "N", value_parser = default_or(whole::<u64>(0..=MOST)))]
    pub pins: Option<Part<u64>>,
}

impl Limits {
    /// As the API has them.
    pub fn change(self) -> Map<String, Value> {
        let bytes = self.storage_mb.map(|part| match part {
            Part::Default => Part::Default,
            Part::Is(mib) => Part::Is(mib << 20),
        });
        let all = [
            ("projects", self.projects),
            ("members", self.members),
            ("requestsPerMinute", self.requests_per_minute),
            ("functions", self.functions),
            ("sites", self.sites),
            ("domains", self.domains),
            ("projectDeployments", self.project_deployments),
            ("functionDeployments", self.function_deployments),
            ("storageBytes", bytes),
            ("pins", self.pins),
        ];
        all.into_iter().filter_map(|(name, part)| Some((name.to_owned(), part?.value().into()))).collect()
    }
}
