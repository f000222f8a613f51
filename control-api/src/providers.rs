//! Where the master key can come from besides a file: whoever keeps secrets, and gives them by their names. It is asked once, at
//! the start.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use futures::future::BoxFuture;
use reqwest::{Client, Method, RequestBuilder, StatusCode, redirect};
use serde::{Deserialize, Serialize};
use url::Url;
use zeroize::Zeroizing;

use crate::domain::master_key::{BadKey, Key, MasterKey};

/// For a request, from its first byte to its answer's last.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The same of connecting.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// An answer's bytes: a secret with all that is told of it has a few kilobytes.
const ANSWER: usize = 256 << 10;

/// A secret's value.
pub type Secret = Zeroizing<String>;

/// Gives secrets by their names.
pub trait SecretProvider: fmt::Debug + Send + Sync {
    /// The secret's value; none where there is no such secret.
    ///
    /// # Errors
    /// When the provider cannot be asked, or does not answer as it should.
    fn secret<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<Secret>, ProviderError>>;
}

/// Why there is no secret. Nothing in it is secret, nor is anything that the provider said.
#[derive(Debug, thiserror::Error)]
pub enum ProviderError {
    /// Not reached, or not answered in time.
    #[error("{url} cannot be asked for secrets: {source}")]
    Unreachable {
        /// Of the provider.
        url: Url,
        /// Without the address.
        source: reqwest::Error,
    },
    /// Said no.
    #[error("{url} refused {what} with status {status}; check the machine identity, and what it may read")]
    Refused {
        /// Of the provider.
        url: Url,
        /// What was wanted.
        what: &'static str,
        /// What was answered.
        status: u16,
    },
    /// Said something else.
    #[error("{url} answered {what} with something else than its API says")]
    Answer {
        /// Of the provider.
        url: Url,
        /// What was wanted.
        what: &'static str,
    },
    /// Nothing under this name.
    #[error("there is no secret {0}; make it with 32 random bytes, such as `openssl rand -hex 32` prints")]
    Missing(String),
    /// Something under this name.
    #[error("{name} cannot be used: {source}")]
    Key {
        /// Its name.
        name: String,
        /// What a key is.
        source: BadKey,
    },
}

/// The master key under a name, and the one before under the same name with `_PREVIOUS`, where there is one.
///
/// # Errors
/// When the provider cannot be asked, has no such secret, or it is no key.
pub async fn master_key(provider: &dyn SecretProvider, name: &str) -> Result<MasterKey, ProviderError> {
    let key = async |name: String| match provider.secret(&name).await? {
        Some(text) => match text.parse::<Key>() {
            Ok(key) => Ok(Some(key)),
            Err(source) => Err(ProviderError::Key { name, source }),
        },
        None => Ok(None),
    };
    let current = key(name.to_owned()).await?.ok_or_else(|| ProviderError::Missing(name.to_owned()))?;
    Ok(MasterKey::Given { key: current, previous: key(format!("{name}_PREVIOUS")).await? })
}

/// What was read from the environment.
#[derive(Clone, Default)]
pub struct Variables(pub BTreeMap<String, Secret>);

impl SecretProvider for Variables {
    fn secret<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<Secret>, ProviderError>> {
        Box::pin(std::future::ready(Ok(self.0.get(name).cloned())))
    }
}

impl fmt::Debug for Variables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// Which secrets of an Infisical server.
#[derive(Clone, Debug)]
pub struct InfisicalConfig {
    /// The server, such as `https://app.infisical.com`.
    pub url: Url,
    /// The project's id.
    pub project: String,
    /// The environment's slug, such as `prod`.
    pub environment: String,
    /// The folder, `/` for the root.
    pub path: String,
    /// Of the machine identity, by Universal Auth.
    pub client_id: String,
    /// Its secret.
    pub client_secret: Secret,
}

/// An Infisical server (`POST /api/v1/auth/universal-auth/login`, `GET /api/v4/secrets/{name}`).
pub struct Infisical {
    http: Client,
    config: InfisicalConfig,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Login<'a> {
    client_id: &'a str,
    client_secret: &'a str,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct LoggedIn {
    access_token: String,
}

#[derive(Deserialize)]
struct Found {
    secret: FoundSecret,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct FoundSecret {
    secret_value: String,
}

impl Infisical {
    /// A client; nothing is asked yet.
    ///
    /// # Errors
    /// When the system's certificates cannot be used.
    pub fn new(config: InfisicalConfig) -> Result<Self, ProviderError> {
        // The only TLS provider in the program; a second call finds it installed.
        let _installed = rustls::crypto::ring::default_provider().install_default();
        let client = Client::builder().timeout(TIMEOUT).connect_timeout(CONNECT_TIMEOUT);
        // The client's secret and the token go nowhere else.
        let client = client.redirect(redirect::Policy::none()).build();
        let unusable = |source| ProviderError::Unreachable { url: config.url.clone(), source };
        Ok(Self { http: client.map_err(unusable)?, config })
    }

    async fn get(&self, name: &str) -> Result<Option<Secret>, ProviderError> {
        const WHAT: &str = "a secret";
        let login = Login { client_id: &self.config.client_id, client_secret: &self.config.client_secret };
        let request = self.request(Method::POST, &["api", "v1", "auth", "universal-auth", "login"]);
        let (status, answer) = self.send(request.json(&login)).await?;
        let token = Zeroizing::new(self.parse::<LoggedIn>("a login", status, &answer)?.access_token);
        let request = self.request(Method::GET, &["api", "v4", "secrets", name]).query(&[
            ("projectId", &self.config.project),
            ("environment", &self.config.environment),
            ("secretPath", &self.config.path),
        ]);
        let (status, answer) = self.send(request.bearer_auth(&*token)).await?;
        if status == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        let found: Found = self.parse(WHAT, status, &answer)?;
        Ok(Some(found.secret.secret_value.into()))
    }

    fn request(&self, method: Method, path: &[&str]) -> RequestBuilder {
        let mut url = self.config.url.clone();
        // Of http and https, which have paths.
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        self.http.request(method, url)
    }

    async fn send(&self, request: RequestBuilder) -> Result<(StatusCode, Zeroizing<Vec<u8>>), ProviderError> {
        let unreachable = |source: reqwest::Error| ProviderError::Unreachable {
            url: self.config.url.clone(),
            source: source.without_url(),
        };
        let mut response = request.send().await.map_err(unreachable)?;
        let mut answer = Zeroizing::new(Vec::new());
        while let Some(chunk) = response.chunk().await.map_err(unreachable)? {
            if answer.len() + chunk.len() > ANSWER {
                return Err(ProviderError::Answer { url: self.config.url.clone(), what: "a request" });
            }
            answer.extend_from_slice(&chunk);
        }
        Ok((response.status(), answer))
    }

    /// What was answered; where it is something else, nothing of it is told.
    fn parse<'a, T: Deserialize<'a>>(
        &self,
        what: &'static str,
        status: StatusCode,
        answer: &'a [u8],
    ) -> Result<T, ProviderError> {
        let url = self.config.url.clone();
        if !status.is_success() {
            return Err(ProviderError::Refused { url, what, status: status.as_u16() });
        }
        serde_json::from_slice(answer).map_err(|_| ProviderError::Answer { url, what })
    }
}

impl SecretProvider for Infisical {
    fn secret<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<Secret>, ProviderError>> {
        Box::pin(self.get(name))
    }
}

impl fmt::Debug for Infisical {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Infisical").field("url", &self.config.url.as_str()).finish_non_exhaustive()
    }
}
