//! Everything that is sealed with the master key itself: where its rows are, and for which place each is sealed. Whatever else
//! is sealed with it has to come here, or a rotation loses it.

use crate::domain::{certificates, edges, idempotency, project_keys, signing_keys};
use crate::store::content_keys::{project_keys as sealed_project_keys, replace_project_key};
use crate::store::domains::{certificate_keys, replace_certificate_key};
use crate::store::{self, Connection, StoreError};

/// Rows that are read, and sealed anew in one transaction, which holds up other writers for a few milliseconds.
const BATCH: i64 = 100;

/// The same of answers, of which the longest have four megabytes.
const ANSWERS: i64 = 10;

/// What is sealed with the master key. A row has an id, which is its token and its key for what is kept of requests.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    Project,
    Certificate,
    SigningKey,
    FeedKey,
    Edge,
    Request,
    Answer,
}

impl Kind {
    /// What a rotation begins with.
    pub(super) const FIRST: Self = Self::Project;

    /// What comes after a row, or after the last one.
    pub(super) fn following(self, last: Option<String>) -> Option<(Self, String)> {
        if let Some(last) = last {
            return Some((self, last));
        }
        let next = match self {
            Self::Project => Self::Certificate,
            Self::Certificate => Self::SigningKey,
            Self::SigningKey => Self::FeedKey,
            Self::FeedKey => Self::Edge,
            Self::Edge => Self::Request,
            Self::Request => Self::Answer,
            Self::Answer => return None,
        };
        Some((next, String::new()))
    }

    /// Where a row can be opened.
    pub(super) fn place(self, id: &str) -> Vec<&str> {
        let (token, key) = asked(id);
        match self {
            Self::Project => project_keys::place(id).into(),
            Self::Certificate => certificates::place(id).into(),
            Self::SigningKey => signing_keys::place(id).into(),
            Self::FeedKey => edges::place_of_feed_key(id).into(),
            Self::Edge => edges::place(id).into(),
            Self::Request => idempotency::place_of_request(token, key).into(),
            Self::Answer => idempotency::place(token, key).into(),
        }
    }

    /// What a row is, before its id.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Project => "the key of the project",
            Self::Certificate => "the key of the certificate of the domain",
            Self::SigningKey => "the signing key",
            Self::FeedKey => "the key of",
            Self::Edge => "the token to join of",
            Self::Request => "what is kept of the request of the token and Idempotency-Key",
            Self::Answer => "the answer that is kept for the token and Idempotency-Key",
        }
    }

    /// The next rows, by their ids.
    pub(super) async fn read(
        self,
        db: &mut Connection,
        after: &str,
    ) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        match self {
            Self::Project => sealed_project_keys(db, after, BATCH).await,
            Self::Certificate => certificate_keys(db, after, BATCH).await,
            Self::SigningKey => store::signing_keys::sealed(db, after, BATCH).await,
            Self::FeedKey => store::edges::sealed_feed_keys(db, after, BATCH).await,
            Self::Edge => store::edges::join_secrets(db, after, BATCH).await,
            Self::Request => Ok(named(store::idempotency::fingerprints(db, asked(after), BATCH).await?)),
            Self::Answer => Ok(named(store::idempotency::answers(db, asked(after), ANSWERS).await?)),
        }
    }

    /// The same, sealed otherwise.
    pub(super) async fn write(self, db: &mut Connection, id: &str, sealed: &[u8]) -> Result<(), StoreError> {
        let (token, key) = asked(id);
        match self {
            Self::Project => replace_project_key(db, id, sealed).await,
            Self::Certificate => replace_certificate_key(db, id, sealed).await,
            Self::SigningKey => store::signing_keys::replace(db, id, sealed).await,
            Self::FeedKey => store::edges::replace_feed_key(db, id, sealed).await,
            Self::Edge => store::edges::replace_join_secret(db, id, sealed).await,
            Self::Request => store::idempotency::replace_fingerprint(db, token, key, sealed).await,
            Self::Answer => store::idempotency::replace_answer(db, token, key, sealed).await,
        }
    }
}

/// The inverse of [`asked`].
fn named(rows: Vec<(String, String, Vec<u8>)>) -> Vec<(String, Vec<u8>)> {
    rows.into_iter().map(|(token, key, sealed)| (format!("{token} {key}"), sealed)).collect()
}

/// Whose request it was, and with which key; neither has a space.
fn asked(id: &str) -> (&str, &str) {
    id.split_once(' ').unwrap_or_default()
}
