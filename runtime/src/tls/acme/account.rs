//! This node's account at the authority: made when it is first needed, and kept.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use instant_acme::{Account, AccountBuilder, AccountCredentials, NewAccount};
use serde::{Deserialize, Serialize};
use tracing::{info, warn};

use super::{Acme, IssueError};
use crate::tls::CertificateStore;

/// How long a few exchanges with the authority may take.
const EXCHANGES: Duration = Duration::from_secs(30);

/// The authority, and who asks it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authority {
    /// The URL of its directory (RFC 8555 section 7.1.1).
    pub directory: String,
    /// Where it may write to.
    pub email: Option<String>,
    /// The root of a private authority's own certificate, PEM.
    pub root: Option<PathBuf>,
}

/// What the store keeps.
#[derive(Serialize, Deserialize)]
struct Kept {
    directory: String,
    email: Option<String>,
    credentials: AccountCredentials,
}

impl Acme {
    /// The account, made if there is none.
    pub(super) async fn account(&self) -> Result<Account, IssueError> {
        if let Some(account) = self.account.load_full() {
            return Ok(Account::clone(&account));
        }
        let _opening = self.opening.lock().await;
        if let Some(account) = self.account.load_full() {
            return Ok(Account::clone(&account));
        }
        let account = match in_time(open(&self.authority, &self.store)).await {
            Err(error) if error.is_unknown_account() => return self.renew_account().await,
            opened => opened?,
        };
        self.account.store(Some(Arc::new(account.clone())));
        Ok(account)
    }

    /// The authority does not know the account any more, as one that was set up anew.
    pub(super) async fn renew_account(&self) -> Result<Account, IssueError> {
        let account = in_time(create(&self.authority, &self.store)).await?;
        self.account.store(Some(Arc::new(account.clone())));
        Ok(account)
    }
}

/// The account of the last time, or a new one.
async fn open(authority: &Authority, store: &CertificateStore) -> Result<Account, IssueError> {
    let kept = read(store).await.filter(|kept| kept.directory == authority.directory);
    let Some(kept) = kept else { return create(authority, store).await };
    let account = builder(authority)?.from_credentials(kept.credentials).await?;
    if kept.email != authority.email {
        // It is kept with the next account only: telling it again at the next start does no harm.
        account.update_contacts(&contacts(&as_contact(authority))).await?;
    }
    Ok(account)
}

/// A new one, in the place of any other.
async fn create(authority: &Authority, store: &CertificateStore) -> Result<Account, IssueError> {
    let contact = as_contact(authority);
    let new = NewAccount {
        contact: &contacts(&contact),
        terms_of_service_agreed: true,
        only_return_existing: false,
    };
    let directory = authority.directory.clone();
    let (account, credentials) = builder(authority)?.create(&new, directory.clone(), None).await?;
    let kept = Kept { directory, email: authority.email.clone(), credentials };
    let json = serde_json::to_vec_pretty(&kept).map_err(std::io::Error::other)?;
    let store = store.clone();
    blocking(move || store.save_account(&json)).await??;
    info!(directory = authority.directory, account = account.id(), "made an account for certificates");
    Ok(account)
}

async fn read(store: &CertificateStore) -> Option<Kept> {
    let store = store.clone();
    let json = blocking(move || store.account()).await.ok()??;
    match serde_json::from_slice(&json) {
        Ok(kept) => Some(kept),
        Err(error) => {
            warn!(%error, "the stored account for certificates is unreadable; making another");
            None
        }
    }
}

fn builder(authority: &Authority) -> Result<AccountBuilder, IssueError> {
    // The client takes the process's provider; a second call finds it installed.
    let _installed = rustls::crypto::ring::default_provider().install_default();
    Ok(match &authority.root {
        Some(root) => Account::builder_with_root(root)?,
        None => Account::builder()?,
    })
}

fn as_contact(authority: &Authority) -> Option<String> {
    authority.email.as_ref().map(|email| format!("mailto:{email}"))
}

fn contacts(contact: &Option<String>) -> Vec<&str> {
    contact.as_deref().into_iter().collect()
}

/// Waits for a few exchanges with the authority. Its client has no time-outs of its own.
///
/// # Errors
/// When they fail, or take too long.
pub async fn in_time<T>(exchanges: impl Future<Output = Result<T, IssueError>>) -> Result<T, IssueError> {
    tokio::time::timeout(EXCHANGES, exchanges).await.unwrap_or(Err(IssueError::Silent))
}

/// Runs something that waits for the disk.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, IssueError> {
    tokio::task::spawn_blocking(work).await.map_err(|_| IssueError::Stopped)
}
