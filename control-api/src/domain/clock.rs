//! The clock of the schedule.

use std::time::Duration;

use tokio::sync::watch;

use super::now;

/// The longest sleep: the wall clock may be set, and a machine may have been suspended.
const LOOK: Duration = Duration::from_secs(10);

/// What time it is for triggers, in milliseconds since 1970 UTC.
#[derive(Clone, Debug, Default)]
pub enum Clock {
    /// The machine's.
    #[default]
    System,
    /// Somebody's hand, as in tests.
    Manual(watch::Receiver<i64>),
}

impl Clock {
    /// The time.
    #[must_use]
    pub fn now(&self) -> i64 {
        match self {
            Self::System => now(),
            Self::Manual(hand) => *hand.borrow(),
        }
    }

    /// Returns at a time, or before it, when it is good to look at the clock again.
    pub(super) async fn until(&self, millis: i64) {
        match self {
            Self::System => {
                let left = u64::try_from(millis.saturating_sub(now())).unwrap_or_default();
                tokio::time::sleep(Duration::from_millis(left).min(LOOK)).await;
            }
            Self::Manual(hand) => {
                // A hand that is gone never reaches it.
                if hand.clone().wait_for(|now| *now >= millis).await.is_err() {
                    std::future::pending().await
                }
            }
        }
    }
}
