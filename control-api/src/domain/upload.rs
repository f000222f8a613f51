//! Receives a component as a CAR: every hash is recomputed here, nothing that the client claims is believed.

use af_content::car::{CarDecoder, CarError};
use af_content::{DiskStore, FileReadError, Staging};
use af_contract::{Blake3Hash, Code, ContentId, limits};
use bytes::Bytes;
use tokio::sync::mpsc;

use super::Fault;
use super::component::{self, ComponentError};

/// What a CAR may have beyond the file itself: headers, and the nodes that link the leaves.
const OVERHEAD_BYTES: u64 = 1 << 20;

/// What the client says that it sends.
#[derive(Clone, Copy, Debug)]
pub struct Claim {
    /// UnixFS root of the component.
    pub cid: ContentId,
    /// BLAKE3 of the component.
    pub blake3: Blake3Hash,
}

/// A component that is what was claimed and can be run. Its blocks are staged, not stored.
#[derive(Debug)]
pub struct Received {
    /// For the manifest.
    pub code: Code,
    /// To be committed with the deployment.
    pub staging: Staging,
}

/// The connection broke while the body came.
#[derive(Debug, thiserror::Error)]
#[error("the upload broke off")]
pub struct Broken(#[source] pub Box<dyn std::error::Error + Send + Sync>);

/// Why an upload is refused. Nothing of it is kept.
#[derive(Debug, thiserror::Error)]
pub enum UploadError {
    /// Larger than a component may be.
    #[error("the upload is larger than {} MiB, the most that a component may have", limits::CODE_BYTES >> 20)]
    TooLarge,
    /// Not a CAR, cut off, or with a block that does not match its CID.
    #[error(transparent)]
    Car(#[from] CarError),
    /// The CAR is of something else.
    #[error("the CAR's root is {found}, but the request says {claimed}")]
    Cid {
        /// In the request.
        claimed: ContentId,
        /// In the CAR.
        found: String,
    },
    /// The blocks are fine, and together another file than claimed.
    #[error("the file has BLAKE3 {found}, but the request says {claimed}")]
    Blake3 {
        /// In the request.
        claimed: Blake3Hash,
        /// Of the file.
        found: Blake3Hash,
    },
    /// The blocks are no complete file.
    #[error("the blocks do not make up the file: {0}")]
    File(#[source] FileReadError),
    /// The file is no function.
    #[error(transparent)]
    Component(#[from] ComponentError),
    /// The client went away.
    #[error(transparent)]
    Broken(#[from] Broken),
    /// Our disk.
    #[error("the server could not store the upload; its disk may be full, and its log says more")]
    Storage(#[source] af_content::StoreError),
}

impl UploadError {
    pub(super) fn fault(&self) -> Fault {
        match self {
            Self::TooLarge => Fault::TooLarge,
            Self::Storage(_) => Fault::Internal,
            Self::Broken(_) => Fault::Invalid,
            _ => Fault::Refused,
        }
    }

    pub(super) fn code(&self) -> &'static str {
        match self {
            Self::TooLarge => "upload_too_large",
            Self::Car(CarError::Mismatch(_)) => "block_corrupt",
            Self::Car(CarError::Truncated(_)) => "car_truncated",
            Self::Car(_) => "car_invalid",
            Self::Cid { .. } => "cid_mismatch",
            Self::Blake3 { .. } => "blake3_mismatch",
            Self::File(FileReadError::Missing(_)) => "block_missing",
            Self::File(FileReadError::Unused(_)) => "block_unused",
            Self::File(_) => "file_invalid",
            Self::Component(error) => error.code(),
            Self::Broken(_) => "upload_broken",
            Self::Storage(_) => "internal",
        }
    }
}

impl From<FileReadError> for UploadError {
    fn from(error: FileReadError) -> Self {
        match error {
            FileReadError::Store(error) => Self::Storage(error),
            FileReadError::Export(af_content::unixfs::ExportError::TooLarge(_)) => Self::TooLarge,
            error => Self::File(error),
        }
    }
}

/// Receives, verifies and judges. Blocking: for a thread of its own.
///
/// # Errors
/// When what comes is not what was claimed, or is no function. Nothing is kept then.
pub fn receive(
    blocks: &DiskStore,
    claim: &Claim,
    mut chunks: mpsc::Receiver<Result<Bytes, Broken>>,
) -> Result<Received, UploadError> {
    let staging = blocks.stage().map_err(UploadError::Storage)?;
    let mut decoder = CarDecoder::default();
    let mut left = limits::CODE_BYTES + OVERHEAD_BYTES;
    while let Some(chunk) = chunks.blocking_recv() {
        let chunk = chunk?;
        left = left.checked_sub(chunk.len() as u64).ok_or(UploadError::TooLarge)?;
        decoder.push(&chunk);
        while let Some(block) = decoder.next_block()? {
            check_root(&decoder, claim)?;
            staging.put(&block).map_err(UploadError::Storage)?;
        }
    }
    check_root(&decoder, claim)?;
    decoder.finish()?;
    let file = staging.file(&claim.cid, limits::CODE_BYTES)?;
    let found = Blake3Hash::from(blake3::hash(&file));
    if found != claim.blake3 {
        return Err(UploadError::Blake3 { claimed: claim.blake3, found });
    }
    let world = component::judge(&file)?;
    let code = Code { cid: claim.cid, blake3: claim.blake3, size: file.len() as u64, world };
    Ok(Received { code, staging })
}

/// As early as the header is there: a wrong CAR need not be sent to its end.
fn check_root(decoder: &CarDecoder, claim: &Claim) -> Result<(), UploadError> {
    match decoder.roots() {
        None | Some([_]) if decoder.roots().is_none_or(|roots| roots == [claim.cid]) => Ok(()),
        roots => {
            let found: Vec<String> = roots.unwrap_or_default().iter().map(ContentId::to_string).collect();
            let found = if found.is_empty() { "none".to_owned() } else { found.join(", ") };
            Err(UploadError::Cid { claimed: claim.cid, found })
        }
    }
}
