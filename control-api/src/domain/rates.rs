//! How often one address, user and token may ask. Counted in this process (GCRA).

use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::time::Duration;

use af_contract::limits;
use governor::clock::{Clock, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use moka::sync::Cache;

use super::{Actor, Error};

/// What may come at once, in seconds' worth of the rate.
const BURST_SECONDS: u32 = 2;

/// A user's tokens together may be used as often as so many of them.
const TOKENS_OF_USER: NonZeroU32 = NonZeroU32::MIN.saturating_add(3);

/// An address may ask as often as so many tokens: offices and build machines share theirs.
const TOKENS_OF_ADDRESS: NonZeroU32 = NonZeroU32::MIN.saturating_add(9);

/// Tokens that are none, of one address: so many at once, and in a minute. A secret has 190 bits, so this is not what
/// keeps guessers out; it keeps them from making work.
const FAILURES: NonZeroU32 = NonZeroU32::MIN.saturating_add(29);

/// An address with more of them than that is refused for so long.
const PENANCE: Duration = Duration::from_secs(60);

/// Refusals of one token that the audit log gets in a minute, and at once.
const REFUSALS: NonZeroU32 = NonZeroU32::MIN.saturating_add(29);

/// Keys of one kind that are remembered before those that were not used lately are forgotten.
const REMEMBERED: usize = 10_000;

/// All rates.
pub struct Rates {
    tokens: DefaultKeyedRateLimiter<String>,
    users: DefaultKeyedRateLimiter<String>,
    addresses: DefaultKeyedRateLimiter<IpAddr>,
    failures: DefaultKeyedRateLimiter<IpAddr>,
    refusals: DefaultKeyedRateLimiter<String>,
    guessers: Cache<IpAddr, ()>,
}

impl Rates {
    /// So many requests a second for each token.
    pub fn new(per_second: NonZeroU32) -> Self {
        let per_second = per_second.min(limits::REQUESTS_PER_SECOND);
        let guessers = Cache::builder().max_capacity(REMEMBERED as u64).time_to_live(PENANCE).build();
        Self {
            tokens: RateLimiter::keyed(quota(per_second)),
            users: RateLimiter::keyed(quota(per_second.saturating_mul(TOKENS_OF_USER))),
            addresses: RateLimiter::keyed(quota(per_second.saturating_mul(TOKENS_OF_ADDRESS))),
            failures: RateLimiter::keyed(Quota::per_minute(FAILURES)),
            refusals: RateLimiter::keyed(Quota::per_minute(REFUSALS)),
            guessers,
        }
    }

    /// Counts one request of an address, before anybody knows whose it is.
    ///
    /// # Errors
    /// When it sends too many, or showed too many tokens that are none.
    pub fn address(&self, address: IpAddr) -> Result<(), Error> {
        let Some(address) = network(address) else { return Ok(()) };
        if self.guessers.contains_key(&address) {
            return Err(guessed());
        }
        check(&self.addresses, &address)
            .map_err(|seconds| Error::RateLimited { whose: "address", retry_after: seconds })
    }

    /// Counts a token that is none.
    ///
    /// # Errors
    /// When there were too many of them.
    pub fn failed(&self, address: IpAddr) -> Result<(), Error> {
        let Some(address) = network(address) else { return Ok(()) };
        check(&self.failures, &address).map_err(|_| {
            self.guessers.insert(address, ());
            guessed()
        })
    }

    /// Counts one request of a token, and of its user.
    ///
    /// # Errors
    /// When either was used too often.
    pub fn count(&self, actor: &Actor) -> Result<(), Error> {
        for (limiter, key, whose) in
            [(&self.tokens, &actor.token, "token"), (&self.users, &actor.user, "user")]
        {
            check(limiter, key).map_err(|seconds| Error::RateLimited { whose, retry_after: seconds })?;
        }
        Ok(())
    }

    /// Whether what a token was refused is to be written down.
    pub fn is_noted(&self, token: &str) -> bool {
        check(&self.refusals, &token.to_owned()).is_ok()
    }
}

fn quota(per_second: NonZeroU32) -> Quota {
    let burst = per_second.saturating_mul(NonZeroU32::MIN.saturating_add(BURST_SECONDS - 1));
    Quota::per_second(per_second).allow_burst(burst)
}

fn guessed() -> Error {
    let detail =
        "too many tokens from this address were none; sign in again, and come back in a minute".to_owned();
    Error::Limit { code: "too_many_failures", detail, seconds: PENANCE.as_secs() }
}

/// Seconds to wait, where it is too early.
fn check<K: Clone + Eq + Hash>(limiter: &DefaultKeyedRateLimiter<K>, key: &K) -> Result<(), u64> {
    if limiter.len() > REMEMBERED {
        limiter.retain_recent();
    }
    limiter.check_key(key).map_err(|early| early.wait_time_from(DefaultClock::default().now()).as_secs() + 1)
}

/// Who is counted as one: an IPv4 address, or an IPv6 network of 64 bits. This machine is not counted: behind a proxy here
/// that is not trusted to say more, it is everybody.
pub(crate) fn network(address: IpAddr) -> Option<IpAddr> {
    match address.to_canonical() {
        address if address.is_loopback() => None,
        IpAddr::V6(address) => Some(Ipv6Addr::from_bits(address.to_bits() & (!0 << 64)).into()),
        address => Some(address),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Call;

    fn actor(user: &str, token: &str) -> Actor {
        Actor {
            user: user.into(),
            token: token.into(),
            grant: Default::default(),
            call: Call::default(),
            about: None,
        }
    }

    #[test]
    fn tokens_do_not_share_a_rate_but_their_users_do() {
        let rates = Rates::new(NonZeroU32::MIN);
        let one = actor("usr_1", "one");
        assert!(rates.count(&one).is_ok() && rates.count(&one).is_ok());
        assert!(matches!(rates.count(&one), Err(Error::RateLimited { whose: "token", retry_after: 1 })));
        assert!(rates.count(&actor("usr_2", "two")).is_ok());
        for number in 0..6 {
            assert!(rates.count(&actor("usr_1", &number.to_string())).is_ok(), "{number}");
        }
        let another = rates.count(&actor("usr_1", "another"));
        assert!(matches!(another, Err(Error::RateLimited { whose: "user", .. })));
    }

    #[test]
    fn networks_share_a_rate_and_this_machine_has_none() {
        let rates = Rates::new(NonZeroU32::MIN);
        let address = |text: &str| rates.address(text.parse().unwrap());
        for number in 0..20 {
            assert!(address(&format!("2001:db8::{number}")).is_ok());
        }
        assert!(matches!(address("2001:db8::ffff"), Err(Error::RateLimited { whose: "address", .. })));
        assert!(address("2001:db8:0:1::1").is_ok());
        assert!((0..1000).all(|_| address("127.0.0.1").is_ok() && address("::ffff:127.0.0.1").is_ok()));
    }

    #[test]
    fn whoever_guesses_is_refused_before_anything_is_looked_up() {
        let rates = Rates::new(limits::REQUESTS_PER_SECOND);
        let address = "192.0.2.1".parse().unwrap();
        for _ in 0..FAILURES.get() {
            assert!(rates.failed(address).is_ok() && rates.address(address).is_ok());
        }
        assert!(matches!(rates.failed(address), Err(Error::Limit { code: "too_many_failures", .. })));
        assert!(rates.address(address).is_err() && rates.address("192.0.2.2".parse().unwrap()).is_ok());
    }
}
