//! What is sent for a page: the file, or a copy of it that lies compressed beside it, with all that is said of it.

use std::fmt::Write;
use std::ops::Range;

use af_content::serving::{media_type, path};
use bytes::Bytes;
use http::header::{ACCEPT_RANGES, CONTENT_ENCODING, CONTENT_RANGE, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue};

use super::body::PIECE;
use super::coding::Coding;
use super::tree::{Page, Tree};
use super::{FileBody, SiteError, coding};
use crate::content::{File, ReadError, Reader};
use crate::http::ResponseBody;

/// The path to the file from its root, for whoever wants to check it (<https://specs.ipfs.tech/http-gateways/path-gateway/>).
const IPFS_PATH: HeaderName = HeaderName::from_static("x-ipfs-path");

/// The CIDs on that path.
const IPFS_ROOTS: HeaderName = HeaderName::from_static("x-ipfs-roots");

/// The file or its copy.
pub struct Sent {
    /// Which.
    pub file: File,
    coding: Option<Coding>,
    /// In quotes: the entity tag.
    tag: String,
}

impl Sent {
    /// The copy that a client likes best, else the page's file itself.
    ///
    /// # Errors
    /// When a copy cannot be read.
    pub async fn choose(tree: &Tree, page: &Page, headers: &HeaderMap) -> Result<Self, ReadError> {
        for coding in coding::accepted(headers) {
            if let Some(file) = tree.beside(page, coding.suffix).await? {
                return Ok(Self::new(file, Some(coding)));
            }
        }
        Ok(Self::new(page.file, None))
    }

    fn new(file: File, coding: Option<Coding>) -> Self {
        Self { file, coding, tag: format!("\"{}\"", file.id) }
    }

    /// Its entity tag. A compressed copy is content of its own, with a CID of its own.
    pub fn tag(&self) -> &str {
        &self.tag
    }

    /// That only these bytes come.
    pub fn say_part(&self, headers: &mut HeaderMap, range: &Range<u64>) {
        let last = range.end.saturating_sub(1);
        headers.insert(CONTENT_RANGE, header(format!("bytes {}-{last}/{}", range.start, self.file.size)));
    }

    /// What it is, and how to check that.
    pub fn describe(&self, headers: &mut HeaderMap, tree: &Tree, page: &Page) {
        headers.insert(CONTENT_TYPE, media_type::of(&page.names));
        headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
        if let Some(coding) = self.coding {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static(coding.name));
        }
        let (mut path, mut roots) = (format!("/ipfs/{}", tree.root()), String::new());
        for name in &page.names {
            path.push('/');
            path::encode(name, &mut path);
        }
        // Of the copy, as the tag is.
        path.push_str(self.coding.map_or("", |coding| coding.suffix));
        for step in &page.directories {
            // Writing to a string does not fail.
            let _written = write!(roots, "{},", step.id);
        }
        let _written = write!(roots, "{}", self.file.id);
        headers.insert(IPFS_PATH, header(path));
        headers.insert(IPFS_ROOTS, header(roots));
    }

    /// Its bytes. The first block is read here, so that what is wrong with it becomes a status.
    ///
    /// # Errors
    /// When the block is missing or corrupt.
    pub async fn body(&self, reader: &Reader, range: Range<u64>) -> Result<ResponseBody, SiteError> {
        if range.is_empty() {
            return Ok(ResponseBody::full(""));
        }
        let block = reader.bytes(self.file, range.start).await?;
        let size = usize::try_from(range.end - range.start).unwrap_or(usize::MAX);
        let Some(whole) = block.get(..size).filter(|whole| whole.len() <= PIECE) else {
            return Ok(ResponseBody::file(FileBody::new(reader.clone(), self.file, range)));
        };
        // A part of a large block is copied: a client that does not read on must not keep all of it in memory.
        let all = whole.len() == block.len();
        Ok(ResponseBody::full(if all { block } else { Bytes::copy_from_slice(whole) }))
    }
}

/// A header's value of what was encoded for one, or is a number or a CID, and so always can be one.
pub fn header(text: String) -> HeaderValue {
    HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static(""))
}
