//! How much of their rates whoever asks has left: noted where requests are counted, told in the answer's headers.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

/// What is left of one rate after a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Whose rate: `address`, `token`, `user` or `organization`.
    pub whose: &'static str,
    /// Requests that may come at once.
    pub quota: u32,
    /// Seconds after which so many may come again.
    pub window: u32,
    /// Requests that may come now.
    pub remaining: u32,
    /// Seconds until all may come again; of one that was refused: until one may.
    pub reset: u64,
}

/// Those of one request. Cheap to clone; a clone is the same.
#[derive(Clone, Default)]
pub struct Standings(Arc<Mutex<Vec<Standing>>>);

impl Standings {
    /// Notes one; the newest of each rate stays.
    pub(crate) fn note(&self, standing: Standing) {
        let mut noted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        noted.retain(|known| known.whose != standing.whose);
        noted.push(standing);
    }

    /// All, in the order in which they were counted.
    #[must_use]
    pub fn all(&self) -> Vec<Standing> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl fmt::Debug for Standings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.all()).finish()
    }
}
