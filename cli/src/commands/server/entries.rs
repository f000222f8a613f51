//! Hands out what functions keep by `wasi:keyvalue` to `af admin backup`, at a socket in the data directory that its owner alone
//! may use: nobody else can read the file while this server works.

use std::fs::{self, Permissions};
use std::io::{self, BufWriter, Write};
use std::net::Shutdown;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use af_runtime::host::KeyValue;
use tokio::net::{UnixListener, UnixStream};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::super::entries::{PATIENCE, at_socket, remove_socket, write};

/// After a connection could not be accepted.
const PAUSE: Duration = Duration::from_secs(1);

/// The socket, and who may ask.
pub struct Entries {
    listener: UnixListener,
    owner: u32,
    data: PathBuf,
    entries: KeyValue,
}

impl Entries {
    /// Listens. A data directory that cannot have sockets is no reason not to serve: a backup says so.
    pub fn bind(data: &Path, entries: KeyValue) -> Option<Self> {
        let bound = remove_socket(data).and_then(|()| {
            at_socket(data, |path| {
                let listener = UnixListener::bind(path)?;
                fs::set_permissions(path, Permissions::from_mode(0o600))?;
                Ok((listener, fs::metadata(path)?.uid()))
            })
        });
        match bound {
            Ok((listener, owner)) => Some(Self { listener, owner, data: data.to_owned(), entries }),
            Err(error) => {
                warn!(%error, "no backup can have what functions keep by wasi:keyvalue while this server works");
                None
            }
        }
    }

    /// Answers one after the other, until `stop`.
    pub async fn serve(self, stop: CancellationToken) {
        loop {
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                () = stop.cancelled() => break,
            };
            let answered = match accepted {
                Ok((stream, _)) => self.answer(stream, &stop).await,
                Err(error) => {
                    tokio::time::sleep(PAUSE).await;
                    Err(error)
                }
            };
            if let Err(error) = answered {
                warn!(%error, "what functions keep by wasi:keyvalue was not handed out to a backup");
            }
        }
        if let Err(error) = remove_socket(&self.data) {
            warn!(%error, "the socket for backups could not be removed");
        }
    }

    async fn answer(&self, stream: UnixStream, stop: &CancellationToken) -> io::Result<()> {
        let asks = stream.peer_cred()?.uid();
        if asks != self.owner && asks != 0 {
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, "somebody else has asked"));
        }
        let stream = stream.into_std()?;
        stream.set_nonblocking(false)?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let (end, entries) = (stream.try_clone()?, self.entries.clone());
        let mut writing = tokio::task::spawn_blocking(move || {
            let mut out = BufWriter::new(stream);
            let count = write(&entries, &mut out).map_err(io::Error::other)?;
            out.flush().map(|()| count)
        });
        let written = tokio::select! {
            written = &mut writing => written,
            () = stop.cancelled() => {
                end.shutdown(Shutdown::Both)?;
                writing.await
            }
        };
        let count = written.map_err(io::Error::other)??;
        info!(count, "what functions keep by wasi:keyvalue was handed out to a backup");
        Ok(())
    }
}
