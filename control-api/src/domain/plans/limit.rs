//! What a plan can limit.

use af_contract::limits::{LEAST_DEPLOYMENTS, REQUESTS_PER_SECOND};

use crate::store::PlanLimits;

/// The most of anything but bytes and requests.
const MOST: u64 = 1_000_000_000;

/// One limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// Projects of an organization.
    Projects,
    /// Members of an organization and its projects, each once.
    Members,
    /// Requests about an organization and what it has, of all its members and keys, in a minute.
    RequestsPerMinute,
    /// Functions of a project.
    Functions,
    /// Sites of a project.
    Sites,
    /// Domains of a project.
    Domains,
    /// Deployments of all functions of a project.
    ProjectDeployments,
    /// Bytes of all pins of a project, and of what its sites have deployed.
    StorageBytes,
    /// Pins of a project.
    Pins,
    /// Deployments of a function.
    FunctionDeployments,
}

impl Limit {
    /// All, in the order in which they are shown.
    pub const ALL: [Self; 10] = [
        Self::Projects,
        Self::Members,
        Self::RequestsPerMinute,
        Self::Functions,
        Self::Sites,
        Self::Domains,
        Self::ProjectDeployments,
        Self::StorageBytes,
        Self::Pins,
        Self::FunctionDeployments,
    ];

    /// As the API calls it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Projects => "projects",
            Self::Members => "members",
            Self::RequestsPerMinute => "requestsPerMinute",
            Self::Functions => "functions",
            Self::Sites => "sites",
            Self::Domains => "domains",
            Self::ProjectDeployments => "projectDeployments",
            Self::StorageBytes => "storageBytes",
            Self::Pins => "pins",
            Self::FunctionDeployments => "functionDeployments",
        }
    }

    /// For each of what it counts: `organization`, `project` or `function`.
    #[must_use]
    pub const fn per(self) -> &'static str {
        match self {
            Self::Projects | Self::Members | Self::RequestsPerMinute => "organization",
            Self::FunctionDeployments => "function",
            _ => "project",
        }
    }

    /// As a sentence has it: "a project has at most 10 functions".
    pub(in crate::domain) const fn words(self) -> &'static str {
        match self {
            Self::Projects => "projects",
            Self::Members => "members",
            Self::RequestsPerMinute => "requests in a minute",
            Self::Functions => "functions",
            Self::Sites => "sites",
            Self::Domains => "domains",
            Self::StorageBytes => "bytes of stored content",
            Self::Pins => "pins",
            Self::ProjectDeployments | Self::FunctionDeployments => "deployments",
        }
    }

    /// What is refused beyond it.
    pub(in crate::domain) const fn code(self) -> &'static str {
        match self {
            Self::Domains => "too_many_domains",
            _ => "quota_exceeded",
        }
    }

    /// The values that it can have.
    pub(in crate::domain) fn range(self) -> std::ops::RangeInclusive<u64> {
        match self {
            // Whom nobody may ask about anything is to be removed, not to be given a plan.
            Self::RequestsPerMinute => 1..=u64::from(REQUESTS_PER_SECOND.get()) * 60,
            // What a number in JSON can say without loss.
            Self::StorageBytes => 0..=(1 << 53) - 1,
            // What a function runs, what a rollback leads to, and one that is tried.
            Self::ProjectDeployments | Self::FunctionDeployments => u64::from(LEAST_DEPLOYMENTS)..=MOST,
            _ => 0..=MOST,
        }
    }

    pub(in crate::domain) const fn of(self, limits: &PlanLimits) -> Option<i64> {
        match self {
            Self::Projects => limits.projects,
            Self::Members => limits.members,
            Self::RequestsPerMinute => limits.requests_per_minute,
            Self::Functions => limits.functions,
            Self::Sites => limits.sites,
            Self::Domains => limits.domains,
            Self::ProjectDeployments => limits.project_deployments,
            Self::StorageBytes => limits.storage_bytes,
            Self::Pins => limits.pins,
            Self::FunctionDeployments => limits.function_deployments,
        }
    }

    pub(in crate::domain) const fn slot(self, limits: &mut PlanLimits) -> &mut Option<i64> {
        match self {
            Self::Projects => &mut limits.projects,
            Self::Members => &mut limits.members,
            Self::RequestsPerMinute => &mut limits.requests_per_minute,
            Self::Functions => &mut limits.functions,
            Self::Sites => &mut limits.sites,
            Self::Domains => &mut limits.domains,
            Self::ProjectDeployments => &mut limits.project_deployments,
            Self::StorageBytes => &mut limits.storage_bytes,
            Self::Pins => &mut limits.pins,
            Self::FunctionDeployments => &mut limits.function_deployments,
        }
    }
}
