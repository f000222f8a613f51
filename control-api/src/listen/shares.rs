//! How many connections one client may have, so that nobody takes the places of all others.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::domain::rates::network;
use crate::places::{Place, Places};

/// Connections of one IPv4 address or IPv6 network of 64 bits: those of 250 edges behind it.
const EACH: usize = 500;

/// What is open, by clients. Trusted proxies, and this machine, bring many clients and are not counted.
pub(super) struct Shares {
    open: Places,
    trusted: Vec<IpNet>,
}

/// A connection's part of its client's share; given back when this is dropped.
pub(super) struct Share {
    _place: Option<Place>,
}

impl Shares {
    /// Of so many connections in all.
    pub fn new(all: usize, trusted: Vec<IpNet>) -> Self {
        Self { open: Places::new(EACH, all), trusted }
    }

    /// `None`: this client has as many connections as one may have.
    pub fn take(&self, peer: IpAddr) -> Option<Share> {
        let peer = peer.to_canonical();
        let is_trusted = self.trusted.iter().any(|network| network.contains(&peer));
        match network(peer).filter(|_| !is_trusted) {
            None => Some(Share { _place: None }),
            Some(client) => Some(Share { _place: Some(self.open.take(&client.to_string())?) }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_client_has_its_share_and_no_more() {
        let shares = Shares::new(2 * EACH, vec!["10.0.0.0/8".parse().unwrap()]);
        let mut taken: Vec<Option<Share>> =
            (0..EACH).map(|host| shares.take(address(&format!("2001:db8:1:2::{host:x}")))).collect();
        assert!(taken.iter().all(Option::is_some));
        assert!(shares.take(address("2001:db8:1:2:ffff::1")).is_none());
        assert!(shares.take(address("2001:db8:1:3::1")).is_some());
        assert!(shares.take(address("::ffff:192.0.2.1")).is_some());
        taken.pop();
        assert!(shares.take(address("2001:db8:1:2:ffff::1")).is_some());
    }

    #[test]
    fn proxies_that_are_trusted_and_this_machine_are_not_counted() {
        let shares = Shares::new(EACH, vec!["10.0.0.0/8".parse().unwrap()]);
        for peer in ["10.1.2.3", "::ffff:10.1.2.3", "127.0.0.1", "::1"] {
            let taken: Vec<Option<Share>> = (0..=EACH).map(|_| shares.take(address(peer))).collect();
            assert!(taken.iter().all(Option::is_some), "{peer}");
        }
    }
}
