//! The rules. Every function first checks that its actor may do this, then decides, then stores.

pub mod access;
pub mod approvals;
pub mod audit;
pub mod blocks;
pub mod bootstrap;
pub mod builds;
pub mod calls;
pub mod certificates;
pub(crate) mod changes;
mod clock;
pub mod component;
pub mod content_keys;
pub mod deployments;
pub mod domains;
pub mod edges;
pub mod entity_tags;
mod error;
pub mod feed;
pub(crate) mod feed_pages;
mod foreign;
pub mod functions;
mod id;
pub mod idempotency;
pub mod idempotency_key;
pub mod invitations;
pub mod jwt;
pub mod key_backup;
pub mod left;
pub mod logins;
pub mod logs;
mod manifests;
pub mod master_key;
pub mod members;
pub mod organizations;
mod pages;
pub mod places;
pub mod plans;
pub mod project_keys;
pub mod projects;
pub mod proof;
pub mod pruning;
pub mod quotas;
pub mod rates;
pub mod reports;
pub mod rollouts;
pub mod rotation;
pub mod scheduler;
pub mod sealing;
pub mod sessions;
pub mod settings;
pub mod signing_keys;
pub mod site_deployments;
pub mod sites;
pub mod standings;
pub mod storage;
mod storage_error;
pub mod storage_upload;
pub mod sweep;
pub mod tokens;
pub mod triggers;
pub mod upload;
mod upload_error;
pub mod usage;
mod used_proofs;
pub mod verification;
pub mod versions;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

pub use self::clock::Clock;
pub use self::error::{Error, Fault};
pub use self::pages::{PAGE, Page, Start};
use self::standings::Standings;
pub use self::storage_error::StorageError;
pub(crate) use crate::app::State;

/// Who asks.
#[derive(Clone, Debug)]
pub struct Actor {
    /// `usr_…`: who shows a token of theirs, or made the project's key that is shown.
    pub user: String,
    /// The token that was shown.
    pub token: String,
    /// What is known of the secret that was shown.
    pub shown: tokens::Shown,
    /// What it may do, of what its owner may.
    pub grant: access::Grant,
    /// The request by which they ask.
    pub call: Call,
    /// The project that requests are about which do not say, where a session says it.
    pub about: Option<String>,
}

impl Actor {
    /// Who does something without a token: a part of the platform, which no user is, or the operator at the server itself.
    pub(crate) fn without_token(user: &str) -> Self {
        Self {
            user: user.to_owned(),
            token: String::new(),
            shown: tokens::Shown::default(),
            grant: access::Grant::default(),
            call: Call::default(),
            about: None,
        }
    }
}

/// A request, as far as rules must know it.
#[derive(Clone, Debug, Default)]
pub struct Call {
    /// Where it comes from.
    pub address: Option<IpAddr>,
    /// Its id in logs.
    pub request: Option<String>,
    /// What it tries to do, NOUN.VERB, where its address says it.
    pub action: Option<Arc<str>>,
    /// Entity tags, of which what it changes must have one.
    pub if_match: Option<String>,
    /// What is left of the rates that it was counted by.
    pub standings: Standings,
    /// Organizations that it was counted for.
    pub counted: plans::rate::Counted,
    /// Its token and user were counted already.
    pub is_counted: bool,
}

/// Milliseconds since 1970 UTC.
fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
