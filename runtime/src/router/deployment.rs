//! A deployment as the edge uses it: its verified manifest and the way to its compiled code.

use std::sync::Arc;

use af_content::DiskStore;
use af_contract::{ContentId, DeploymentRef, Limits, Manifest};
use http::HeaderValue;

use crate::artifact::{Artifact, ArtifactError, ArtifactStore};

/// One immutable version of a function.
pub struct Deployment {
    id: String,
    manifest_id: ContentId,
    manifest: Manifest,
    header: HeaderValue,
    artifacts: ArtifactStore,
}

impl Deployment {
    /// Reads the manifest and checks it against its CID and the function that it must be of.
    pub(super) async fn load(
        reference: &DeploymentRef,
        function: &str,
        blocks: &DiskStore,
        artifacts: &ArtifactStore,
    ) -> Result<Arc<Self>, ArtifactError> {
        let id = reference.manifest;
        let store = blocks.clone();
        let block = tokio::task::spawn_blocking(move || store.block(&id)).await;
        let bytes = block.map_err(ArtifactError::interrupted)??.ok_or(ArtifactError::Missing(id))?;
        let manifest =
            Manifest::decode(&bytes).map_err(|error| ArtifactError::Manifest(error.to_string()))?;
        if manifest.function != function {
            let reason = format!("it is of {}, not of {function}", manifest.function);
            return Err(ArtifactError::Manifest(reason));
        }
        let header = HeaderValue::try_from(id.to_string());
        let header = header.map_err(|error| ArtifactError::Manifest(error.to_string()))?;
        let artifacts = artifacts.clone();
        Ok(Arc::new(Self { id: reference.id.clone(), manifest_id: id, manifest, header, artifacts }))
    }

    /// The compiled code, from memory, this node's disk, or the content that it is made of.
    ///
    /// # Errors
    /// When the content is missing or corrupt, or the component cannot be compiled or linked.
    pub async fn artifact(&self) -> Result<Arc<Artifact>, ArtifactError> {
        self.artifacts.artifact(&self.manifest.code).await
    }

    /// `dep_…`
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// `fn_…`
    #[must_use]
    pub fn function(&self) -> &str {
        &self.manifest.function
    }

    /// The manifest's CID.
    #[must_use]
    pub fn manifest_id(&self) -> &ContentId {
        &self.manifest_id
    }

    /// The manifest.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// What one request may use.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.manifest.limits
    }

    /// The manifest's CID for the response header that names who answered.
    pub(crate) fn header(&self) -> HeaderValue {
        self.header.clone()
    }
}
