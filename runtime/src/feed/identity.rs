//! Who an edge is: its own key, and the control plane's.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use af_contract::edge::{Bound, EdgeError, JoinToken, KeyPair, PublicKey, prove};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use serde::{Deserialize, Serialize};
use tracing::info;
use zeroize::{Zeroize, Zeroizing};

use super::{FeedConfig, FeedError, client};

/// In the data directory, mode 0600. Who has it is the edge.
const FILE: &str = "edge.json";

/// The same of an edge that is about to join.
const JOINING: &str = "edge.joining.json";

/// An edge that has joined.
pub struct Identity {
    edge: String,
    feed_key: PublicKey,
    pair: KeyPair,
    secret: Zeroizing<Vec<u8>>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Stored {
    edge: String,
    feed_key: PublicKey,
    /// PKCS #8, base64url.
    key: String,
}

/// A key that nobody knows yet, or whose acceptance this edge has not heard of.
#[derive(Serialize, Deserialize)]
struct Joining {
    edge: String,
    /// PKCS #8, base64url.
    key: String,
}

impl Drop for Joining {
    fn drop(&mut self) {
        self.key.zeroize();
    }
}

impl Drop for Stored {
    fn drop(&mut self) {
        self.key.zeroize();
    }
}

impl Identity {
    /// The one in the data directory; else joins.
    ///
    /// # Errors
    /// When there is none and no token, the control plane refuses it, or the disk cannot be used.
    pub async fn load_or_join(config: &FeedConfig) -> Result<Self, FeedError> {
        let path = config.dir.join(FILE);
        let failed = |source| FeedError::Disk { path: path.clone(), source };
        match fs::read(&path) {
            Ok(text) => {
                let text = Zeroizing::new(text);
                let stored: Stored = serde_json::from_slice(&text).map_err(|error| failed(error.into()))?;
                match &config.join {
                    Some(token) if token.edge != stored.edge => Err(FeedError::Other {
                        dir: config.dir.clone(),
                        found: stored.edge.clone(),
                        wanted: token.edge.clone(),
                    }),
                    _ => Ok(Self::of(&stored)?),
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let token = config.join.as_ref().ok_or(FeedError::NotJoined)?;
                let joining = config.dir.join(JOINING);
                let key = joining_key(&joining, token)?;
                let stored = join(config, token, &key).await?;
                keep(&path, &stored).map_err(failed)?;
                // Should it stay, it is the key of this edge all the same.
                let _kept = fs::remove_file(&joining);
                info!(edge = stored.edge, "joined");
                Ok(Self::of(&stored)?)
            }
            Err(error) => Err(failed(error)),
        }
    }

    fn of(stored: &Stored) -> Result<Self, EdgeError> {
        let secret = BASE64.decode(stored.key.as_bytes()).map_err(|_| EdgeError::Form)?;
        let secret = Zeroizing::new(secret);
        let pair = KeyPair::from_pkcs8(&secret)?;
        Ok(Self { edge: stored.edge.clone(), feed_key: stored.feed_key, pair, secret })
    }

    /// `edge_…`
    #[must_use]
    pub fn edge(&self) -> &str {
        &self.edge
    }

    /// The control plane's.
    pub(super) const fn feed_key(&self) -> &PublicKey {
        &self.feed_key
    }

    /// What nobody else has.
    pub(super) fn secret(&self) -> &[u8] {
        &self.secret
    }

    /// A proof for one request, bound to the key that its answer is sealed to and to its body, as far as there are any.
    ///
    /// # Errors
    /// When the system has no randomness.
    pub fn prove(&self, bound: Bound) -> Result<String, EdgeError> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let now = i64::try_from(now).unwrap_or(i64::MAX);
        prove(&self.pair, &self.edge, &self.feed_key, bound, now)
    }
}

/// The key to join with, which is kept before it is sent: where the answer is lost, the token counts for this key again.
fn joining_key(path: &Path, token: &JoinToken) -> Result<Zeroizing<Vec<u8>>, FeedError> {
    let failed = |source| FeedError::Disk { path: path.to_owned(), source };
    if let Ok(text) = fs::read(path).map(Zeroizing::new)
        && let Ok(kept) = serde_json::from_slice::<Joining>(&text)
        && kept.edge == token.edge
    {
        return Ok(Zeroizing::new(BASE64.decode(kept.key.as_bytes()).map_err(|_| EdgeError::Form)?));
    }
    let secret = KeyPair::generate()?;
    keep(path, &Joining { edge: token.edge.clone(), key: BASE64.encode(&*secret) }).map_err(failed)?;
    Ok(Zeroizing::new(secret.to_vec()))
}

async fn join(config: &FeedConfig, token: &JoinToken, secret: &[u8]) -> Result<Stored, FeedError> {
    let public = KeyPair::from_pkcs8(secret)?.public();
    let feed_key = client::join(&config.control, &token.request(&public)).await?.feed_key;
    token.check(&feed_key)?;
    Ok(Stored { edge: token.edge.clone(), feed_key, key: BASE64.encode(secret) })
}

fn keep(path: &Path, stored: &impl Serialize) -> io::Result<()> {
    let partial = path.with_extension("partial");
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&partial)?;
    file.write_all(&Zeroizing::new(serde_json::to_vec(stored)?))?;
    file.sync_all()?;
    fs::rename(&partial, path)?;
    fs::File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
}
