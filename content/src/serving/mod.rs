//! What HTTP has to say about files that are named by their CIDs: paths, media types, conditions and ranges. Sites and the
//! gateway share it.

pub mod conditional;
pub mod media_type;
pub mod path;
pub mod quality;
pub mod range;
