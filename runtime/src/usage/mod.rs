//! What functions and sites use here, until the control plane has it: counted where it is used ([`counters`]), gathered each second,
//! written down and told in batches ([`carrier`]), each of which counts once however often it is told ([`waiting`]). A process that is
//! killed loses what it counted within the last second or two, and tells nothing twice.

mod asked;
mod carrier;
mod counters;
mod waiting;

pub(crate) use self::asked::{Asked, End};
pub use self::carrier::{Carrier, Refused, Taker};
pub use self::counters::{Book, Counters};
