//! What a deployment was given: its settings, its files, the stores of its project, and where its requests may go.

use std::sync::Arc;

use af_content::private::Cipher;
use af_contract::{ContentId, HostPattern, Settings, StoreName};

use super::egress::Egress;
use super::filesystem::Assets;
use super::keyvalue::{KeyValue, Stores};
use super::outbound::{OutboundClient, Trust};
use crate::content::ContentStore;

/// What all functions of a node reach the world through. Cheap to clone.
#[derive(Clone)]
pub struct Services {
    /// The policy for outgoing requests.
    pub egress: Egress,
    /// How certificates of those are judged.
    pub trust: Trust,
    /// Entries of all projects.
    pub keyvalue: KeyValue,
    /// Files of all deployments and sites; none on a node without content.
    pub content: Option<ContentStore>,
}

/// What a deployment's owner gave it.
#[derive(Clone, Debug, Default)]
pub struct Given {
    /// Whose it is: functions of one project share its stores.
    pub project: String,
    /// Values by name.
    pub settings: Settings,
    /// The directory of its files.
    pub assets: Option<ContentId>,
    /// What they are encrypted with, if they are.
    pub cipher: Option<Cipher>,
    /// Stores besides the default one.
    pub stores: Vec<StoreName>,
    /// Hosts that it may send requests to; without it any of the public internet.
    pub egress: Option<Vec<HostPattern>>,
}

/// One deployment's, shared by all its instances.
pub struct Grants {
    /// Values by name.
    pub settings: Settings,
    /// Its files.
    pub assets: Option<Assets>,
    /// Sends its outgoing requests.
    pub outbound: Arc<OutboundClient>,
    keyvalue: KeyValue,
    project: Arc<str>,
    stores: Arc<[StoreName]>,
}

impl Grants {
    /// Through a node's services.
    #[must_use]
    pub fn new(services: &Services, given: Given) -> Self {
        let assets = services.content.as_ref().zip(given.assets);
        Self {
            settings: given.settings,
            assets: assets.map(|(store, root)| Assets { root, store: store.clone(), cipher: given.cipher }),
            outbound: Arc::new(OutboundClient::new(
                services.egress.clone(),
                services.trust.clone(),
                given.egress,
            )),
            keyvalue: services.keyvalue.clone(),
            project: given.project.into(),
            stores: given.stores.into(),
        }
    }

    /// For one instance.
    #[must_use]
    pub fn stores(&self) -> Stores {
        Stores::new(self.keyvalue.clone(), self.project.clone(), self.stores.clone())
    }
}
