//! What a control API can answer instead of a result, and the exit code that it means.

use std::process::ExitCode;

use af_contract::Problem;
use reqwest::StatusCode;

/// A request was not done.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// The control API says why.
    #[error("{} [{}, request {}]", .0.detail, .0.code, .0.request_id)]
    Problem(Box<Problem>),
    /// No token.
    #[error("you are not signed in; run `af login`, or set AF_TOKEN")]
    SignedOut,
    /// The user has no project, or several.
    #[error("say which project to work in with AF_PROJECT_ID; yours are: {}", .0.join(", "))]
    Project(Vec<String>),
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
            Self::SignedOut | Self::Project(_) => false,
        }
    }

    /// Stable, for programs.
    pub fn code(&self) -> &str {
        match self {
            Self::Problem(problem) => &problem.code,
            Self::SignedOut => "signed_out",
            Self::Project(_) => "project_unknown",
            Self::Unreachable { .. } | Self::Status { .. } => "unreachable",
        }
    }
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
