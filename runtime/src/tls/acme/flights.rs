//! Single flight: a name is ordered once at a time, and all who want it wait for that one.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use super::backoff::Wait;
use super::{Acme, IssueError, Reason};
use crate::tls::DnsName;

/// Names that are ordered or wait for their turn.
const FLIGHTS: usize = 1000;

/// Nothing until it is over.
pub type Outcome = Option<Result<(), Arc<IssueError>>>;

/// What is on its way.
#[derive(Debug, Default)]
pub struct Flights(Mutex<HashMap<DnsName, watch::Receiver<Outcome>>>);

impl Flights {
    fn lock(&self) -> MutexGuard<'_, HashMap<DnsName, watch::Receiver<Outcome>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes a name out of the list, also when its task panics.
struct Landing(Arc<Acme>, DnsName);

impl Drop for Landing {
    fn drop(&mut self) {
        self.0.flights.lock().remove(&self.1);
    }
}

impl Acme {
    /// Joins the flight for a name, or starts one, which does not depend on who waits for it.
    pub(super) fn fly(
        self: &Arc<Self>,
        name: &DnsName,
        reason: Reason,
    ) -> Result<watch::Receiver<Outcome>, Wait> {
        let mut flights = self.flights.lock();
        if let Some(flight) = flights.get(name) {
            return Ok(flight.clone());
        }
        if flights.len() >= FLIGHTS {
            return Err(Wait::Busy);
        }
        self.backoff.check(name)?;
        let (sender, receiver) = watch::channel(None);
        flights.insert(name.clone(), receiver.clone());
        drop(flights);
        let landing = Landing(self.clone(), name.clone());
        let flight = async move {
            let Landing(acme, name) = &landing;
            let outcome = acme.stop.run_until_cancelled(acme.supply(name, reason)).await;
            let outcome = outcome.unwrap_or(Err(IssueError::Stopped)).map_err(Arc::new);
            // What follows finds the certificate in the table, so the list is left first.
            drop(landing);
            sender.send_replace(Some(outcome));
        };
        // Nobody waits for a task: its outcome is in the channel.
        drop(self.tasks.spawn_on(flight, &self.runtime));
        Ok(receiver)
    }
}
