//! `af verify`: whether a file, a CAR or what others have under a CID is what it should be.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use af_content::car::CarDecoder;
use af_content::unixfs::{self, Node, Profile};
use af_contract::{Blake3Hash, Codec, ContentId};
use anyhow::{Context, bail};
use bytes::Bytes;
use serde_json::json;

use super::fetch::Fetched;
use crate::args::content::{Fetch, Verify};
use crate::config::Environment;
use crate::output::Output;

/// What is read of a CAR at a time.
const PIECE: usize = 256 << 10;

/// Says what something is, and fails when it should be something else.
pub async fn verify(options: Verify, environment: &Environment, output: &Output) -> anyhow::Result<()> {
    let path = Path::new(&options.what);
    if path.is_file() {
        let file = path.to_owned();
        let is_car = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("car"));
        let (profile, expected) = (options.profile, options.cid);
        let read = move || if is_car { car(&file) } else { self::file(&file, profile, expected) };
        let found = tokio::task::spawn_blocking(read).await??;
        found.judge(&options)?;
        found.report(output);
        return Ok(());
    }
    let Ok(cid) = ContentId::parse(&options.what) else {
        bail!("{} is neither a file here nor a CID", options.what);
    };
    if options.profile.is_some() {
        bail!("--profile is for a file here; a CID has its blocks already");
    }
    let fetch = Fetch {
        cid,
        sources: options.sources,
        #[cfg(feature = "bitswap")]
        peers: options.peers,
        output: None,
        car: false,
        blocks: None,
        max_mb: 4096,
    };
    let fetched = Fetched::new(&fetch, environment, output).await?;
    expect("CID", options.cid.as_ref(), &cid)?;
    match (&options.blake3, &fetched.blake3) {
        (Some(_), None) => bail!("{cid} is no file, so it has no BLAKE3 of its own"),
        (expected, Some(found)) => expect("BLAKE3", expected.as_ref(), found)?,
        (None, None) => {}
    }
    fetched.report(output);
    Ok(())
}

/// What a file here is.
struct Found {
    roots: Vec<ContentId>,
    blocks: usize,
    bytes: u64,
    blake3: Blake3Hash,
    /// Of a CAR: links that lead out of it.
    missing: usize,
}

impl Found {
    fn judge(&self, options: &Verify) -> anyhow::Result<()> {
        if let Some(expected) = &options.cid
            && !self.roots.contains(expected)
        {
            let roots: Vec<String> = self.roots.iter().map(ContentId::to_string).collect();
            bail!("WRONG: its CID is {}, not {expected}", roots.join(", "));
        }
        expect("BLAKE3", options.blake3.as_ref(), &self.blake3)?;
        if self.missing > 0 {
            bail!("INCOMPLETE: {} blocks that the CAR links to are not in it", self.missing);
        }
        Ok(())
    }

    fn report(&self, output: &Output) {
        let roots: Vec<String> = self.roots.iter().map(ContentId::to_string).collect();
        let fields = [
            ("CID", roots.join(", ")),
            ("BLAKE3", self.blake3.to_string()),
            ("blocks", format!("{}, {} bytes", self.blocks, self.bytes)),
            ("verdict", "every block is what its CID says".to_owned()),
        ];
        let value = json!({ "roots": self.roots, "blake3Hash": self.blake3, "blocks": self.blocks, "bytes": self.bytes, "verified": true });
        output.result(&value, &output.fields(&fields));
    }
}

fn expect<T: PartialEq + std::fmt::Display>(
    what: &str,
    expected: Option<&T>,
    found: &T,
) -> anyhow::Result<()> {
    match expected {
        Some(expected) if expected != found => bail!("WRONG: its {what} is {found}, not {expected}"),
        _ => Ok(()),
    }
}

/// Under this profile, else the one that gives the CID that is expected, else the first.
fn file(path: &Path, profile: Option<Profile>, expected: Option<ContentId>) -> anyhow::Result<Found> {
    let found = file_as(profile.unwrap_or_default(), path)?;
    let (None, Some(expected)) = (profile, expected) else { return Ok(found) };
    if found.roots.contains(&expected) {
        return Ok(found);
    }
    for profile in Profile::ALL {
        let other = file_as(profile, path)?;
        if other.roots.contains(&expected) {
            return Ok(other);
        }
    }
    Ok(found)
}

fn file_as(profile: Profile, path: &Path) -> anyhow::Result<Found> {
    let open = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    let (mut blocks, mut bytes) = (0, 0);
    let summary = unixfs::import_as(profile, BufReader::new(open), |block| {
        blocks += 1;
        bytes += block.bytes.len() as u64;
        Ok(())
    })?;
    Ok(Found { roots: vec![summary.root], blocks, bytes, blake3: summary.blake3, missing: 0 })
}

fn car(path: &Path) -> anyhow::Result<Found> {
    let mut open = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    let (mut decoder, mut hasher, mut piece) = (CarDecoder::default(), blake3::Hasher::new(), vec![0; PIECE]);
    let (mut have, mut linked) = (BTreeMap::new(), BTreeSet::new());
    loop {
        let read = open.read(&mut piece)?;
        let Some(read) = piece.get(..read).filter(|read| !read.is_empty()) else { break };
        hasher.update(read);
        decoder.push(read);
        while let Some(block) = decoder.next_block().context("WRONG")? {
            if block.id.codec() == Codec::DagPb {
                linked.extend(Node::decode(&block.id, &block.bytes).context("WRONG")?.links());
            }
            have.insert(block.id, block.bytes.len() as u64);
        }
    }
    let roots = decoder.roots().unwrap_or_default().to_vec();
    decoder.finish().context("WRONG")?;
    linked.extend(&roots);
    // What stands in a link is no block, and may link to some.
    let mut inline: Vec<ContentId> = linked.iter().filter(|id| id.is_inline()).copied().collect();
    while let Some(id) = inline.pop() {
        if let (Codec::DagPb, Some(content)) = (id.codec(), id.content()) {
            let node = Node::decode(&id, &Bytes::copy_from_slice(content)).context("WRONG")?;
            inline.extend(node.links().filter(|link| linked.insert(*link) && link.is_inline()));
        }
    }
    let missing = linked.iter().filter(|id| !id.is_inline() && !have.contains_key(id)).count();
    let bytes = have.values().sum();
    Ok(Found { roots, blocks: have.len(), bytes, blake3: hasher.finalize().into(), missing })
}
