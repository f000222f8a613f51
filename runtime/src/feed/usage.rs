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
        // One that is of an older version may be of this one tomorrow.
        if error.is_for_good() { Self::ForGood(Box::new(error)) } else { Self::Yet(Box::new(error)) }
    }
}
