//! What functions use here, as the control plane is told it.

use std::sync::Arc;

use af_contract::edge::{UsageBatch, UsageTaken};
use futures::future::BoxFuture;

use super::FeedError;
use super::client::Client;
use crate::usage::{Refused, Taker};

/// Tells the control plane.
pub struct Told(pub Arc<Client>);

impl Taker for Told {
    fn take(&self, batch: UsageBatch) -> BoxFuture<'static, Result<UsageTaken, Refused>> {
        let client = self.0.clone();
        Box::pin(async move { client.usage(&batch).await.map_err(Refused::from) })
    }
}

impl From<FeedError> for Refused {
    fn from(error: FeedError) -> Self {
        match error {
            FeedError::Refused { status: 401, .. } => Self::Stranger(Box::new(error)),
            error if error.is_for_good() => Self::ForGood(Box::new(error)),
            // One that is of an older version may be of this one tomorrow.
            error => Self::Yet(Box::new(error)),
        }
    }
}
