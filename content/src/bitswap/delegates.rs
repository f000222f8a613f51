//! Peers that somebody else names, such as a pinning service that is to get blocks from here. It can name any address, so each is
//! judged before a connection is made.

use std::fmt;
use std::time::Duration;

use tokio::sync::mpsc;
use tracing::debug;

use super::PeerAddress;
use super::transport::Target;
use crate::source::Allowed;

/// Addresses taken of one list; the pinning API allows as many.
const MOST: usize = 20;

/// For the DNS, and for the node to take one.
const TIME: Duration = Duration::from_secs(5);

/// Has a node connect with peers that somebody names.
#[derive(Clone)]
pub struct Delegates {
    pub(super) dials: mpsc::Sender<PeerAddress>,
    pub(super) allowed: Allowed,
}

impl Delegates {
    /// Has the node dial those that are TCP addresses with a peer's id, are allowed, and are not connected. Nothing is said of
    /// those that cannot be reached but in the log.
    pub async fn connect(&self, addresses: Vec<String>) {
        for text in addresses.iter().take(MOST) {
            let Ok(named) = text.parse::<PeerAddress>() else { continue };
            let Some(target) = Target::parse(&named.address) else { continue };
            let found = tokio::time::timeout(TIME, target.resolve()).await.ok().and_then(Result::ok);
            let allowed = found.unwrap_or_default().into_iter().find(|address| (self.allowed)(address.ip()));
            let Some(address) = allowed else {
                debug!(address = text, "a peer that was named means no address that may be asked");
                continue;
            };
            let address = super::transport::multiaddr(address);
            let dial = PeerAddress { peer: named.peer, address };
            // It is named again while it has not all blocks.
            if tokio::time::timeout(TIME, self.dials.send(dial)).await.is_err() {
                return;
            }
        }
    }
}

impl fmt::Debug for Delegates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("delegates")
    }
}
