//! Rates that several servers share, in Redis: one script, one round trip.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, Client, ConnectionInfo, ErrorKind, IntoConnectionInfo, RedisError, Script,
};
use tokio::sync::Mutex;
use tracing::{info, warn};

use crate::domain::rates::{Cell, Early, Limiter};

/// For a connection, and for an answer, which needs a millisecond: whoever asks the API waits for it.
const PATIENCE: Duration = Duration::from_millis(250);

/// Redis is left alone for so long after it did not answer.
const RETRY: Duration = Duration::from_secs(1);

/// The generic cell rate algorithm for some keys, by the clock of Redis, microseconds. All cells are taken or none; answers which one it
/// is too early for and for how long, or 0 and how many more of each could be taken. A time that lies further ahead than a full bucket is of a clock that was
/// set back.
const GCRA: &str = "
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local full = {}
local answer = {0}
for i, key in ipairs(KEYS) do
  local interval, burst = tonumber(ARGV[2 * i - 1]), tonumber(ARGV[2 * i])
  local at = tonumber(redis.call('GET', key)) or now
  at = math.min(math.max(at, now), now + interval * burst) + interval
  local wait = at - interval * burst - now
  if wait > 0 then return {i, wait} end
  full[i] = at
  answer[i + 1] = math.floor((interval * burst - (at - now)) / interval)
end
for i, key in ipairs(KEYS) do
  redis.call('SET', key, string.format('%.0f', full[i]), 'PX', math.ceil((full[i] - now) / 1000))
end
return answer";

/// Where Redis is: `redis://USER:PASSWORD@HOST:PORT/DATABASE`, or `rediss://` with TLS.
#[derive(Clone)]
pub struct RedisUrl(Box<ConnectionInfo>);

/// An address that is none.
#[derive(Debug, thiserror::Error)]
#[error("the address of Redis cannot be used: {0}; it looks like redis://USER:PASSWORD@HOST:PORT/DATABASE")]
pub struct BadRedisUrl(RedisError);

impl FromStr for RedisUrl {
    type Err = BadRedisUrl;

    fn from_str(url: &str) -> Result<Self, BadRedisUrl> {
        Ok(Self(Box::new(url.into_connection_info().map_err(BadRedisUrl)?)))
    }
}

impl fmt::Debug for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without user and password.
        write!(f, "{}", self.0.addr())
    }
}

/// Redis does not answer, which the log says; whoever asks counts alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Away;

/// Counts in Redis.
pub struct SharedRates {
    client: Client,
    /// Held while it is opened, so that one who asks opens it, and the others wait no longer than they wait for an answer.
    connection: Mutex<Option<MultiplexedConnection>>,
    script: Script,
    started: Instant,
    /// Not asked before, milliseconds after `started`. 0: it answers.
    away_until: AtomicU64,
    /// Times that this process counted alone.
    alone: Arc<AtomicU64>,
}

impl fmt::Debug for SharedRates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedRates").finish_non_exhaustive()
    }
}

impl SharedRates {
    /// Asks nobody yet.
    ///
    /// # Errors
    /// When the address needs what this program cannot.
    pub fn new(RedisUrl(at): &RedisUrl) -> Result<Self, RedisError> {
        // Which cryptography `rediss` takes; whoever came first has decided.
        let _installed = rustls::crypto::ring::default_provider().install_default();
        Ok(Self {
            client: Client::open(ConnectionInfo::clone(at))?,
            connection: Mutex::default(),
            script: Script::new(GCRA),
            started: Instant::now(),
            away_until: AtomicU64::new(0),
            alone: Arc::default(),
        })
    }

    /// How often whoever asked was told to count alone.
    #[must_use]
    pub fn alone(&self) -> Arc<AtomicU64> {
        self.alone.clone()
    }

    async fn ask(&self, cells: &[Cell<'_>]) -> Result<Result<Vec<u32>, Early>, RedisError> {
        let mut connection = self.connection().await?;
        let mut script = self.script.prepare_invoke();
        for Cell { counted, key, quota } in cells {
            script.key(format!("af:rate:{counted:?}:{key}"));
            // A million a second are as many as any: Redis knows no shorter times.
            let interval = u64::try_from(quota.replenish_interval().as_micros()).unwrap_or(u64::MAX).max(1);
            script.arg(interval).arg(quota.burst_size().get());
        }
        let answer: Vec<u64> = script.invoke_async(&mut connection).await?;
        understood(&answer, cells.len())
            .ok_or_else(|| (ErrorKind::UnexpectedReturnType, "not what the script answers").into())
    }

    async fn connection(&self) -> Result<MultiplexedConnection, RedisError> {
        let mut connection = self.connection.lock().await;
        if let Some(open) = &*connection {
            return Ok(open.clone());
        }
        let config = AsyncConnectionConfig::new();
        let config = config.set_connection_timeout(Some(PATIENCE)).set_response_timeout(Some(PATIENCE));
        let open = self.client.get_multiplexed_async_connection_with_config(&config).await?;
        Ok(connection.insert(open).clone())
    }

    /// Whether it may be asked; while it is away, by one who asks each second.
    fn is_asked(&self) -> bool {
        let until = self.away_until.load(Ordering::Relaxed);
        let now = self.now();
        until == 0
            || until <= now
                && self
                    .away_until
                    .compare_exchange(until, now + millis(RETRY), Ordering::Relaxed, Ordering::Relaxed)
                    .is_ok()
    }

    async fn lost(&self, error: &(dyn fmt::Display + Sync)) {
        if self.away_until.swap(self.now() + millis(RETRY), Ordering::Relaxed) == 0 {
            warn!(%error, "Redis does not answer; this process counts rates alone until it does");
        }
        *self.connection.lock().await = None;
    }

    fn now(&self) -> u64 {
        // Never 0, which says something else.
        millis(self.started.elapsed()) + 1
    }
}

impl Limiter for SharedRates {
    type Away = Away;

    async fn take(&self, cells: &[Cell<'_>]) -> Result<Result<Vec<u32>, Early>, Away> {
        if self.is_asked() {
            match tokio::time::timeout(PATIENCE, self.ask(cells)).await {
                Ok(Ok(taken)) => {
                    if self.away_until.swap(0, Ordering::Relaxed) != 0 {
                        info!("Redis answers again; rates are shared");
                    }
                    return Ok(taken);
                }
                Ok(Err(error)) => self.lost(&error).await,
                Err(late) => self.lost(&late).await,
            }
        }
        self.alone.fetch_add(1, Ordering::Relaxed);
        Err(Away)
    }
}

/// What the script's answer about so many cells says; none: nothing that it would.
fn understood(answer: &[u64], cells: usize) -> Option<Result<Vec<u32>, Early>> {
    match answer.split_first()? {
        (0, left) => {
            let left: Vec<u32> = left.iter().map(|left| u32::try_from(*left).unwrap_or(u32::MAX)).collect();
            (left.len() == cells).then_some(Ok(left))
        }
        (place, [wait]) => {
            let cell = usize::try_from(*place).ok()?.checked_sub(1).filter(|cell| *cell < cells)?;
            Some(Err(Early { cell, wait: Duration::from_micros(*wait) }))
        }
        _ => None,
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_shown_without_what_opens_them() {
        let url: RedisUrl = "redis://me:hunter2@127.0.0.1:6379/3".parse().unwrap();
        assert_eq!(format!("{url:?}"), "127.0.0.1:6379");
        for bad in ["", "http://127.0.0.1", "redis://", "redis://127.0.0.1/x"] {
            assert!(bad.parse::<RedisUrl>().is_err(), "{bad}");
        }
    }
}
