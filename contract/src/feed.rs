//! The feed: what the control plane tells the edges, and all that an edge needs to know to serve.

use serde::{Deserialize, Serialize};

use crate::{ContentId, ContentKey, DomainName, RolloutState, RouteTable, Settings, Slug};

/// A change of one thing that answers requests. A later revision replaces an earlier one.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Update {
    /// Counts up over the whole platform; gaps are normal.
    pub revision: u64,
    /// What changed.
    #[serde(flatten)]
    pub change: Change,
}

/// The state of one thing, or `None` when it is gone.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "camelCase")]
pub enum Change {
    /// A function.
    Function {
        /// `fn_…`
        id: String,
        /// What it is.
        state: Option<FunctionState>,
    },
    /// A site.
    Site {
        /// `site_…`
        id: String,
        /// What it is.
        state: Option<SiteState>,
    },
    /// A custom domain that was verified.
    Domain {
        /// Exact or wildcard.
        name: DomainName,
        /// Where it leads.
        state: Option<DomainState>,
    },
}

impl Change {
    /// All kinds, as a page has them.
    pub const KINDS: [&str; 3] = ["function", "site", "domain"];

    /// Whether the thing is there, and not gone.
    #[must_use]
    pub const fn is_there(&self) -> bool {
        match self {
            Self::Function { state, .. } => state.is_some(),
            Self::Site { state, .. } => state.is_some(),
            Self::Domain { state, .. } => state.is_some(),
        }
    }
}

/// A function: where it answers, and with what.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FunctionState {
    /// The first label of its host under the platform's domains.
    pub slug: Slug,
    /// Whose it is (`prj_…`): functions of one project share its key-value stores.
    pub project: String,
    /// Whether it may answer.
    pub status: FunctionStatus,
    /// Its route table. What no route matches runs the deployment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub routes: Option<RouteTable>,
    /// What it runs; `None` before the first deploy.
    pub deployment: Option<DeploymentRef>,
    /// Its newest deployments, each of which answers at a preview host, too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub previews: Vec<DeploymentRef>,
    /// What is about to become active, and who gets it already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<Box<RolloutState>>,
}

/// A site: a directory of files that is served as it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SiteState {
    /// The first label of its host under the platform's domains.
    pub slug: Slug,
    /// Whose it is (`prj_…`).
    pub project: String,
    /// Its directory; `None` before the first deploy.
    pub root: Option<ContentId>,
}

/// Where a custom domain leads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DomainState {
    /// What answers there.
    pub owner: Owner,
    /// The owner's own certificate; without it the edge gets one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<Certificate>,
}

/// What answers at a domain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Owner {
    /// `fn_…`
    Function(String),
    /// `site_…`
    Site(String),
}

/// A certificate with its key.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certificate {
    /// The certificates, leaf first, in PEM.
    pub chain: String,
    /// The private key in PEM.
    pub key: String,
}

impl std::fmt::Debug for Certificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Certificate").field("chain", &self.chain).field("key", &"***").finish()
    }
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
    /// What its code and assets are encrypted with, if they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_key: Option<ContentKey>,
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

/// The first label of the host where a deployment (`dep_…`) answers, whatever the function runs: the slug, two dashes
/// and the id without its prefix. `None` where that would be longer than a label may be (63 bytes).
#[must_use]
pub fn preview_label(deployment: &str, slug: &Slug) -> Option<String> {
    let id = deployment.strip_prefix("dep_").unwrap_or(deployment).to_ascii_lowercase();
    let label = format!("{slug}--{id}");
    (label.len() <= 63).then_some(label)
}
