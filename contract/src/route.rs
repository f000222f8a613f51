//! Routes: what the control plane tells the edges, and all that an edge needs to know to serve.

use serde::{Deserialize, Serialize};

use crate::{ContentId, Settings, Slug};

/// The state of one function's host name. A later revision replaces an earlier one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// Counts up over the whole platform; gaps are normal.
    pub revision: u64,
    /// The host's first label.
    pub slug: Slug,
    /// What answers, or `None` when the function was deleted or renamed.
    pub target: Option<Target>,
}

/// The function behind a slug.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// `fn_…`
    pub function: String,
    /// Whose it is (`prj_…`): functions of one project share its key-value stores.
    pub project: String,
    /// Whether it may answer.
    pub status: FunctionStatus,
    /// What it runs; `None` before the first deploy.
    pub deployment: Option<DeploymentRef>,
}

/// Names a deployment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeploymentRef {
    /// `dep_…`
    pub id: String,
    /// CID of its manifest.
    pub manifest: ContentId,
    /// The values of the settings that the manifest names.
    #[serde(default, skip_serializing_if = "Settings::is_empty")]
    pub settings: Settings,
}

/// Whether a function answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum FunctionStatus {
    /// It answers.
    Active,
    /// Switched off by its owner, or never deployed.
    Inactive,
}
