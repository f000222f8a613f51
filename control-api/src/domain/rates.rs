//! How often one address, user, token and organization may ask: GCRA, counted in this process, or together with other servers.

use std::convert::Infallible;
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use af_contract::limits;
use governor::clock::{Clock, DefaultClock};
use governor::middleware::StateInformationMiddleware;
use governor::state::keyed::DefaultKeyedStateStore;
use governor::{Quota, RateLimiter};
use moka::sync::Cache;

use super::standings::{Standing, Standings};
use super::{Actor, Error};
use crate::redis::SharedRates;

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

/// Terminals that ask to be signed in, of one address: so many at once, and in a minute.
const LOGINS: NonZeroU32 = NonZeroU32::MIN.saturating_add(59);

/// The same of all networks that one customer of a provider may have.
const LOGINS_OF_PREFIX: NonZeroU32 = NonZeroU32::MIN.saturating_add(239);

/// Seconds that a plan counts by.
const MINUTE: u32 = 60;

/// Rates of plans that are counted by in this process; those that were not used lately are forgotten.
const PLAN_RATES: u64 = 1_000;

/// Keys of one kind that are remembered before those that were not used lately are forgotten.
const REMEMBERED: usize = 10_000;

/// What is counted. The name is part of the keys in a shared store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counted {
    /// Requests of an address.
    Addresses,
    /// Tokens that are none, shown by an address.
    Failures,
    /// Tokens that are none, of which an address asks what they are good for.
    Inspections,
    /// Terminals that ask to be signed in, of an address.
    Logins,
    /// The same of a prefix.
    LoginsOfPrefix,
    /// Requests with a token.
    Tokens,
    /// Requests of a user.
    Users,
    /// What a token was refused, in the audit log.
    Refusals,
    /// Requests about an organization, whose plan says how many.
    Organizations,
}

/// One more of something.
#[derive(Clone, Copy, Debug)]
pub struct Cell<'k> {
    /// Of what.
    pub counted: Counted,
    /// Whose: an address or an id.
    pub key: &'k str,
    /// How often that may be.
    pub quota: Quota,
}

/// It is too early for one of the cells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Early {
    /// Which of them, from 0.
    pub cell: usize,
    /// Until it is not.
    pub wait: Duration,
}

/// Counts by the generic cell rate algorithm.
pub trait Limiter {
    /// Why it cannot be asked now.
    type Away;

    /// Takes all cells, or none where it is too early for one; then the first such is told. In memory, those before that one
    /// are taken, too. Answers how many more of each could be taken now.
    fn take(
        &self,
        cells: &[Cell<'_>],
    ) -> impl Future<Output = Result<Result<Vec<u32>, Early>, Self::Away>> + Send;
}

/// All rates.
pub struct Rates {
    memory: Memory,
    /// What other servers count with, too. While it is away, this process counts alone: whoever asks is neither let in
    /// without being counted nor kept out.
    shared: Option<Arc<SharedRates>>,
    tokens: Quota,
    users: Quota,
    addresses: Quota,
    guessers: Cache<IpAddr, ()>,
}

impl Rates {
    /// So many requests a second for each token.
    pub fn new(per_second: NonZeroU32, shared: Option<Arc<SharedRates>>) -> Self {
        let per_second = per_second.min(limits::REQUESTS_PER_SECOND);
        let guessers = Cache::builder().max_capacity(REMEMBERED as u64).time_to_live(PENANCE).build();
        let tokens = quota(per_second);
        let users = quota(per_second.saturating_mul(TOKENS_OF_USER));
        let addresses = quota(per_second.saturating_mul(TOKENS_OF_ADDRESS));
        Self { memory: Memory::new(tokens, users, addresses), shared, tokens, users, addresses, guessers }
    }

    /// Counts one request of an address, before anybody knows whose it is.
    ///
    /// # Errors
    /// When it sends too many, or showed too many tokens that are none.
    pub async fn address(&self, address: IpAddr, standings: &Standings) -> Result<(), Error> {
        let Some(address) = network(address) else { return Ok(()) };
        if self.guessers.contains_key(&address) {
            return Err(guessed());
        }
        let key = address.to_string();
        let cells = [Cell { counted: Counted::Addresses, key: &key, quota: self.addresses }];
        self.take_and_note(&cells, ["address"], standings).await
    }

    /// Counts a token that is none.
    ///
    /// # Errors
    /// When there were too many of them.
    pub async fn failed(&self, address: IpAddr) -> Result<(), Error> {
        let Some(address) = network(address) else { return Ok(()) };
        let (key, quota) = (address.to_string(), Quota::per_minute(FAILURES));
        let taken = self.take(&[Cell { counted: Counted::Failures, key: &key, quota }]).await;
        taken.map(drop).map_err(|_| {
            self.guessers.insert(address, ());
            guessed()
        })
    }

    /// Counts a token that is none, of which somebody asks who shows none of their own. It was shown to them by somebody else: nothing
    /// but such questions is refused then.
    ///
    /// # Errors
    /// When there were too many of them.
    pub async fn inspected(&self, address: IpAddr) -> Result<(), Error> {
        let Some(address) = network(address) else { return Ok(()) };
        let (key, quota) = (address.to_string(), Quota::per_minute(FAILURES));
        let taken = self.take(&[Cell { counted: Counted::Inspections, key: &key, quota }]).await;
        taken.map(drop).map_err(|early| early.error("address"))
    }

    /// Counts a terminal that asks to be signed in.
    ///
    /// # Errors
    /// When too many of its address or its prefix do.
    pub async fn login(&self, address: IpAddr) -> Result<(), Error> {
        let (Some(network), Some(prefix)) = (network(address), prefix(address)) else { return Ok(()) };
        let (network, prefix) = (network.to_string(), prefix.to_string());
        let cells = [
            Cell { counted: Counted::Logins, key: &network, quota: Quota::per_minute(LOGINS) },
            Cell {
                counted: Counted::LoginsOfPrefix,
                key: &prefix,
                quota: Quota::per_minute(LOGINS_OF_PREFIX),
            },
        ];
        self.take(&cells).await.map(drop).map_err(|early| early.error("address"))
    }

    /// Counts one request of a token, and of its user.
    ///
    /// # Errors
    /// When either was used too often.
    pub async fn count(&self, actor: &Actor) -> Result<(), Error> {
        let cells = [
            Cell { counted: Counted::Tokens, key: &actor.token, quota: self.tokens },
            Cell { counted: Counted::Users, key: &actor.user, quota: self.users },
        ];
        self.take_and_note(&cells, ["token", "user"], &actor.call.standings).await
    }

    /// Counts one request about an organization, whose plan allows so many in a minute, all of them at once.
    ///
    /// # Errors
    /// When there were too many.
    pub async fn organization(&self, id: &str, per_minute: i64, standings: &Standings) -> Result<(), Error> {
        let most = u32::try_from(per_minute).ok().and_then(NonZeroU32::new).unwrap_or(NonZeroU32::MIN);
        let quota = Quota::per_minute(most);
        let cells = [Cell { counted: Counted::Organizations, key: id, quota }];
        self.take_and_note(&cells, ["organization"], standings).await
    }

    /// Whether what a token was refused is to be written down.
    pub async fn is_noted(&self, token: &str) -> bool {
        let quota = Quota::per_minute(REFUSALS);
        self.take(&[Cell { counted: Counted::Refusals, key: token, quota }]).await.is_ok()
    }

    /// Where one is refused, that one is all that is noted.
    async fn take_and_note<const N: usize>(
        &self,
        cells: &[Cell<'_>; N],
        whose: [&'static str; N],
        standings: &Standings,
    ) -> Result<(), Error> {
        let named = cells.iter().zip(whose);
        match self.take(cells).await {
            Ok(left) => {
                named.zip(left).for_each(|((cell, whose), left)| standings.note(cell.standing(whose, left)));
                Ok(())
            }
            Err(early) => {
                // There is one: a limiter answers of the cells that it was asked for.
                let Some((cell, whose)) = named.into_iter().nth(early.cell) else {
                    return Err(early.error("token"));
                };
                standings.note(Standing { reset: early.seconds(), ..cell.standing(whose, 0) });
                Err(early.error(whose))
            }
        }
    }

    async fn take(&self, cells: &[Cell<'_>]) -> Result<Vec<u32>, Early> {
        if let Some(shared) = &self.shared
            && let Ok(taken) = Box::pin(shared.take(cells)).await
        {
            return taken;
        }
        let Ok(taken) = self.memory.take(cells).await;
        taken
    }
}

impl Early {
    fn seconds(self) -> u64 {
        self.wait.as_secs() + 1
    }

    fn error(self, whose: &'static str) -> Error {
        Error::RateLimited { whose, retry_after: self.seconds() }
    }
}

impl Cell<'_> {
    fn standing(&self, whose: &'static str, remaining: u32) -> Standing {
        let quota = self.quota.burst_size().get();
        let window = match self.counted {
            Counted::Organizations => MINUTE,
            _ => BURST_SECONDS,
        };
        let missing = u64::from(quota.saturating_sub(remaining));
        let reset = (missing * u64::from(window)).div_ceil(u64::from(quota.max(1)));
        Standing { whose, quota, window, remaining, reset }
    }
}

type Keyed = RateLimiter<String, DefaultKeyedStateStore<String>, DefaultClock, StateInformationMiddleware>;

/// Counts in this process.
struct Memory {
    addresses: Keyed,
    failures: Keyed,
    inspections: Keyed,
    logins: Keyed,
    logins_of_prefix: Keyed,
    tokens: Keyed,
    users: Keyed,
    refusals: Keyed,
    /// By how many there may be: each limiter has one quota.
    organizations: Cache<u32, Arc<Keyed>>,
}

impl Memory {
    fn new(tokens: Quota, users: Quota, addresses: Quota) -> Self {
        Self {
            addresses: keyed(addresses),
            failures: keyed(Quota::per_minute(FAILURES)),
            inspections: keyed(Quota::per_minute(FAILURES)),
            logins: keyed(Quota::per_minute(LOGINS)),
            logins_of_prefix: keyed(Quota::per_minute(LOGINS_OF_PREFIX)),
            tokens: keyed(tokens),
            users: keyed(users),
            refusals: keyed(Quota::per_minute(REFUSALS)),
            organizations: Cache::builder().max_capacity(PLAN_RATES).build(),
        }
    }

    fn check(&self, cells: &[Cell<'_>]) -> Result<Vec<u32>, Early> {
        let mut left = Vec::with_capacity(cells.len());
        for (cell, taken) in cells.iter().enumerate() {
            let of_plan;
            let limiter = match taken.counted {
                Counted::Addresses => &self.addresses,
                Counted::Failures => &self.failures,
                Counted::Inspections => &self.inspections,
                Counted::Logins => &self.logins,
                Counted::LoginsOfPrefix => &self.logins_of_prefix,
                Counted::Tokens => &self.tokens,
                Counted::Users => &self.users,
                Counted::Refusals => &self.refusals,
                Counted::Organizations => {
                    let make = || Arc::new(keyed(taken.quota));
                    of_plan = self.organizations.get_with(taken.quota.burst_size().get(), make);
                    &of_plan
                }
            };
            if limiter.len() > REMEMBERED {
                limiter.retain_recent();
            }
            let checked = limiter.check_key(&taken.key.to_owned());
            let now = || DefaultClock::default().now();
            let state = checked.map_err(|early| Early { cell, wait: early.wait_time_from(now()) })?;
            left.push(state.remaining_burst_capacity());
        }
        Ok(left)
    }
}

impl Limiter for Memory {
    type Away = Infallible;

    async fn take(&self, cells: &[Cell<'_>]) -> Result<Result<Vec<u32>, Early>, Infallible> {
        Ok(self.check(cells))
    }
}

fn keyed(quota: Quota) -> Keyed {
    RateLimiter::keyed(quota).with_middleware()
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

/// Who is counted as one: an IPv4 address, or an IPv6 network of 64 bits. This machine is not counted: behind a proxy here
/// that is not trusted to say more, it is everybody.
pub(crate) fn network(address: IpAddr) -> Option<IpAddr> {
    cut(address, 64)
}

/// Who may be one, too: an IPv4 address, or an IPv6 network of 48 bits, which is what providers give to a site (RFC 6177), with
/// 65,536 of the other ones.
pub(crate) fn prefix(address: IpAddr) -> Option<IpAddr> {
    cut(address, 48)
}

fn cut(address: IpAddr, bits: u32) -> Option<IpAddr> {
    match address.to_canonical() {
        address if address.is_loopback() => None,
        IpAddr::V6(address) => Some(Ipv6Addr::from_bits(address.to_bits() & (!0 << (128 - bits))).into()),
        address => Some(address),
    }
}
