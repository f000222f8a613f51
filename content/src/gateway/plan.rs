//! What is sent for a request, before a byte of it is.

use std::ops::Range;

use af_contract::{Cid, Codec, ContentId};
use bytes::Bytes;
use http::HeaderValue;

use super::GatewayError;
use super::entity_bytes::Wanted;
use super::error::DagError;
use super::format::{CarTerms, DAG_CBOR_TYPE, Duplicates, Format, RAW_TYPE, Scope};
use super::listing;
use super::pieces::Pieces;
use super::reading::Reading;
use super::resolve::{Resolved, entry, resolve};
use super::target::Target;
use super::walk::Walk;
use crate::DiskStore;
use crate::serving::media_type;
use crate::unixfs::Node;

/// The page that stands for a directory.
const INDEX: &str = "index.html";

/// What is done.
pub enum Plan {
    /// The directory has another path on this host.
    Elsewhere(String),
    /// There is something to send.
    Send(Box<Sending>),
}

/// What is sent.
pub struct Sending {
    /// Its bytes.
    pub content: Content,
    /// What it is.
    pub media_type: HeaderValue,
    /// Its entity tag, in quotes.
    pub tag: String,
    /// The name it is kept under unless another one is asked for; only what no browser should show has one.
    pub filename: Option<String>,
    /// As a header has them.
    pub roots: String,
    /// Whether it was made here, and not by whoever published the content.
    pub generated: bool,
}

/// Bytes to send.
pub enum Content {
    /// These.
    Here(Bytes),
    /// A file's.
    File { root: ContentId, size: u64, reading: Reading },
    /// A CAR, of unknown length.
    Car(Cid, Walk),
}

impl Content {
    /// Its length, where that is known.
    pub fn size(&self) -> Option<u64> {
        match self {
            Self::Here(bytes) => Some(bytes.len() as u64),
            Self::File { size, .. } => Some(*size),
            Self::Car(..) => None,
        }
    }

    /// Makes these of its bytes; of a CAR, all.
    pub fn pieces(self, range: Range<u64>) -> Pieces {
        match self {
            Self::Here(bytes) => {
                let place = |at: u64| usize::try_from(at).unwrap_or(usize::MAX).min(bytes.len());
                let (from, to) = (place(range.start), place(range.end));
                Pieces::Here(Some(bytes.slice(from..to.max(from))))
            }
            Self::File { root, reading, .. } => {
                Pieces::File(Box::new(Walk::of_file(root, range.clone(), reading)), range)
            }
            Self::Car(root, walk) => Pieces::car(&root, walk),
        }
    }
}

/// Finds what a request is for.
///
/// # Errors
/// When it leads nowhere, or to what cannot be sent in this format.
pub fn plan(store: DiskStore, target: &Target, format: &Format) -> Result<Plan, GatewayError> {
    let mut reading = Reading::bounded(store);
    let resolved = resolve(target, &mut reading)?;
    let mut roots: Vec<String> = resolved.roots.iter().map(ContentId::to_string).collect();
    // As it was asked for.
    match roots.first_mut() {
        Some(first) => *first = target.cid.to_string(),
        None => roots.push(target.cid.to_string()),
    }
    let roots = roots.join(",");
    let sending = match format {
        Format::Raw => raw(&resolved),
        Format::DagCbor => dag_cbor(&resolved)?,
        Format::Car(terms) => car(resolved, target, terms, reading)?,
        Format::Files => match files(resolved, target, reading)? {
            Plan::Send(sending) => *sending,
            elsewhere @ Plan::Elsewhere(_) => return Ok(elsewhere),
        },
    };
    Ok(Plan::Send(Box::new(Sending { roots, ..sending })))
}

impl Sending {
    fn new(content: Content, media_type: HeaderValue, tag: &str) -> Self {
        let tag = format!("\"{tag}\"");
        Self { content, media_type, tag, filename: None, roots: String::new(), generated: false }
    }
}

fn raw(resolved: &Resolved) -> Sending {
    let (id, bytes) = &resolved.end;
    let content = Content::Here(bytes.clone());
    let sending = Sending::new(content, HeaderValue::from_static(RAW_TYPE), &format!("{id}.raw"));
    Sending { filename: Some(format!("{id}.bin")), ..sending }
}

fn dag_cbor(resolved: &Resolved) -> Result<Sending, GatewayError> {
    match &resolved.end {
        (id, bytes) if id.codec() == Codec::DagCbor => {
            let media_type = HeaderValue::from_static(DAG_CBOR_TYPE);
            let sending = Sending::new(Content::Here(bytes.clone()), media_type, &format!("{id}.dag-cbor"));
            Ok(Sending { filename: Some(format!("{id}.cbor")), ..sending })
        }
        _ => Err(GatewayError::NotAcceptable),
    }
}

fn car(
    resolved: Resolved,
    target: &Target,
    terms: &CarTerms,
    reading: Reading,
) -> Result<Sending, GatewayError> {
    let (id, bytes) = resolved.end;
    let walk = below(id, &bytes, terms, reading)?.led_by(&resolved.trail, terms.duplicates);
    let (root, content) = (id.to_cid(), Content::Car(id.to_cid(), walk));
    let mut way = blake3::Hasher::new();
    for name in &target.names {
        way.update(name.as_bytes()).update(b"/");
    }
    let way = way.finalize().to_hex();
    let bytes = terms.bytes.map(|bytes| format!(".{bytes}")).unwrap_or_default();
    let duplicates = if terms.duplicates == Duplicates::Sent { "y" } else { "n" };
    let scope = terms.scope.name();
    let way = way.get(..16).unwrap_or_default();
    let tag = format!("{scope}-{}.{way}.{duplicates}{bytes}.car", target.cid);
    let sending = Sending::new(content, HeaderValue::from_static(terms.media_type()), &tag);
    Ok(Sending { filename: Some(format!("{root}.car")), ..sending })
}

/// The walk over what is wanted at the end of a path.
fn below(id: ContentId, bytes: &Bytes, terms: &CarTerms, reading: Reading) -> Result<Walk, GatewayError> {
    if terms.scope == Scope::Block {
        return Ok(Walk::of_block(id, reading));
    }
    if terms.scope == Scope::All {
        return Ok(Walk::of_all(id, reading));
    }
    if id.codec() == Codec::DagCbor {
        return Ok(Walk::of_entity(id, reading));
    }
    let node = match Node::decode(&id, bytes).map_err(DagError::from) {
        Ok(node) => node,
        Err(DagError::Node(crate::unixfs::NodeError::Symlink(_))) => return Ok(Walk::of_block(id, reading)),
        Err(error) => return Err(error.into()),
    };
    let Some(size) = node.file_size() else { return Ok(Walk::of_entity(id, reading)) };
    match terms.bytes.map(|bytes| bytes.of(size)) {
        None => Ok(Walk::of_file(id, 0..u64::MAX, reading)),
        Some(Wanted::Bytes(bytes)) => Ok(Walk::of_file(id, bytes, reading)),
        Some(Wanted::Nothing) => Ok(Walk::of_block(id, reading)),
        Some(Wanted::Outside) => Err(GatewayError::Outside(size)),
    }
}

fn files(resolved: Resolved, target: &Target, mut reading: Reading) -> Result<Plan, GatewayError> {
    let (id, bytes) = resolved.end;
    if id.codec() == Codec::DagCbor {
        let media_type = HeaderValue::from_static(DAG_CBOR_TYPE);
        let sending = Sending::new(Content::Here(bytes), media_type, &id.to_string());
        return Ok(Plan::Send(Box::new(sending)));
    }
    let node = Node::decode(&id, &bytes).map_err(DagError::from)?;
    if let Some(size) = node.file_size() {
        if let (true, Some(name)) = (target.slash, target.names.last()) {
            // Nothing is in a file.
            return Err(GatewayError::NotFound(format!("{name}/"), target.cid.to_string()));
        }
        return Ok(file((id, size), media_type::of(&target.names), id, reading));
    }
    if !target.slash {
        return Ok(Plan::Elsewhere(target.as_directory()));
    }
    match entry(id, INDEX, &mut reading, &mut Vec::new()) {
        Ok(index) => {
            let node = Node::decode(&index, &reading.block(&index)?).map_err(DagError::from)?;
            if let Some(size) = node.file_size() {
                // Named by the directory, which it stands for.
                return Ok(file((index, size), media_type::of(&[INDEX]), id, reading));
            }
        }
        Err(GatewayError::NotFound(..)) => {}
        Err(error) => return Err(error),
    }
    let page = listing::page(id, target, &mut reading)?;
    let tag = format!("DirIndex-{}_CID-{id}", listing::VERSION);
    let media_type = HeaderValue::from_static("text/html; charset=utf-8");
    let sending = Sending::new(Content::Here(page.into()), media_type, &tag);
    Ok(Plan::Send(Box::new(Sending { generated: true, ..sending })))
}

fn file((root, size): (ContentId, u64), media_type: HeaderValue, named: ContentId, reading: Reading) -> Plan {
    let content = Content::File { root, size, reading };
    Plan::Send(Box::new(Sending::new(content, media_type, &named.to_string())))
}
