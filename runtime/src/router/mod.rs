//! RuntimeRouter: host -> function or site, and path -> rule. What a request found it keeps to the end; what changes is
//! prepared off the request path and then swapped.

mod changes;
mod deployment;
mod entry;
mod hosts;
mod matcher;
pub mod path;
mod rollout;
mod routes;
mod tally;

use std::net::IpAddr;
use std::sync::{Arc, Mutex};

use af_content::source::Fetcher;
use af_contract::{ContentId, Slug};

use self::changes::Owners;
pub use self::deployment::Deployment;
pub use self::entry::Entry;
use self::hosts::HostTable;
pub use self::rollout::Rollout;
pub use self::routes::{Match, Routes};
use crate::artifact::ArtifactStore;
use crate::reports::Reports;
use crate::site::Naming;

/// Nothing answers at a host.
#[derive(Debug, thiserror::Error)]
pub enum RouteError {
    /// Neither a host of this platform nor a domain of anybody.
    #[error(
        "no site or function lives at {0:?}; functions answer at <slug>.<the platform's domain> and at verified domains"
    )]
    UnknownHost(String),
    /// Something may, which this edge has not been told yet.
    #[error("this edge does not know yet what answers where; try again in a moment")]
    NotYet,
    /// A slug that nobody has.
    #[error("there is no function with the slug {0:?}")]
    FunctionNotFound(String),
    /// A deployment that the function does not have, or not among its newest.
    #[error("the function has no deployment {0:?} among its newest; only those have preview hosts")]
    PreviewNotFound(String),
    /// Switched off.
    #[error(
        "the function {:?} is switched off; its owner can switch it on with `af functions update --status ACTIVE`",
        .0.as_str()
    )]
    Inactive(Slug),
    /// Created, but without code.
    #[error("the function {:?} has no deployment yet; make one with `af functions deploy`", .0.as_str())]
    NotDeployed(Slug),
    /// Created, but without files.
    #[error("the site {:?} has no deployment yet; make one with `af sites deploy`", .0.as_str())]
    SiteNotDeployed(Slug),
}

/// What answers at a host.
pub enum Answer {
    /// A function.
    Function(Arc<Entry>),
    /// A directory of files.
    Site(SiteEntry),
}

/// What a site serves.
pub enum SiteEntry {
    /// A site that somebody named.
    Named {
        /// `site_…`
        id: Box<str>,
        /// Its host's first label.
        slug: Slug,
        /// The directory; `None` before the first deploy.
        root: Option<ContentId>,
    },
    /// The directory whose CID the host is.
    Content(ContentId),
}

impl SiteEntry {
    /// `site_…`; none: it is nobody's.
    #[must_use]
    pub fn id(&self) -> Option<&str> {
        match self {
            Self::Named { id, .. } => Some(id),
            Self::Content(_) => None,
        }
    }

    /// The directory, and what it is named by.
    ///
    /// # Errors
    /// When the site has none yet.
    pub fn directory(&self) -> Result<(ContentId, Naming), RouteError> {
        match self {
            Self::Named { root: Some(root), .. } => Ok((*root, Naming::Name)),
            Self::Named { slug, root: None, .. } => Err(RouteError::SiteNotDeployed(slug.clone())),
            Self::Content(root) => Ok((*root, Naming::Cid)),
        }
    }
}

/// A host at which content is served by its CID.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContentHost<'h> {
    /// One of the platform's domains itself.
    Platform,
    /// An address.
    Address,
    /// The label before `.ipfs.` and a domain of the platform.
    Root(&'h str),
}

/// Finds what answers. Cheap to clone.
#[derive(Clone)]
pub struct RuntimeRouter {
    inner: Arc<Inner>,
}

struct Inner {
    /// `.localhost`
    suffixes: Vec<String>,
    hosts: HostTable,
    /// Held while something is replaced, never while anything is awaited or read.
    owners: Mutex<Owners>,
    blocks: Fetcher,
    artifacts: ArtifactStore,
    reports: Reports,
}

impl RuntimeRouter {
    /// An empty table for hosts under these domains. What becomes of deployments is told by `reports`.
    #[must_use]
    pub fn new(domains: &[String], blocks: Fetcher, artifacts: ArtifactStore, reports: Reports) -> Self {
        let suffix = |domain: &String| format!(".{}", domain.to_ascii_lowercase());
        let inner = Inner {
            suffixes: domains.iter().map(suffix).collect(),
            hosts: HostTable::default(),
            owners: Mutex::default(),
            blocks,
            artifacts,
            reports,
        };
        Self { inner: Arc::new(inner) }
    }

    /// What answers at a host, which is lower case and without port.
    ///
    /// # Errors
    /// When nothing does.
    pub fn find(&self, host: &str) -> Result<Arc<Answer>, RouteError> {
        let unknown = || RouteError::UnknownHost(host.chars().take(253).collect());
        let Some(label) = self.label(host) else {
            let slot = self.inner.hosts.domain(host);
            return slot.and_then(|slot| slot.answer()).ok_or_else(unknown);
        };
        if label.is_empty() || label.contains('.') {
            return Err(unknown());
        }
        if let Some(answer) = self.inner.hosts.slug(label).and_then(|slot| slot.answer()) {
            return Ok(answer);
        }
        self.preview(label)
            .or_else(|| by_content_id(label).map(Ok))
            .unwrap_or_else(|| Err(RouteError::FunctionNotFound(label.chars().take(63).collect())))
    }

    /// Whether a host is one at which content may be served by its CID. None of them is anybody's.
    #[must_use]
    pub fn content_host<'h>(&self, host: &'h str) -> Option<ContentHost<'h>> {
        if let Some(label) = self.label(host) {
            let root = label.strip_suffix(".ipfs").filter(|root| !root.is_empty() && !root.contains('.'));
            return root.map(ContentHost::Root);
        }
        let is_domain = |suffix: &String| suffix.strip_prefix('.') == Some(host);
        if self.inner.suffixes.iter().any(is_domain) {
            return Some(ContentHost::Platform);
        }
        let address: Result<IpAddr, _> = host.trim_start_matches('[').trim_end_matches(']').parse();
        address.is_ok().then_some(ContentHost::Address)
    }

    /// The deployment of a function at its preview host. `None`: the label is none of such a host.
    fn preview(&self, label: &str) -> Option<Result<Arc<Answer>, RouteError>> {
        let (slug, id) = label.rsplit_once("--")?;
        match &*self.inner.hosts.slug(slug)?.answer()? {
            Answer::Function(entry) => {
                let found = entry.preview(id).map(|entry| Arc::new(Answer::Function(entry)));
                Some(found.ok_or_else(|| RouteError::PreviewNotFound(id.to_owned())))
            }
            Answer::Site(_) => None,
        }
    }

    /// Another function of a project, by slug or id.
    #[must_use]
    pub fn function_of(&self, project: &str, name: &str) -> Option<Arc<Entry>> {
        let slot = match name.strip_prefix("fn_") {
            Some(_) => self.inner.owned(name),
            None => self.inner.hosts.slug(name),
        };
        match &*slot?.answer()? {
            Answer::Function(entry) if entry.project() == project => Some(entry.clone()),
            _ => None,
        }
    }

    /// A function by its id, with one of its newest deployments, or with what it runs where it has that no more.
    #[must_use]
    pub fn function_with(&self, id: &str, deployment: &str) -> Option<Arc<Entry>> {
        match &*self.inner.owned(id)?.answer()? {
            Answer::Function(entry) if entry.reference().is_some_and(|current| current.id == deployment) => {
                Some(entry.clone())
            }
            Answer::Function(entry) => {
                let asked = deployment.strip_prefix("dep_").and_then(|id| entry.preview(id));
                Some(asked.unwrap_or_else(|| entry.clone()))
            }
            Answer::Site(_) => None,
        }
    }

    /// What a host has before the platform's domain. `None`: it is not under it.
    fn label<'h>(&self, host: &'h str) -> Option<&'h str> {
        self.inner.suffixes.iter().find_map(|suffix| host.strip_suffix(suffix.as_str()))
    }

    /// Whether a certificate may be had for a host: something answers there that was made by somebody, not only asked for.
    #[must_use]
    pub fn may_have_certificate(&self, host: &str) -> bool {
        let slot = match self.label(host) {
            Some(slug) => self.inner.hosts.slug(slug),
            None => self.inner.hosts.domain(host),
        };
        slot.is_some_and(|slot| slot.answer().is_some())
    }
}

/// A directory whose CID is the label.
fn by_content_id(label: &str) -> Option<Arc<Answer>> {
    let root = ContentId::parse(label).ok()?;
    Some(Arc::new(Answer::Site(SiteEntry::Content(root))))
}
