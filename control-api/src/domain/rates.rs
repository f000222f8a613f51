//! How often one token may be used. Counted in this process.

use std::num::NonZeroU32;

use af_contract::limits;
use governor::clock::{Clock, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};

use super::Error;

/// What may come at once, in seconds' worth of the rate.
const BURST_SECONDS: u32 = 2;

/// Tokens whose use is remembered before those that were not used lately are forgotten. Only good tokens are counted, so
/// there are never more than the database has.
const TOKENS: usize = 10_000;

/// The rates of all tokens.
pub struct Rates {
    limiter: DefaultKeyedRateLimiter<String>,
}

impl Rates {
    /// So many requests a second for each token.
    pub fn new(per_second: NonZeroU32) -> Self {
        let per_second = per_second.min(limits::REQUESTS_PER_SECOND);
        let burst = per_second.saturating_mul(NonZeroU32::MIN.saturating_add(BURST_SECONDS - 1));
        Self { limiter: RateLimiter::keyed(Quota::per_second(per_second).allow_burst(burst)) }
    }

    /// Counts one request.
    ///
    /// # Errors
    /// When the token was used too often.
    pub fn count(&self, token: &str) -> Result<(), Error> {
        if self.limiter.len() > TOKENS {
            self.limiter.retain_recent();
        }
        self.limiter.check_key(&token.to_owned()).map_err(|early| {
            let wait = early.wait_time_from(DefaultClock::default().now());
            Error::RateLimited { retry_after: wait.as_secs() + 1 }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_do_not_share_a_rate() {
        let rates = Rates::new(NonZeroU32::MIN);
        assert!(rates.count("one").is_ok() && rates.count("one").is_ok());
        assert!(matches!(rates.count("one"), Err(Error::RateLimited { retry_after: 1 })));
        assert!(rates.count("two").is_ok());
    }
}
