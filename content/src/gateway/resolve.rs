//! Where a path leads: through directories, of sharded ones only the shards that are on the way, and through documents.

use af_contract::{Codec, ContentId};
use bytes::Bytes;

use super::GatewayError;
use super::document::{self, Followed};
use super::error::DagError;
use super::reading::Reading;
use super::target::Target;
use crate::unixfs::{Looked, Lookup, Node};

/// The end of a path, and the way there.
#[derive(Debug)]
pub struct Resolved {
    /// Blocks that lead to the end, without it, in their order.
    pub trail: Vec<ContentId>,
    /// The root, what each name led to, and so the end.
    pub roots: Vec<ContentId>,
    /// The block at the end, which is here or stands in its CID.
    pub end: (ContentId, Bytes),
}

/// Follows a path.
///
/// # Errors
/// When it leads nowhere, or to what is not here.
pub fn resolve(target: &Target, reading: &mut Reading) -> Result<Resolved, GatewayError> {
    let mut at = target.root;
    let (mut trail, mut roots) = (Vec::new(), vec![at]);
    let mut names = target.names.as_slice();
    while let Some((name, after)) = names.split_first() {
        if at.codec() == Codec::DagCbor {
            let block = reading.block(&at)?;
            let (link, used) = match document::follow(&at, &block, names).map_err(DagError::from)? {
                Followed::Link(link, used) => (link, used),
                Followed::Value => return Err(GatewayError::Remainder(shown(names))),
                Followed::Nothing(place) => {
                    return Err(GatewayError::NotFound(
                        shown(names.get(place..).unwrap_or_default()),
                        at.to_string(),
                    ));
                }
            };
            trail.push(at);
            at = ContentId::try_from(link).map_err(DagError::from)?;
            names = names.get(used..).unwrap_or_default();
        } else {
            at = entry(at, name, reading, &mut trail)?;
            names = after;
        }
        roots.push(at);
    }
    let end = (at, reading.block(&at)?);
    Ok(Resolved { trail, roots, end })
}

/// The entry of a directory.
///
/// # Errors
/// When there is none of this name, or the directory cannot be read.
pub fn entry(
    directory: ContentId,
    name: &str,
    reading: &mut Reading,
    trail: &mut Vec<ContentId>,
) -> Result<ContentId, GatewayError> {
    let mut lookup = Lookup::new(directory, name);
    loop {
        let id = lookup.wanted();
        trail.push(id);
        let node = Node::decode(&id, &reading.block(&id)?).map_err(DagError::from)?;
        match lookup.step(node).map_err(DagError::from)? {
            Looked::Found(entry) => return Ok(entry.id),
            Looked::Deeper(deeper) => lookup = deeper,
            Looked::Nothing | Looked::File => {
                return Err(GatewayError::NotFound(shown(&[name.to_owned()]), directory.to_string()));
            }
        }
    }
}

/// Names for a message.
fn shown(names: &[String]) -> String {
    names.join("/").chars().take(100).collect()
}
