//! Drives an instance that works for several requests, in a task that outlives each of them.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::time::Sleep;
use tokio_util::task::AbortOnDropHandle;

use super::running::{Counted, Driver, drive};
use super::shared::{Shared, Unused};
use super::{GuestError, Meter, Sandbox};

/// An instance and its requests.
pub struct Common {
    sandbox: Sandbox,
    /// Of all requests together.
    meter: Arc<Meter>,
    shared: Arc<Shared>,
    driver: Driver,
    /// Whether it is in the background already.
    away: bool,
    /// Until when the guest may go on with what no request waits for.
    deadline: Option<Pin<Box<Sleep>>>,
    _counted: Option<Counted>,
}

/// Why it is driven no further where it is.
#[derive(PartialEq, Eq)]
enum Halt {
    /// It has ended, or nobody needs it.
    Over,
    /// It computes for long.
    Long,
}

impl Common {
    /// Not driven yet.
    pub fn new(
        sandbox: &Sandbox,
        meter: &Arc<Meter>,
        shared: &Arc<Shared>,
        driver: Driver,
        counted: Option<Counted>,
    ) -> Self {
        let (sandbox, meter, shared) = (sandbox.clone(), meter.clone(), shared.clone());
        Self { sandbox, meter, shared, driver, away: false, deadline: None, _counted: counted }
    }

    /// Until it ends: here, or in the background once it computes for long.
    pub async fn drive(mut self) {
        if poll_fn(|cx| self.poll(cx)).await == Halt::Long {
            self.shared.shut();
            self.away = true;
            let sandbox = self.sandbox.clone();
            let rest = async move { poll_fn(|cx| self.poll(cx)).await };
            // A panic there has ended the instance, which its requests learn from its door.
            let _ended = AbortOnDropHandle::new(sandbox.background().spawn(rest)).await;
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Halt> {
        // How it ends is told at its door, while its requests can still tell that from a complete response.
        if drive(&self.sandbox, &self.meter, &mut self.driver, cx).is_ready() {
            return Poll::Ready(Halt::Over);
        }
        if let Some(limit) = self.meter.exceeded() {
            self.shared.end(Some(GuestError::Exceeded(limit)));
            return Poll::Ready(Halt::Over);
        }
        match self.shared.poll_unused(cx) {
            Unused::Deserted => Poll::Ready(Halt::Over),
            _ if self.meter.is_long() && !self.away => Poll::Ready(Halt::Long),
            Unused::Used => Poll::Pending,
            Unused::Done => self.poll_deadline(cx),
        }
    }

    fn poll_deadline(&mut self, cx: &mut Context<'_>) -> Poll<Halt> {
        let until = self.meter.deadline().into();
        let deadline = self.deadline.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(until)));
        if deadline.deadline() != until {
            deadline.as_mut().reset(until);
        }
        deadline.as_mut().poll(cx).map(|()| Halt::Over)
    }
}

impl Drop for Common {
    fn drop(&mut self) {
        self.shared.end(None);
    }
}
