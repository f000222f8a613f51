//! What edges tell their control plane, and what it has them do: a cluster's way back.

use serde::{Deserialize, Serialize};

use crate::RolloutFailure;
use crate::trigger::{Answered, Tick};

/// Things in one report, of each kind.
pub const REPORTED: usize = 1000;

/// Characters of a reason.
pub const REASON: usize = 500;

/// What happened at an edge, as JSON.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Report {
    /// Deployments that it was told of and has made ready, or could not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub deployments: Vec<DeploymentReport>,
    /// Rollouts that it has stopped.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rollouts: Vec<RolloutFailure>,
    /// Calls that have ended.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub calls: Vec<CallEnd>,
}

/// What has become of a deployment at an edge.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DeploymentReport {
    /// `dep_…`
    pub deployment: String,
    /// Why it cannot be used, at most [`REASON`] characters; none: it answers, or would.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
    /// Whether that may pass: the edge goes on trying.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub may_pass: bool,
}

/// How a call went.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CallEnd {
    /// Of the call.
    pub id: String,
    /// By the function.
    pub answered: Answered,
}

/// An edge asks for work, as JSON.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WorkRequest {
    /// Calls that it was given and whose end it has not reported: any other one that it was given is lost.
    #[serde(default)]
    pub running: Vec<String>,
    /// For so long it waits where there is nothing to do, milliseconds.
    #[serde(default)]
    pub wait_ms: u64,
}

/// What an edge is to do, as JSON within an envelope.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Work {
    /// The newest revision of the feed: what is to be called may be as new as that.
    pub revision: u64,
    /// Functions whose time has come.
    #[serde(default)]
    pub calls: Vec<Call>,
    /// Deployments that nobody has reported on yet.
    #[serde(default)]
    pub awaited: Vec<Awaited>,
}

/// A function is to be called, once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Call {
    /// Of this call.
    pub id: String,
    /// Which function, and for which moment.
    pub tick: Tick,
}

/// What a function runs, and whether anybody can run it is not known yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Awaited {
    /// `fn_…`
    pub function: String,
    /// `dep_…`
    pub deployment: String,
}

impl Report {
    /// Whether there is nothing to tell.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.deployments.is_empty() && self.rollouts.is_empty() && self.calls.is_empty()
    }
}
