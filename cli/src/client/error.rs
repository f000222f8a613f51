//! What a control API can answer instead of a result, and the exit code that it means.

use std::process::ExitCode;

use af_contract::Problem;
use reqwest::StatusCode;
use serde_json::{Map, Value, json};

/// A request was not done.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// The control API says why.
    #[error("{} [{}, request {}]", .0.detail, .0.code, .0.request_id)]
    Problem(Box<Problem>),
    /// No token.
    #[error("you are not signed in; run `af login`, or set AF_TOKEN")]
    SignedOut,
    /// The user has several projects.
    #[error("say which project to work in with AF_PROJECT_ID; yours are: {}", .0.join(", "))]
    Project(Vec<String>),
    /// The user has none.
    #[error(
        "you have no project yet; make one with `af projects create --name NAME`, or ask a member of one to invite you and join it \
         with `af join CODE`"
    )]
    NoProject,
    /// What was given as an id or a name is a path.
    #[error(
        "what was given as an id or a name is a path; lists, such as `af projects list`, show the ids that there are"
    )]
    NoId,
    /// No connection, or it broke.
    #[error("cannot talk to the control API at {url}; is it running? (`af up` runs one on this machine)")]
    Unreachable {
        /// Where.
        url: String,
        /// Why.
        source: reqwest::Error,
    },
    /// Something that is no control API.
    #[error("{url} answered with status {status} and no explanation; is it a control API?")]
    Status {
        /// Where.
        url: String,
        /// What it said.
        status: u16,
    },
}

impl ApiError {
    /// Whether the same request may be answered later: nobody answers, or who does is too busy or being started.
    pub fn may_pass(&self) -> bool {
        let busy = |status: u16| status >= 500 || status == StatusCode::TOO_MANY_REQUESTS.as_u16();
        match self {
            Self::Unreachable { .. } => true,
            Self::Status { status, .. } => busy(*status),
            Self::Problem(problem) => busy(problem.status),
            Self::SignedOut | Self::Project(_) | Self::NoProject | Self::NoId => false,
        }
    }

    /// Stable, for programs.
    pub fn code(&self) -> &str {
        match self {
            Self::Problem(problem) => &problem.code,
            Self::SignedOut => "signed_out",
            Self::Project(_) => "project_unknown",
            Self::NoProject => "no_project",
            Self::NoId => "no_id",
            Self::Unreachable { .. } | Self::Status { .. } => "unreachable",
        }
    }

    /// What programs are told besides: the status and the request's id of what the control API refused, with the members of its
    /// problem document, or the projects to choose from.
    fn about(&self) -> Map<String, Value> {
        match self {
            Self::Problem(problem) => {
                let mut about = problem.more.clone();
                about.insert("status".into(), problem.status.into());
                about.insert("requestId".into(), problem.request_id.as_str().into());
                about
            }
            Self::Project(ids) => Map::from_iter([("projectIds".to_owned(), json!(ids))]),
            Self::Status { status, .. } => Map::from_iter([("status".to_owned(), (*status).into())]),
            Self::SignedOut | Self::NoProject | Self::NoId | Self::Unreachable { .. } => Map::new(),
        }
    }
}

/// What this client itself finds, or adds to an error: a sentence for people, and for programs a code and what it is about.
#[derive(Debug, thiserror::Error)]
#[error("{detail}")]
pub struct Finding {
    code: String,
    detail: String,
    about: Map<String, Value>,
    /// Lines for people, before the error itself.
    table: String,
}

impl Finding {
    pub fn new(code: &str, detail: impl Into<String>) -> Self {
        Self { code: code.to_owned(), detail: detail.into(), about: Map::new(), table: String::new() }
    }

    pub fn code(&self) -> &str {
        &self.code
    }

    /// Names what it is about, such as `deploymentId`.
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.about.insert(name.to_owned(), value.into());
        self
    }

    /// Says more to people, before the error itself.
    pub fn with_table(mut self, table: String) -> Self {
        self.table = table;
        self
    }

    /// What people see before the error; may be empty.
    pub fn table(&self) -> &str {
        &self.table
    }
}

/// An error as `--json` shows it: `code` (the control API's, where it refused something), `detail`, and what else is known.
pub fn described(error: &anyhow::Error) -> Value {
    let api = error.downcast_ref::<ApiError>();
    let found = error.downcast_ref::<Finding>();
    let mut fields = found.map(|found| found.about.clone()).unwrap_or_default();
    fields.extend(api.map(ApiError::about).unwrap_or_default());
    let code = api.map(ApiError::code).or(found.map(|found| found.code.as_str())).unwrap_or("failed");
    fields.insert("code".into(), code.into());
    fields.insert("detail".into(), format!("{error:#}").into());
    json!({ "error": fields })
}

/// As `af --help` lists them.
pub fn exit_code(error: &anyhow::Error) -> ExitCode {
    match error.downcast_ref::<ApiError>() {
        Some(ApiError::SignedOut) => ExitCode::from(3),
        Some(ApiError::Problem(problem)) if problem.status == 401 => ExitCode::from(3),
        Some(ApiError::Unreachable { .. } | ApiError::Status { .. }) => ExitCode::from(4),
        _ => ExitCode::FAILURE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_get_the_servers_code_and_what_the_error_is_about() {
        let problem = Problem::new(409, "Conflict", "rollout_running", "no".into(), "01").with("slug", "a");
        let refused = anyhow::Error::new(ApiError::Problem(Box::new(problem)));
        let refused = refused.context(Finding::new("ours", "not done").with("deploymentId", "dep_1"));
        let told = json!({ "error": { "code": "rollout_running", "status": 409, "requestId": "01", "slug": "a",
            "deploymentId": "dep_1", "detail": "not done: no [rollout_running, request 01]" } });
        assert_eq!(described(&refused), told);
        let own =
            anyhow::Error::new(Finding::new("awaiting_approval", "it waits").with("deploymentId", "dep_1"));
        let own = own.context("a sentence about it");
        assert_eq!(described(&own)["error"]["code"], "awaiting_approval");
        assert_eq!(described(&own)["error"]["deploymentId"], "dep_1");
        assert_eq!(
            described(&anyhow::anyhow!("what"))["error"],
            json!({ "code": "failed", "detail": "what" })
        );
    }
}
