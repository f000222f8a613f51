//! How often an organization may ask, where its plan says so: all requests of its members and keys about it and what it has, together.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use moka::sync::Cache;

use crate::domain::{Actor, Error, State};
use crate::store::PlanRateRow;

/// How long it is believed what a plan says: so long, at most, a change by another server does not count on this one. One that is made here
/// counts at once.
const BELIEVED: Duration = Duration::from_secs(3);

/// Projects and organizations of which it is remembered for that long.
const REMEMBERED: u64 = 10_000;

/// What plans say, of what was asked about lately.
pub(crate) struct PlanRates {
    /// By the ids of projects and organizations.
    believed: Cache<String, Option<Arc<PlanRateRow>>>,
}

/// What a request is about.
#[derive(Clone, Copy, Debug)]
pub(crate) enum About<'a> {
    /// By `prj_…`.
    Project(&'a str),
    /// By `org_…`.
    Organization(&'a str),
}

/// Organizations that a request was counted for. Cheap to clone; a clone is the same.
#[derive(Clone, Debug, Default)]
pub struct Counted(Arc<Mutex<HashMap<String, Count>>>);

/// Whether an organization was counted, and who does so: fields of a query ask at the same time.
type Count = Arc<tokio::sync::OnceCell<()>>;

impl Default for PlanRates {
    fn default() -> Self {
        Self { believed: Cache::builder().max_capacity(REMEMBERED).time_to_live(BELIEVED).build() }
    }
}

impl PlanRates {
    /// Plans were changed here.
    pub(crate) fn forget(&self) {
        self.believed.invalidate_all();
    }
}

impl Counted {
    fn of(&self, organization: &str) -> Count {
        let mut counted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counted.entry(organization.to_owned()).or_default().clone()
    }
}

/// Counts a request of a member: once, whatever of the organization it is about.
///
/// # Errors
/// When the organization was asked about too often.
pub(crate) async fn count(state: &State, actor: &Actor, about: About<'_>) -> Result<(), Error> {
    let Some(rate) = believed(state, about).await? else { return Ok(()) };
    let (count, standings) = (actor.call.counted.of(&rate.organization), &actor.call.standings);
    let once =
        async || state.rates.organization(&rate.organization, rate.requests_per_minute, standings).await;
    count.get_or_try_init(once).await.map_err(|error| said(error, &rate))?;
    Ok(())
}

async fn believed(state: &State, about: About<'_>) -> Result<Option<Arc<PlanRateRow>>, Error> {
    let (About::Project(id) | About::Organization(id)) = about;
    let believed = &state.plan_rates.believed;
    if let Some(known) = believed.get(id) {
        return Ok(known);
    }
    let row = match about {
        About::Project(id) => state.store.project_rate(id).await?,
        About::Organization(id) => state.store.organization_rate(id).await?,
    };
    let rate = row.map(Arc::new);
    believed.insert(id.to_owned(), rate.clone());
    Ok(rate)
}

/// Whose plan it is, and what to do.
fn said(error: Error, rate: &PlanRateRow) -> Error {
    let Error::RateLimited { retry_after: seconds, .. } = error else { return error };
    let PlanRateRow { organization, plan, requests_per_minute } = rate;
    let detail = format!(
        "{organization} may be asked about {requests_per_minute} times in a minute by its plan {plan}, and was; try again in {seconds} s, \
         or ask the operator for another plan"
    );
    Error::Limit { code: "rate_limit_exceeded", detail, seconds }
}
