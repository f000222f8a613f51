//! Who signs data items, and pays for them: an Arweave wallet, or an Ed25519 key.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64;
use ring::rand::SystemRandom;
use ring::rsa::{KeyPairComponents, PublicKeyComponents};
use ring::signature::{Ed25519KeyPair, KeyPair, RSA_PSS_SHA256, RsaKeyPair};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject;
use serde::Deserialize;
use zeroize::Zeroizing;

/// Kinds of signatures; of ANS-104.
const ARWEAVE: u16 = 1;
const ED25519: u16 = 2;

/// Bytes of a wallet's modulus, and so of its signatures.
const MODULUS: usize = 512;

/// A wallet's file has 3 KB.
const FILE_BYTES: u64 = 64 << 10;

/// A key. Its secret is shown nowhere.
pub struct Key {
    pair: Pair,
    owner: Vec<u8>,
}

enum Pair {
    Arweave(Box<RsaKeyPair>),
    Ed25519(Ed25519KeyPair),
}

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// Its file cannot be read.
    #[error("it cannot be read")]
    Read(#[from] io::Error),
    /// Others can read it: whoever has it can spend what its account has.
    #[error("other users can read it, who could then spend what its account has; run chmod 600 on it")]
    Open,
    /// It is something else.
    #[error(
        "it is neither an Arweave wallet (a JWK with an RSA key of 4096 bits) nor an Ed25519 key in PEM (`openssl \
         genpkey -algorithm ed25519` writes one)"
    )]
    Format,
    /// Its parts do not fit together.
    #[error("its parts do not fit together: {0}")]
    Rejected(ring::error::KeyRejected),
    /// It signs nothing.
    #[error("the system has no randomness to sign with")]
    Sign,
}

/// A wallet's file (RFC 7518, section 6.3).
#[derive(Deserialize)]
struct Wallet<'a> {
    kty: &'a str,
    n: &'a str,
    e: &'a str,
    d: &'a str,
    p: &'a str,
    q: &'a str,
    dp: &'a str,
    dq: &'a str,
    qi: &'a str,
}

impl Key {
    /// Reads a key's file, which is to be this user's only.
    ///
    /// # Errors
    /// When it cannot be read, others can read it, or it has no key.
    pub fn load(path: &Path) -> Result<Self, KeyError> {
        let file = File::open(path)?;
        if file.metadata()?.permissions().mode() & 0o077 != 0 {
            return Err(KeyError::Open);
        }
        let mut text = Zeroizing::new(Vec::new());
        file.take(FILE_BYTES).read_to_end(&mut text)?;
        Self::parse(&text)
    }

    /// Reads a wallet's JWK, or PKCS#8 in PEM.
    ///
    /// # Errors
    /// When it is neither, or its parts do not fit together.
    pub fn parse(text: &[u8]) -> Result<Self, KeyError> {
        if let Ok(wallet) = serde_json::from_slice::<Wallet<'_>>(text) {
            return wallet.key();
        }
        let der = PrivatePkcs8KeyDer::from_pem_slice(text).map_err(|_| KeyError::Format)?;
        // OpenSSL writes keys without their public half, which leaves nothing to be compared.
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der.secret_pkcs8_der());
        let pair = pair.map_err(|_| KeyError::Format)?;
        let owner = pair.public_key().as_ref().to_vec();
        Ok(Self { pair: Pair::Ed25519(pair), owner })
    }

    /// Its number in ANS-104.
    pub(super) const fn kind(&self) -> u16 {
        match self.pair {
            Pair::Arweave(_) => ARWEAVE,
            Pair::Ed25519(_) => ED25519,
        }
    }

    /// The public key, as items carry it.
    #[must_use]
    pub fn owner(&self) -> &[u8] {
        &self.owner
    }

    /// Who it is on Arweave: 43 characters.
    #[must_use]
    pub fn address(&self) -> String {
        super::id(&self.owner)
    }

    /// Signs. Ed25519 has one signature for a message; a wallet has another one each time.
    ///
    /// # Errors
    /// When the system has no randomness.
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        match &self.pair {
            Pair::Ed25519(pair) => Ok(pair.sign(message).as_ref().to_vec()),
            Pair::Arweave(pair) => {
                let mut signature = vec![0; pair.public().modulus_len()];
                pair.sign(&RSA_PSS_SHA256, &SystemRandom::new(), message, &mut signature)
                    .map_err(|_| KeyError::Sign)?;
                Ok(signature)
            }
        }
    }
}

impl Wallet<'_> {
    fn key(&self) -> Result<Key, KeyError> {
        let decode = |text: &str| BASE64.decode(text).map(Zeroizing::new).map_err(|_| KeyError::Format);
        let n = BASE64.decode(self.n).map_err(|_| KeyError::Format)?;
        if self.kty != "RSA" || n.len() != MODULUS {
            return Err(KeyError::Format);
        }
        let (e, d, p, q) = (decode(self.e)?, decode(self.d)?, decode(self.p)?, decode(self.q)?);
        let (dp, dq, qi) = (decode(self.dp)?, decode(self.dq)?, decode(self.qi)?);
        let components = KeyPairComponents {
            public_key: PublicKeyComponents { n: n.as_slice(), e: e.as_slice() },
            d: d.as_slice(),
            p: p.as_slice(),
            q: q.as_slice(),
            dP: dp.as_slice(),
            dQ: dq.as_slice(),
            qInv: qi.as_slice(),
        };
        let pair = RsaKeyPair::from_components(&components).map_err(KeyError::Rejected)?;
        Ok(Key { pair: Pair::Arweave(Box::new(pair)), owner: n })
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({}, ***)", self.address())
    }
}
