//! Rollouts that this edge stopped, until somebody tells the control plane.

use af_contract::RolloutFailure;
use tokio::sync::{Mutex, mpsc};
use tracing::{error, warn};

/// Reports that wait: of so many functions at once a candidate fails.
const WAITING: usize = 1024;

/// A queue of reports.
pub struct Stopped {
    sender: mpsc::Sender<RolloutFailure>,
    receiver: Mutex<mpsc::Receiver<RolloutFailure>>,
}

impl Default for Stopped {
    fn default() -> Self {
        let (sender, receiver) = mpsc::channel(WAITING);
        Self { sender, receiver: Mutex::new(receiver) }
    }
}

impl Stopped {
    /// Waits for nobody: the rollout is stopped here in any case.
    pub fn tell(&self, failure: RolloutFailure) {
        warn!(function = failure.function, rollout = failure.rollout, reason = %failure, "a rollout was stopped");
        if let Err(mpsc::error::TrySendError::Full(failure) | mpsc::error::TrySendError::Closed(failure)) =
            self.sender.try_send(failure)
        {
            error!(rollout = failure.rollout, "the control plane is not told that a rollout was stopped");
        }
    }

    /// The next one. `None`: there will be no more.
    pub async fn next(&self) -> Option<RolloutFailure> {
        self.receiver.lock().await.recv().await
    }
}
