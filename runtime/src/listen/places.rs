//! Places for connections: so many in all, and so many for one client.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};

use super::TrustedProxies;

/// All places. Cheap to clone.
#[derive(Clone)]
pub struct Places {
    all: Arc<Semaphore>,
    clients: Arc<Clients>,
    trusted: TrustedProxies,
}

/// How many places each client has. It has no more entries than there are places.
struct Clients {
    most: usize,
    open: Mutex<HashMap<Client, usize>>,
}

/// Who is held to be one client: an IPv4 address, or an IPv6 network of 64 bits, which is what one household gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Client(u64);

impl From<IpAddr> for Client {
    fn from(address: IpAddr) -> Self {
        match address.to_canonical() {
            // No such network is given to anybody: ::/64 is for special addresses.
            IpAddr::V4(address) => Self(u64::from(u32::from(address))),
            IpAddr::V6(address) => Self(network(address)),
        }
    }
}

impl Client {
    /// The same for this client on every node.
    #[must_use]
    pub fn key(self) -> [u8; 8] {
        self.0.to_be_bytes()
    }
}

fn network(address: Ipv6Addr) -> u64 {
    let [a, b, c, d, ..] = address.segments();
    [a, b, c, d].into_iter().fold(0, |all, segment| (all << 16) | u64::from(segment))
}

/// A connection's place; free again when this is dropped.
pub struct Place {
    /// A trusted proxy brings many clients, so it is not counted as one.
    client: Option<Client>,
    clients: Arc<Clients>,
    _permit: OwnedSemaphorePermit,
}

impl Places {
    /// So many in all, and of them so many for one client that is no trusted proxy.
    pub fn new(all: usize, client: usize, trusted: TrustedProxies) -> Self {
        let clients = Clients { most: client, open: Mutex::default() };
        Self { all: Arc::new(Semaphore::new(all)), clients: Arc::new(clients), trusted }
    }

    /// Waits until there is one for anybody.
    pub async fn any(&self) -> Result<OwnedSemaphorePermit, AcquireError> {
        self.all.clone().acquire_owned().await
    }

    /// Gives it to a client, unless that has too many.
    pub fn give(&self, permit: OwnedSemaphorePermit, address: IpAddr) -> Option<Place> {
        if self.trusted.contains(address) {
            return Some(Place { client: None, clients: self.clients.clone(), _permit: permit });
        }
        let client = Client::from(address);
        let mut open = self.clients.open();
        let count = open.entry(client).or_default();
        if *count >= self.clients.most {
            return None;
        }
        *count += 1;
        drop(open);
        Some(Place { client: Some(client), clients: self.clients.clone(), _permit: permit })
    }
}

impl Clients {
    fn open(&self) -> MutexGuard<'_, HashMap<Client, usize>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some(client) = &self.client else { return };
        let mut open = self.clients.open();
        if let Some(count) = open.get_mut(client) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                open.remove(client);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_client_has_no_more_than_its_share() {
        let places = Places::new(4, 2, TrustedProxies::default());
        let address: IpAddr = "2001:db8:1:2::1".parse().unwrap();
        let neighbour: IpAddr = "2001:db8:1:2:ffff::9".parse().unwrap();
        let other: IpAddr = "2001:db8:1:3::1".parse().unwrap();
        let first = places.give(places.any().await.unwrap(), address);
        let second = places.give(places.any().await.unwrap(), neighbour);
        assert!(first.is_some() && second.is_some());
        assert!(places.give(places.any().await.unwrap(), address).is_none());
        assert!(places.give(places.any().await.unwrap(), other).is_some());
        drop(first);
        assert!(places.give(places.any().await.unwrap(), address).is_some());
        drop(second);
        assert!(places.clients.open().is_empty());
        assert_eq!(places.all.available_permits(), 4);
    }

    #[tokio::test]
    async fn a_trusted_proxy_brings_many_clients() {
        let places = Places::new(4, 1, TrustedProxies::new(&["10.0.0.0/8".parse().unwrap()]));
        let proxy: IpAddr = "10.1.2.3".parse().unwrap();
        let first = places.give(places.any().await.unwrap(), proxy);
        assert!(first.is_some() && places.give(places.any().await.unwrap(), proxy).is_some());
    }

    #[test]
    fn ipv4_is_the_same_in_both_writings() {
        let plain: IpAddr = "192.0.2.1".parse().unwrap();
        let mapped: IpAddr = "::ffff:192.0.2.1".parse().unwrap();
        assert_eq!(Client::from(plain), Client::from(mapped));
    }
}
