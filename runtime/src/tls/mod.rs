//! Encrypted connections: which certificate a client gets, where it comes from, and the handshake. Knows no HTTP but
//! the texts that authorities look for.

pub mod acme;
mod certificate;
mod files;
mod handshake;
mod name;
mod store;
mod table;
#[cfg(test)]
mod tests;

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::ServerConfig;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use self::acme::{Acme, AcmeConfig, IssueError, Surroundings};
pub use self::certificate::{Certificate, CertificateError};
use self::files::Fingerprint;
pub use self::files::{CertificateFiles, FilesError};
pub use self::handshake::{Accepted, HandshakeError};
pub use self::name::{DnsName, InvalidName};
use self::store::CertificateStore;
use self::table::Table;
use crate::metrics::Metrics;

/// Who may get a certificate: says so for a lower-case host name, without waiting. For anything else, no authority
/// is ever asked.
pub type Allowed = Arc<dyn Fn(&str) -> bool + Send + Sync>;

/// How often files are looked at for a change. A signal makes it at once.
const FILES: Duration = Duration::from_secs(10);

/// Where certificates come from.
#[derive(Clone, Debug)]
pub struct TlsConfig {
    /// The operator's own.
    pub files: CertificateFiles,
    /// The authority, if there is one to be asked.
    pub acme: Option<AcmeConfig>,
    /// Where certificates that it issues are kept, with the account: readable by this user only.
    pub store_dir: PathBuf,
    /// The platform's domains: functions answer one label below.
    pub domains: Vec<String>,
}

/// Why connections cannot be encrypted.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The operator's own certificates cannot be used.
    #[error(transparent)]
    Files(#[from] FilesError),
    /// Nothing can be ordered with this configuration.
    #[error("cannot set up certificates by ACME")]
    Acme(#[source] IssueError),
    /// The directory for certificates is unusable.
    #[error("cannot use the directory for certificates, {}", dir.display())]
    Store {
        /// Which.
        dir: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// This program's cryptography does not work.
    #[error("cannot set up TLS")]
    Crypto(#[from] rustls::Error),
}

/// Why a certificate that somebody uploaded is not served. The texts are for who brought it.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// It cannot be used at all.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// Not a name.
    #[error(transparent)]
    Name(#[from] InvalidName),
    /// It is for other names.
    #[error("the certificate is not for {0}")]
    NotFor(DnsName),
    /// This node has too many.
    #[error("this node has too many uploaded certificates")]
    Full,
}

/// All that encrypted connections need.
pub struct Tls {
    server: Arc<ServerConfig>,
    /// For an authority that looks for the answer to a challenge.
    challenge: Option<Arc<ServerConfig>>,
    table: Arc<Table>,
    acme: Option<Arc<Acme>>,
    files: CertificateFiles,
    fingerprint: Mutex<Fingerprint>,
    reload: Notify,
    metrics: Arc<Metrics>,
}

impl Tls {
    /// Reads the operator's certificates and opens the store; orders nothing yet. `allowed` says who may get a
    /// certificate. Must be called within the runtime that is to order certificates.
    ///
    /// # Errors
    /// When the configuration cannot be used.
    pub fn build(config: &TlsConfig, allowed: Allowed, metrics: Arc<Metrics>) -> Result<Arc<Self>, TlsError> {
        let table = Arc::new(Table::default());
        let fingerprint = config.files.fingerprint()?;
        table.set_files(&config.files.load()?);
        let acme = config.acme.as_ref().map(|acme| -> Result<_, TlsError> {
            let store = CertificateStore::open(&config.store_dir);
            let store = store.map_err(|source| TlsError::Store { dir: config.store_dir.clone(), source })?;
            let (table, metrics) = (table.clone(), metrics.clone());
            let around = Surroundings { allowed, domains: config.domains.clone(), store, table, metrics };
            Ok(Arc::new(Acme::new(acme, around).map_err(TlsError::Acme)?))
        });
        let acme = acme.transpose()?;
        let challenge = acme.as_ref().map(|acme| handshake::challenge_config(acme.challenges().clone()));
        Ok(Arc::new(Self {
            server: handshake::server_config(table.clone())?,
            challenge: challenge.transpose()?,
            table,
            acme,
            files: config.files.clone(),
            fingerprint: Mutex::new(fingerprint),
            reload: Notify::new(),
            metrics,
        }))
    }

    /// Reads files again when they change, and renews certificates, until `stop`.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        let renewing = async {
            if let Some(acme) = &self.acme {
                acme.clone().run(stop.clone()).await;
            }
        };
        let watching = stop.run_until_cancelled(self.watch());
        tokio::join!(renewing, watching);
    }

    /// Looks at the operator's files now.
    pub fn reload(&self) {
        self.reload.notify_one();
    }

    /// Serves an uploaded certificate (PEM) for names of its, from now on, in place of an issued one.
    ///
    /// # Errors
    /// When it cannot be served for them; then nothing changes.
    pub fn install(&self, names: &[&str], chain: &[u8], key: &[u8]) -> Result<(), InstallError> {
        let certificate = Certificate::from_pem(chain, key)?;
        let names = names.iter().map(|name| DnsName::parse(name)).collect::<Result<Vec<_>, _>>()?;
        if let Some(other) = names.iter().find(|name| !certificate.names.iter().any(|own| own.covers(name))) {
            return Err(InstallError::NotFor(other.clone()));
        }
        for name in names {
            if !self.table.install(name, certificate.key.clone()) {
                return Err(InstallError::Full);
            }
        }
        Ok(())
    }

    /// Serves no uploaded or issued certificate for a name any more, unless it may still have one and is asked for again. What is
    /// no name has none.
    pub fn remove(&self, name: &str) {
        if let Ok(name) = DnsName::parse(name) {
            self.table.remove(&name);
        }
    }

    /// What an authority looks for at a path, if an order waits for it.
    #[must_use]
    pub fn challenge(&self, path: &str) -> Option<String> {
        self.acme.as_ref().and_then(|acme| acme.challenges().text(path))
    }

    async fn watch(&self) {
        if self.files.is_empty() {
            return;
        }
        loop {
            tokio::select! {
                () = tokio::time::sleep(FILES) => {}
                () = self.reload.notified() => {}
            }
            self.read_changes().await;
        }
    }

    /// Serves changed files, or goes on with what was read before.
    async fn read_changes(&self) {
        let files = self.files.clone();
        let before = self.fingerprint.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let read = tokio::task::spawn_blocking(move || {
            let now = files.fingerprint()?;
            if now == before { Ok(None) } else { files.load().map(|certificates| Some((now, certificates))) }
        });
        match read.await {
            Ok(Ok(None)) => {}
            Ok(Ok(Some((now, certificates)))) => {
                self.table.set_files(&certificates);
                *self.fingerprint.lock().unwrap_or_else(PoisonError::into_inner) = now;
                info!(certificates = certificates.len(), "read changed certificates");
            }
            Ok(Err(error)) => {
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                error!(%error, cause, "changed certificates cannot be used; the old ones go on");
            }
            // Only a panic or a stop does that.
            Err(error) => error!(%error, "certificates cannot be read"),
        }
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("files", &self.files).finish_non_exhaustive()
    }
}
