//! The manifest: the one immutable document that a deployment is. Its CID is the deployment's identity.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::limits::MANIFEST_BYTES;
use crate::{
    Blake3Hash, ContentId, Cors, HostPattern, Limits, Private, SettingName, StoreName, Trigger, World,
};

/// Everything that decides how a function behaves, in canonical DAG-CBOR.
///
/// A later version of the platform adds fields as optional ones that are left out when empty, so
/// that every older manifest keeps its bytes and its CID.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Version of this format: 1.
    pub version: u64,
    /// The function that this is a deployment of (`fn_…`).
    pub function: String,
    /// The component to run.
    pub code: Code,
    /// Root of the directory of files that it may read, in UnixFS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub assets: Option<ContentId>,
    /// What a request may use.
    pub limits: Limits,
    /// Requests that one instance may answer, one after another; without it the world's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reuse: Option<u32>,
    /// Requests that one instance may work for at the same time, while it waits; without it the world's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<u32>,
    /// Hosts that it may send requests to; without it, any of the public internet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub egress: Option<Vec<HostPattern>>,
    /// Key-value stores of its project that it may open besides the default one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stores: Vec<StoreName>,
    /// Which pages of other origins may call it; without it, the function answers for itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cors: Option<Cors>,
    /// Whether the edge compresses its responses.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub compress: bool,
    /// Names of its settings, and the BLAKE3 of each sealed value, so that another value is another
    /// deployment. The values stay with the control plane.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub settings: BTreeMap<SettingName, Blake3Hash>,
    /// How its code and assets are encrypted; without it they are as they are. What [`Self::code`] and
    /// [`Self::assets`] name are the encrypted bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub private: Option<Private>,
    /// When it is called without a request, and where.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub triggers: Vec<Trigger>,
    /// The manifest that was live before, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<ContentId>,
    /// Who deployed it (`usr_…`).
    pub author: String,
    /// When, in milliseconds since 1970 UTC.
    pub created_at: u64,
}

/// The component of a deployment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Code {
    /// UnixFS root or single raw block of the component.
    pub cid: ContentId,
    /// BLAKE3 of the whole component file.
    pub blake3: Blake3Hash,
    /// Its length in bytes.
    pub size: u64,
    /// The HTTP world that it exports.
    pub world: World,
}

/// Why bytes are not a manifest.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// More than [`MANIFEST_BYTES`].
    #[error("a manifest of {0} bytes is over the limit of {MANIFEST_BYTES}")]
    TooLarge(usize),
    /// Not DAG-CBOR, or not of a manifest's shape.
    #[error("not a manifest: {0}")]
    Syntax(String),
    /// A format that this version of the platform does not know.
    #[error("manifest version {0} is not known; this platform reads version 1")]
    Version(u64),
    /// The same values have another, canonical encoding, so the CID would not be unique.
    #[error("the manifest is not in canonical DAG-CBOR")]
    NotCanonical,
}

impl Manifest {
    /// The canonical bytes. Their CID (dag-cbor, sha2-256) is the deployment's identity.
    ///
    /// # Errors
    /// When the result would be larger than [`MANIFEST_BYTES`].
    pub fn encode(&self) -> Result<Vec<u8>, ManifestError> {
        let bytes = serde_ipld_dagcbor::to_vec(self).map_err(|e| ManifestError::Syntax(e.to_string()))?;
        if bytes.len() > MANIFEST_BYTES { Err(ManifestError::TooLarge(bytes.len())) } else { Ok(bytes) }
    }

    /// Reads a manifest and checks that the bytes are canonical.
    ///
    /// # Errors
    /// When the bytes are too many, no manifest, of another version or not canonical.
    pub fn decode(bytes: &[u8]) -> Result<Self, ManifestError> {
        if bytes.len() > MANIFEST_BYTES {
            return Err(ManifestError::TooLarge(bytes.len()));
        }
        let manifest: Self =
            serde_ipld_dagcbor::from_slice(bytes).map_err(|e| ManifestError::Syntax(e.to_string()))?;
        if manifest.version != 1 {
            return Err(ManifestError::Version(manifest.version));
        }
        if manifest.encode()? != bytes {
            return Err(ManifestError::NotCanonical);
        }
        Ok(manifest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cors::Fields;
    use crate::private::{self, Sealed};
    use crate::{Codec, HashKind};

    fn manifest() -> Manifest {
        Manifest {
            version: 1,
            function: "fn_1".into(),
            code: Code {
                cid: ContentId::new(Codec::Raw, HashKind::Sha2_256, [7; 32]),
                blake3: Blake3Hash([9; 32]),
                size: 4,
                world: World::Proxy02,
            },
            assets: None,
            limits: Limits::default(),
            reuse: None,
            concurrency: None,
            egress: None,
            stores: Vec::new(),
            cors: None,
            compress: false,
            settings: BTreeMap::new(),
            private: None,
            triggers: Vec::new(),
            parent: None,
            author: "usr_1".into(),
            created_at: 1,
        }
    }

    fn any_origin() -> Cors {
        Fields { origins: vec!["*".into()], ..Fields::default() }.try_into().unwrap()
    }

    #[test]
    fn bytes_round_trip() {
        for parent in [None, Some(ContentId::new(Codec::DagCbor, HashKind::Blake3, [1; 32]))] {
            let manifest = Manifest { parent, ..manifest() };
            assert_eq!(Manifest::decode(&manifest.encode().unwrap()).unwrap(), manifest);
            let rich = Manifest {
                assets: Some(ContentId::new(Codec::DagPb, HashKind::Sha2_256, [5; 32])),
                concurrency: Some(4),
                egress: Some(vec![HostPattern::parse("*.example.com").unwrap()]),
                stores: vec![StoreName::parse("sessions").unwrap()],
                cors: Some(any_origin()),
                compress: true,
                limits: Limits { requests_per_second: Some(5), ..Limits::default() },
                settings: [(SettingName::parse("KEY").unwrap(), Blake3Hash([3; 32]))].into(),
                private: Some(Private {
                    format: private::FORMAT,
                    key: Blake3Hash([4; 32]),
                    code: Sealed::new(vec![1, 2, 3]),
                }),
                triggers: vec!["@hourly=/tick".parse().unwrap()],
                ..manifest
            };
            assert_eq!(Manifest::decode(&rich.encode().unwrap()).unwrap(), rich);
        }
    }

    #[test]
    fn the_encoding_never_changes() {
        // The CID of every deployment ever made depends on these bytes.
        let hash = blake3::hash(&manifest().encode().unwrap());
        assert_eq!(
            hash.to_hex().as_str(),
            "0f677ddffad34e7f3850ee94f005a30e94ec374db437fb88451d81c321f30383"
        );
    }

    #[test]
    fn other_versions_and_trailing_bytes_are_refused() {
        let newer = Manifest { version: 2, ..manifest() };
        assert!(matches!(Manifest::decode(&newer.encode().unwrap()), Err(ManifestError::Version(2))));
        let mut bytes = manifest().encode().unwrap();
        bytes.push(0);
        assert!(Manifest::decode(&bytes).is_err());
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_a_canonical_manifest_or_refused(
            at in 0usize..400, value: u8, cut in 0usize..400,
        ) {
            let mut bytes = manifest().encode().unwrap();
            let at = at % bytes.len();
            bytes[at] = value;
            bytes.truncate(bytes.len().min(cut.max(1)));
            if let Ok(manifest) = Manifest::decode(&bytes) {
                proptest::prop_assert_eq!(manifest.encode().unwrap(), bytes);
            }
        }
    }
}
