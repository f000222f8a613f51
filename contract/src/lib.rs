//! What the edge and the control plane must agree on. Types and rules only: nothing here does I/O.

pub mod capability;
pub mod content_id;
pub mod cors;
pub mod domain_name;
pub mod edge;
pub mod feed;
pub mod frames;
pub mod guest_world;
pub mod limits;
pub mod logs;
pub mod manifest;
pub mod name;
pub mod private;
pub mod problem;
pub mod rollout;
pub mod routes;
pub mod setting;
pub mod strict;
pub mod trigger;
pub mod usage;

pub use capability::{CapabilityError, HostPattern, StoreName};
pub use content_id::{Blake3Hash, Cid, Codec, ContentId, ContentIdError, HashKind, INLINE_BYTES, Multihash};
pub use cors::{Cors, CorsError};
pub use domain_name::{DomainName, DomainNameError};
pub use feed::{
    Certificate, Change, DeploymentRef, DomainState, FunctionState, FunctionStatus, Owner, SiteState, Update,
};
pub use guest_world::World;
pub use limits::Limits;
pub use logs::{LogLine, LogSink};
pub use manifest::{Code, Manifest, ManifestError};
pub use name::{FunctionName, NameError, Slug};
pub use private::{ContentKey, Private};
pub use problem::Problem;
pub use rollout::{Guard, RolloutFailure, RolloutState, Sticky, StickyError, Tally};
pub use routes::{RouteTable, RouteTableError};
pub use setting::{SettingError, SettingName, SettingValue, Settings};
pub use trigger::{CronExpression, Trigger, TriggerError, TriggerPath};
pub use usage::{Usage, UsageRecord};
