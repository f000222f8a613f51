//! What an edge was told, on its disk: the pages as they came, sealed with a key that follows from the edge's own.
//!
//! The file is a header (what it is, and a salt) and records: a length of 4 bytes, a nonce, and a page under ChaCha20-Poly1305 with
//! the record's number as associated data. It is replaced as a whole when all was told anew, and else only added to. A record that
//! a crash left half, or that was changed, ends it; what follows comes again from the control plane.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use af_contract::edge::FeedPage;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hkdf::{HKDF_SHA256, Salt};
use tracing::warn;
use zeroize::Zeroizing;

use super::FeedError;
use super::known::Text;

const FILE: &str = "feed.log";

const MAGIC: &[u8; 8] = b"af-feed1";

const SALT_BYTES: usize = 32;

const HEADER_BYTES: usize = MAGIC.len() + SALT_BYTES;

/// No page is longer.
const RECORD_BYTES: usize = 256 << 20;

/// The file.
pub struct Saved {
    path: PathBuf,
    secret: Zeroizing<Vec<u8>>,
    open: Option<Open>,
}

/// A file that can be added to.
struct Open {
    file: File,
    key: LessSafeKey,
    records: u64,
    /// Bytes of what came as a whole, and of what was added since.
    whole: u64,
    added: u64,
}

impl Saved {
    /// Reads the file, if there is one, as far as it is well.
    pub fn open(dir: &Path, secret: &[u8]) -> Result<(Self, Vec<FeedPage>), FeedError> {
        let mut saved = Self { path: dir.join(FILE), secret: Zeroizing::new(secret.to_vec()), open: None };
        let pages = saved.read().map_err(|source| saved.failed(source))?;
        Ok((saved, pages))
    }

    /// Adds a page, as it came.
    pub fn append(&mut self, page: Text) -> Result<(), FeedError> {
        let Some(open) = &mut self.open else { return Ok(()) };
        open.append(page).map_err(|source| self.failed(source))
    }

    /// Replaces all, at once or not at all.
    pub fn replace(&mut self, pages: &[Text]) -> Result<(), FeedError> {
        let open = self.write(pages).map_err(|source| self.failed(source))?;
        self.open = Some(open);
        Ok(())
    }

    /// Whether more was added than there was, and than this.
    pub fn has_grown(&self, spare: u64) -> bool {
        self.open.as_ref().is_some_and(|open| open.added > open.whole + spare)
    }

    fn failed(&self, source: io::Error) -> FeedError {
        FeedError::Disk { path: self.path.clone(), source }
    }

    fn write(&self, pages: &[Text]) -> io::Result<Open> {
        let partial = self.path.with_extension("partial");
        let mut options = OpenOptions::new();
        let mut file =
            options.read(true).write(true).create(true).truncate(true).mode(0o600).open(&partial)?;
        let mut salt = [0; SALT_BYTES];
        getrandom::fill(&mut salt)?;
        file.write_all(MAGIC)?;
        file.write_all(&salt)?;
        let mut open = Open { file, key: key(&self.secret, &salt)?, records: 0, whole: 0, added: 0 };
        for page in pages {
            open.record(page.clone())?;
        }
        open.whole = std::mem::take(&mut open.added);
        open.file.sync_all()?;
        fs::rename(&partial, &self.path)?;
        File::open(self.path.parent().unwrap_or(Path::new(".")))?.sync_all()?;
        Ok(open)
    }

    fn read(&mut self) -> io::Result<Vec<FeedPage>> {
        let file = match OpenOptions::new().read(true).write(true).open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let Some(mut open) = Open::of(file, &self.secret)? else {
            warn!(path = %self.path.display(), "what was kept of the feed is nothing of this program; it is asked for anew");
            return Ok(Vec::new());
        };
        let (mut pages, mut good) = (Vec::new(), HEADER_BYTES as u64);
        loop {
            match open.next()? {
                Record::End => break,
                Record::Strange => {
                    warn!(path = %self.path.display(), records = open.records, "what was kept of the feed goes on in a form of another version; it is left alone");
                    // Nothing is added to it, either: what is told now comes again after the next start.
                    return Ok(if pages.iter().all(|page: &FeedPage| page.more) {
                        Vec::new()
                    } else {
                        pages
                    });
                }
                Record::Bad => {
                    warn!(path = %self.path.display(), records = open.records, "the end of what was kept of the feed is broken; it is asked for anew");
                    break;
                }
                Record::Page(page, bytes) => {
                    good += bytes;
                    // What came as a whole ends with the first page that has no more behind it.
                    if pages.last().is_none_or(|last: &FeedPage| last.more) {
                        open.whole += bytes;
                    } else {
                        open.added += bytes;
                    }
                    pages.push(*page);
                }
            }
        }
        open.file.set_len(good)?;
        open.file.seek(SeekFrom::End(0))?;
        // Half of a whole is of no use: it is asked for anew, and replaces this.
        if pages.iter().all(|page| page.more) {
            return Ok(Vec::new());
        }
        self.open = Some(open);
        Ok(pages)
    }
}

enum Record {
    /// A page, and the bytes of its record.
    Page(Box<FeedPage>, u64),
    End,
    /// Kept by this edge, but by a program that knows more.
    Strange,
    Bad,
}

impl Open {
    fn append(&mut self, page: Text) -> io::Result<()> {
        self.record(page)?;
        self.file.sync_data()
    }

    fn record(&mut self, mut text: Text) -> io::Result<()> {
        let mut nonce = [0; NONCE_LEN];
        getrandom::fill(&mut nonce)?;
        let aad = Aad::from(self.records.to_be_bytes());
        let sealing = Nonce::assume_unique_for_key(nonce);
        let tag = self.key.seal_in_place_separate_tag(sealing, aad, &mut text).map_err(unspecified)?;
        let length = u32::try_from(NONCE_LEN + text.len() + tag.as_ref().len()).map_err(io::Error::other)?;
        let record = [&length.to_be_bytes()[..], &nonce, &text, tag.as_ref()].concat();
        self.file.write_all(&record)?;
        self.records += 1;
        self.added += record.len() as u64;
        Ok(())
    }

    /// A file, after its header; none: it is nothing of this program.
    fn of(mut file: File, secret: &[u8]) -> io::Result<Option<Self>> {
        let mut header = [0; HEADER_BYTES];
        let whole = file.read_exact(&mut header).is_ok();
        let Some(salt) = header.strip_prefix(MAGIC).filter(|_| whole) else { return Ok(None) };
        Ok(Some(Self { key: key(secret, salt)?, file, records: 0, whole: 0, added: 0 }))
    }

    fn next(&mut self) -> io::Result<Record> {
        let mut first = [0; 1];
        if self.file.read(&mut first)? == 0 {
            return Ok(Record::End);
        }
        self.file.seek(SeekFrom::Current(-1))?;
        let Some(text) = self.text()? else { return Ok(Record::Bad) };
        let bytes = (4 + NONCE_LEN + text.len() + CHACHA20_POLY1305.tag_len()) as u64;
        let Ok(page) = FeedPage::read(&text) else { return Ok(Record::Strange) };
        self.records += 1;
        Ok(Record::Page(Box::new(page), bytes))
    }

    /// What the next record says; none: it is broken.
    fn text(&mut self) -> io::Result<Option<Text>> {
        let mut length = [0; 4];
        if self.file.read(&mut length)? != length.len() {
            return Ok(None);
        }
        let length = u32::from_be_bytes(length) as usize;
        if length > RECORD_BYTES {
            return Ok(None);
        }
        let mut record = Zeroizing::new(Vec::new());
        Read::by_ref(&mut self.file).take(length as u64).read_to_end(&mut record)?;
        let Some((nonce, _)) = record.split_first_chunk::<NONCE_LEN>().filter(|_| record.len() == length)
        else {
            return Ok(None);
        };
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let aad = Aad::from(self.records.to_be_bytes());
        let Some(sealed) = record.get_mut(NONCE_LEN..) else { return Ok(None) };
        Ok(self.key.open_in_place(nonce, aad, sealed).ok().map(|text| Zeroizing::new(text.to_vec())))
    }
}

fn key(secret: &[u8], salt: &[u8]) -> io::Result<LessSafeKey> {
    let derived = Salt::new(HKDF_SHA256, salt).extract(secret);
    let key = derived.expand(&[b"af edge feed on disk 1"], &CHACHA20_POLY1305).map(UnboundKey::from);
    Ok(LessSafeKey::new(key.map_err(unspecified)?))
}

fn unspecified(error: ring::error::Unspecified) -> io::Error {
    io::Error::other(error.to_string())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure here is the test's failure")]

    use super::*;

    fn page(after: u64, more: bool) -> Text {
        let epoch = "secret-epoch".into();
        let page = FeedPage { epoch, after, until: after + 1, more, ..FeedPage::default() };
        Zeroizing::new(serde_json::to_vec(&page).unwrap())
    }

    fn kept(dir: &Path, secret: &[u8]) -> Vec<u64> {
        let (_, pages) = Saved::open(dir, secret).unwrap();
        pages.iter().map(|page| page.after).collect()
    }

    #[test]
    fn pages_come_back_as_far_as_they_are_whole() {
        let dir = tempfile::tempdir().unwrap();
        let (mut saved, pages) = Saved::open(dir.path(), b"secret").unwrap();
        assert!(pages.is_empty());
        saved.replace(&[page(0, true), page(1, false)]).unwrap();
        saved.append(page(2, false)).unwrap();
        drop(saved);
        assert_eq!(kept(dir.path(), b"secret"), [0, 1, 2]);
        let path = dir.path().join(FILE);
        let whole = fs::read(&path).unwrap();
        assert!(!whole.windows(12).any(|part| part == b"secret-epoch"));
        assert!(kept(dir.path(), b"another").is_empty());
        fs::write(&path, &whole).unwrap();
        // Cut anywhere, or changed anywhere: what comes back is what was there before.
        for at in 0..whole.len() {
            let mut changed = whole.clone();
            changed[at] ^= 1;
            for broken in [&whole[..at], &changed] {
                fs::write(&path, broken).unwrap();
                let back = kept(dir.path(), b"secret");
                assert!([&[][..], &[0, 1]].contains(&&back[..]), "{at}: {back:?}");
            }
        }
        // After a broken end, it is added to again.
        fs::write(&path, &whole[..whole.len() - 1]).unwrap();
        let (mut saved, pages) = Saved::open(dir.path(), b"secret").unwrap();
        assert_eq!(pages.len(), 2);
        saved.append(page(2, false)).unwrap();
        saved.append(page(3, false)).unwrap();
        assert_eq!(kept(dir.path(), b"secret"), [0, 1, 2, 3]);
    }

    #[test]
    fn what_another_version_has_kept_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let (mut saved, _) = Saved::open(dir.path(), b"secret").unwrap();
        saved.replace(&[page(0, false)]).unwrap();
        let strange = br#"{"epoch":"secret-epoch","after":1,"until":2,"more":false,"updates":[{"revision":2,"kind":"strange"}]}"#;
        saved.open.as_mut().unwrap().record(Zeroizing::new(strange.to_vec())).unwrap();
        saved.append(page(2, false)).unwrap();
        let whole = fs::read(dir.path().join(FILE)).unwrap();
        let (mut saved, pages) = Saved::open(dir.path(), b"secret").unwrap();
        assert_eq!(pages.len(), 1);
        saved.append(page(1, false)).unwrap();
        assert_eq!(fs::read(dir.path().join(FILE)).unwrap(), whole, "the other version finds what it kept");
        saved.replace(&[page(7, false)]).unwrap();
        assert_eq!(kept(dir.path(), b"secret"), [7]);
    }

    #[test]
    fn what_this_version_skips_is_there_for_a_newer_one() {
        let dir = tempfile::tempdir().unwrap();
        let (mut saved, _) = Saved::open(dir.path(), b"secret").unwrap();
        let strange = br#"{"epoch":"e","after":0,"until":2,"more":false,"of":"later","updates":[{"revision":2,"kind":"strange","optional":true,"x":1}]}"#;
        saved.replace(&[Zeroizing::new(strange.to_vec())]).unwrap();
        saved.append(page(2, false)).unwrap();
        drop(saved);
        // This version goes on from it, and adds to it.
        let (mut saved, pages) = Saved::open(dir.path(), b"secret").unwrap();
        assert_eq!(pages.iter().map(|page| page.skipped.len()).collect::<Vec<_>>(), [1, 0]);
        saved.append(page(3, false)).unwrap();
        // Another one finds each letter of what was told.
        let mut open = Open::of(File::open(dir.path().join(FILE)).unwrap(), b"secret").unwrap().unwrap();
        assert_eq!(open.text().unwrap().as_deref().map(|text| &text[..]), Some(&strange[..]));
    }

    #[test]
    fn a_file_that_has_grown_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let (mut saved, _) = Saved::open(dir.path(), b"secret").unwrap();
        saved.replace(&[page(0, false)]).unwrap();
        assert!(!saved.has_grown(0));
        saved.append(page(1, false)).unwrap();
        saved.append(page(2, false)).unwrap();
        assert!(saved.has_grown(0) && !saved.has_grown(1000));
        saved.replace(&[page(5, false)]).unwrap();
        assert!(!saved.has_grown(0));
        assert_eq!(kept(dir.path(), b"secret"), [5]);
    }
}
