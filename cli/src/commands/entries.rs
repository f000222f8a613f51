//! What functions keep by `wasi:keyvalue`, in backups: a line of JSON for each entry, with its key and value in Base64, and one
//! that says how many there were. Where a server works, only that can read the file, and hands them out at a socket beside it.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use af_control_api::store::backup::BackupError;
use af_runtime::host::{CopyError, KeyValue};
use anyhow::Context;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Serialize};

use super::server::try_lock;

/// Of entries, in a server's data directory.
const FILE: &str = "keyvalue.redb";

/// Where a server hands them out.
const SOCKET: &str = "keyvalue.sock";

/// A line: a value of 1 MiB, and what Base64 adds.
const LINE: u64 = 4 << 20;

/// How long either side waits for the other. A server answers one backup after the other.
pub const PATIENCE: Duration = Duration::from_secs(300);

/// Addresses of sockets have 107 bytes at most.
const ADDRESS: usize = 100;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct End {
    end_after_entries: u64,
}

/// Where a server with this data directory has its entries.
pub fn file(data: &Path) -> PathBuf {
    data.join(FILE)
}

/// Writes all entries of a data directory, and returns how many. None while a server works there misses a write.
pub fn put(data: &Path, out: &mut impl Write) -> anyhow::Result<u64> {
    // Held until all are written: a server that starts meanwhile says who keeps it out.
    let Some(_lock) = try_lock(data)? else { return forward(data, out) };
    let entries = KeyValue::open(Some(&file(data)));
    let entries = entries.with_context(|| format!("cannot read {}", file(data).display()))?;
    Ok(write(&entries, out)?)
}

/// Writes all entries, as they are at one moment.
pub fn write(entries: &KeyValue, out: &mut impl Write) -> Result<u64, CopyError> {
    let count = entries.copy(|key, value| {
        let entry = [BASE64.encode(key), BASE64.encode(value)];
        line(out, &entry)
    })?;
    line(out, &End { end_after_entries: count })?;
    Ok(count)
}

/// What the server that works there hands out.
fn forward(data: &Path, out: &mut impl Write) -> anyhow::Result<u64> {
    let stream = at_socket(data, |path| UnixStream::connect(path)).with_context(|| {
        format!(
            "the server that uses {} does not hand out what functions keep by wasi:keyvalue: it is starting, stopping, or of an \
             older version. Try again, or stop it for the backup",
            data.display()
        )
    })?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut entries = Entries { from: &mut BufReader::new(stream), count: 0, ended: false };
    let ended = "the server has ended its answer early; its log may say why";
    while let Some(text) = entries.line().context(ended)? {
        out.write_all(&text).context("cannot write the backup")?;
    }
    line(out, &End { end_after_entries: entries.count })?;
    Ok(entries.count)
}

/// Makes the file `path` of the entries that come next, and returns how many.
pub fn restore(path: &Path, from: &mut impl BufRead) -> Result<u64, BackupError> {
    let mut entries = Entries { from, count: 0, ended: false };
    let made = KeyValue::make(path, &mut entries).map_err(|error| match error {
        CopyError::Stream(error) if error.kind() == io::ErrorKind::InvalidData => damaged(&error.to_string()),
        CopyError::Stream(error) => BackupError::File(error),
        CopyError::Entry => damaged(&error.to_string()),
        CopyError::Store(error) => BackupError::Behind(Box::new(error)),
    })?;
    File::open(path).and_then(|file| file.sync_all())?;
    Ok(made)
}

/// Entries line by line.
struct Entries<'a, R> {
    from: &'a mut R,
    count: u64,
    ended: bool,
}

impl<R: BufRead> Entries<'_, R> {
    /// The next entry's line; none after the last one, if no one is missing.
    fn line(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut text = Vec::new();
        self.from.by_ref().take(LINE).read_until(b'\n', &mut text)?;
        if text.last() != Some(&b'\n') {
            return Err(wrong("it ends early"));
        }
        if text.starts_with(b"[") {
            self.count += 1;
            return Ok(Some(text));
        }
        let End { end_after_entries } =
            serde_json::from_slice(&text).map_err(|_| wrong("it has a line that is none"))?;
        if end_after_entries != self.count { Err(wrong("entries are missing")) } else { Ok(None) }
    }

    fn entry(&mut self) -> io::Result<Option<(Vec<u8>, Vec<u8>)>> {
        let Some(text) = self.line()? else { return Ok(None) };
        let bytes = |text: String| BASE64.decode(text).map_err(|_| wrong("it has an entry that is none"));
        let [key, value]: [String; 2] =
            serde_json::from_slice(&text).map_err(|_| wrong("it has a line that is none"))?;
        Ok(Some((bytes(key)?, bytes(value)?)))
    }
}

impl<R: BufRead> Iterator for Entries<'_, R> {
    type Item = io::Result<(Vec<u8>, Vec<u8>)>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let entry = self.entry().transpose();
        self.ended = !matches!(entry, Some(Ok(_)));
        entry
    }
}

/// Does something with the socket's path, or a shorter one where it is too long for an address.
pub fn at_socket<T>(data: &Path, work: impl FnOnce(&Path) -> io::Result<T>) -> io::Result<T> {
    let path = data.join(SOCKET);
    if path.as_os_str().len() <= ADDRESS {
        return work(&path);
    }
    let dir = File::open(data)?;
    work(&PathBuf::from(format!("/proc/self/fd/{}", dir.as_raw_fd())).join(SOCKET))
}

/// Of a server that did not come to it.
pub fn remove_socket(data: &Path) -> io::Result<()> {
    match fs::remove_file(data.join(SOCKET)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn line(out: &mut impl Write, value: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer(&mut *out, value)?;
    out.write_all(b"\n")
}

fn wrong(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

fn damaged(what: &str) -> BackupError {
    BackupError::Damaged(what.to_owned())
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn what_is_cut_off_or_no_entry_is_damaged() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE);
        let entry = r#"["AXABc2s=","dg=="]"#;
        let end = |count: u32| format!(r#"{{"end_after_entries":{count}}}"#);
        let restored = |text: &str| restore(&path, &mut text.as_bytes());
        assert_eq!(restored(&format!("{entry}\n{}\n", end(1))).unwrap(), 1);
        assert_eq!(restored(&format!("{}\n", end(0))).unwrap(), 0);
        for wrong in [
            String::new(),
            format!("{entry}\n"),
            format!("{entry}\n{}", end(1)),
            format!("{entry}\n{}\n", end(2)),
            format!("{entry}\n{entry}\n{}\n", end(2)),
            format!("[\"AXABc2s=\"]\n{}\n", end(1)),
            format!("[\"?\",\"\"]\n{}\n", end(1)),
            format!("[\"dg==\",\"\"]\n{}\n", end(1)),
        ] {
            let restored = restored(&wrong);
            assert!(matches!(restored, Err(BackupError::Damaged(_))), "{wrong} {restored:?}");
        }
    }

    #[test]
    fn a_data_directory_with_a_long_name_has_a_socket() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("d".repeat(200));
        fs::create_dir(&data).unwrap();
        let listener = at_socket(&data, |path| UnixListener::bind(path)).unwrap();
        let asking = std::thread::spawn({
            let data = data.clone();
            move || put_from(&data)
        });
        let (mut stream, _) = listener.accept().unwrap();
        stream.write_all(b"{\"end_after_entries\":0}\n").unwrap();
        assert_eq!(asking.join().unwrap(), 0);
        drop(listener);
        remove_socket(&data).unwrap();
        remove_socket(&data).unwrap();
    }

    fn put_from(data: &Path) -> u64 {
        forward(data, &mut Vec::new()).unwrap()
    }
}
