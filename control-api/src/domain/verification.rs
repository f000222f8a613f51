//! Verification of names, at request and over time: who may have a name, and for how long.
//!
//! - A TXT record with the claim's token proves a claim to any name. It moves a verified name from another
//!   project, unless that project's own record is still there: then the one who manages the name has not decided.
//! - A name that only points here (CNAME, A) proves less, because records outlive what they were made for. It
//!   counts where no other project has ever proven the name or the wildcard above it; for A, which names no
//!   project, also only where no other project claims it.
//! - A verified name is checked again every day. It is lost after several days without its proof, and never
//!   because the DNS failed.

use std::num::NonZeroU32;
use std::time::Duration;

use futures::StreamExt;
use governor::clock::{Clock, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota};
use tracing::{error, info, warn};

use super::access::{self, Noun};
use super::audit::{self, Event};
use super::projects::commit;
use super::proof::{self, Evidence, Method};
use super::{Actor, Error, State, now};
use crate::store::feed::{self, Kind};
use crate::store::{Connection, DomainRow, domains};

/// Checks in a row that find the proof gone before a name is lost: with a check a day, three days after the first one.
const MISSES: i64 = 4;

/// Names checked again at the same time.
const AT_ONCE: usize = 8;

/// Names read from the database at a time.
const BATCH: i64 = 50;

/// Checks of one domain that members may ask for in a minute.
const OF_DOMAIN: NonZeroU32 = NonZeroU32::new(10).expect("10 is not 0");

/// Checks of any domain that one user may ask for in a minute. At the worst, with a DNS that never answers, they take half
/// of the questions that may be under way.
const OF_USER: NonZeroU32 = NonZeroU32::new(20).expect("20 is not 0");

/// Who asked within the last minutes; more are forgotten as soon as they may ask again.
const REMEMBERED: usize = 10_000;

/// Between two looks for names that are due, at most.
const PAUSE: Duration = Duration::from_secs(60);

/// Bounds requests for checks.
pub(crate) struct Attempts {
    domains: DefaultKeyedRateLimiter<String>,
    users: DefaultKeyedRateLimiter<String>,
}

/// Who wants to know.
#[derive(Clone, Copy)]
enum Asked<'a> {
    /// A member. Asking often must not make a name lost sooner.
    ByMember(&'a Actor),
    /// The clock.
    ByTime,
}

impl Attempts {
    pub(crate) fn new() -> Self {
        let limiter = |times| DefaultKeyedRateLimiter::keyed(Quota::per_minute(times));
        Self { domains: limiter(OF_DOMAIN), users: limiter(OF_USER) }
    }

    fn take(&self, domain: &str, user: &str) -> Result<(), Error> {
        for (limiter, key) in [(&self.domains, domain), (&self.users, user)] {
            if limiter.len() > REMEMBERED {
                limiter.retain_recent();
            }
            limiter.check_key(&key.to_owned()).map_err(|refused| {
                let wait = refused.wait_time_from(DefaultClock::default().now());
                Error::TooOften { seconds: wait.as_secs().saturating_add(1) }
            })?;
        }
        Ok(())
    }
}

/// Looks for the proof of a claim now. What is amiss stands in the domain's `reason`.
///
/// # Errors
/// When there is no domain that the actor may see, or they ask too often.
pub async fn verify(state: &State, actor: &Actor, id: &str) -> Result<DomainRow, Error> {
    let domain = access::domain(state, actor, id, Noun::Domains.write()).await?;
    state.domains.attempts.take(&domain.id, &actor.user)?;
    let evidence = proof::look(state, &domain).await?;
    settle(state, &domain, evidence, Asked::ByMember(actor)).await
}

/// Checks verified names again, for ever.
pub(crate) async fn watch(state: &State) {
    let pause = (state.domains.config.check_interval / 4).clamp(Duration::from_millis(10), PAUSE);
    loop {
        if let Err(cause) = check_due(state).await {
            error!(%cause, "domains cannot be checked again; trying later");
        }
        tokio::time::sleep(pause).await;
    }
}

async fn check_due(state: &State) -> Result<(), Error> {
    // What is due again by the time that it was checked waits for the next turn.
    let until = now();
    loop {
        let due = state.store.due_domains(until, BATCH).await?;
        if due.is_empty() {
            return Ok(());
        }
        let checks = futures::stream::iter(due).map(|domain| async move {
            let evidence = proof::look(state, &domain).await?;
            match settle(state, &domain, evidence, Asked::ByTime).await {
                // Its owner was faster.
                Err(Error::NotFound { .. } | Error::Conflict { .. }) => Ok(()),
                other => other.map(drop),
            }
        });
        // One that cannot be checked holds up no other of its batch; it is the first of the next one.
        let checked: Vec<Result<(), Error>> = checks.buffer_unordered(AT_ONCE).collect().await;
        checked.into_iter().collect::<Result<(), _>>()?;
    }
}

/// Draws the conclusion from what the DNS said.
async fn settle(
    state: &State,
    before: &DomainRow,
    evidence: Evidence,
    asked: Asked<'_>,
) -> Result<DomainRow, Error> {
    let mut db = state.store.begin().await?;
    let row = domains::read(&mut db, &before.id).await?;
    let mut domain = row.ok_or_else(|| Error::not_found("domain", &before.id))?;
    if domain.method != before.method {
        let detail = "the domain was changed meanwhile; verify it again".to_owned();
        return Err(Error::Conflict { code: "domain_changed", detail });
    }
    domain.checked_at = Some(now());
    let revision = match evidence {
        Evidence::Proven { .. } if domain.status == "VERIFIED" => {
            (domain.misses, domain.reason) = (0, None);
            None
        }
        Evidence::Proven { tokens } => admit(&mut db, &mut domain, &tokens).await?,
        Evidence::Missing(reason) => {
            domain.reason = Some(reason);
            miss(&mut db, &mut domain, asked).await?
        }
        Evidence::Unknown(reason) => {
            domain.reason = Some(reason);
            None
        }
    };
    let verified = domain.status == "VERIFIED";
    domain.next_check_at = verified.then(|| now().saturating_add(wait(state.domains.config.check_interval)));
    domains::update(&mut db, &domain).await?;
    match asked {
        Asked::ByMember(actor) => {
            audit::commit(db, actor, Event::project("domain.verify", &domain.id, &domain.project_id)).await?;
        }
        Asked::ByTime => commit(db).await?,
    }
    if let Some(revision) = revision {
        state.changes.announce(revision);
    }
    Ok(domain)
}

/// A claim is right; gives it the name, if no other project's comes first.
async fn admit(db: &mut Connection, domain: &mut DomainRow, tokens: &[String]) -> Result<Option<u64>, Error> {
    let rivals = domains::rivals(db, domain).await?;
    let method = Method::parse(&domain.method)?;
    if let Some(reason) = objection(method, &rivals, tokens) {
        domain.reason = Some(reason.into());
        return Ok(None);
    }
    if let Some(mut other) = rivals.verified {
        info!(domain = %other.id, name = %other.hostname, "another project has proven the name; it moves there");
        other.status = "FAILED".into();
        other.reason = Some("another project has proven that this name is its own now".into());
        (other.misses, other.next_check_at) = (0, None);
        domains::update(db, &other).await?;
    }
    let now = now();
    domain.status = "VERIFIED".into();
    (domain.misses, domain.reason, domain.verified_at) = (0, None, Some(now));
    domains::update(db, domain).await?;
    domains::hold(db, domain, now).await?;
    info!(domain = %domain.id, name = %domain.hostname, "a domain is verified");
    Ok(Some(feed::put(db, Kind::Domain, &domain.hostname).await?))
}

/// Why a claim that the DNS supports does not count nonetheless.
fn objection(method: Method, rivals: &domains::Rivals, tokens: &[String]) -> Option<&'static str> {
    match (method, &rivals.verified) {
        (Method::Txt, Some(other)) if tokens.contains(&other.token) => Some(
            "another project has verified this name, and its verification record is still there; \
             remove that one, then verify again",
        ),
        (Method::Txt, _) => None,
        (Method::Cname | Method::Address, _) if rivals.verified.is_some() || rivals.held => Some(
            "another project has proven this name before, so that it points here is not enough; \
             change the verification method to TXT",
        ),
        (Method::Address, _) if rivals.claimed => Some(
            "another project claims this name too, so that it points here is not enough; \
             change the verification method to TXT",
        ),
        (Method::Cname | Method::Address, _) => None,
    }
}

/// The proof is gone. A verified name is lost when that has been so for long enough.
async fn miss(db: &mut Connection, domain: &mut DomainRow, asked: Asked<'_>) -> Result<Option<u64>, Error> {
    if domain.status != "VERIFIED" || matches!(asked, Asked::ByMember(_)) {
        return Ok(None);
    }
    domain.misses += 1;
    let reason = domain.reason.as_deref().unwrap_or_default();
    if domain.misses < MISSES {
        warn!(domain = %domain.id, name = %domain.hostname, misses = domain.misses, reason, "a domain's proof is gone");
        return Ok(None);
    }
    warn!(domain = %domain.id, name = %domain.hostname, reason, "a domain is lost");
    domain.status = "FAILED".into();
    domains::update(db, domain).await?;
    Ok(Some(feed::put(db, Kind::Domain, &domain.hostname).await?))
}

/// Until the next check, milliseconds: nine to eleven tenths of the interval, so that names do not stay together.
fn wait(interval: Duration) -> i64 {
    let mut random = [0; 2];
    // Without randomness they stay together, which is no reason to check none.
    if getrandom::fill(&mut random).is_err() {
        random = [0; 2];
    }
    let share = 0.9 + 0.2 * f64::from(u16::from_le_bytes(random)) / f64::from(u16::MAX);
    i64::try_from(interval.mul_f64(share).as_millis()).unwrap_or(i64::MAX)
}
