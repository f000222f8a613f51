//! What sinks that speak HTTP have in common: a client, an address, and answers of bounded size.

use std::time::Duration;

use bytes::BytesMut;
use reqwest::header::RETRY_AFTER;
use reqwest::{Client, Method, RequestBuilder, Response, StatusCode, redirect};
use serde_json::Value;
use url::Url;

use super::Token;
use super::error::SinkError;

/// Until a connection stands.
const CONNECT: Duration = Duration::from_secs(10);

/// A request and its answer, where nothing large is sent: a node may pin for a while before it says so.
const EXCHANGE: Duration = Duration::from_secs(120);

/// An answer, bytes. A page of ten pins has ten kilobytes.
const ANSWER_BYTES: usize = 1 << 20;

/// Gateways with a host per item send there.
const REDIRECTS: usize = 3;

/// Characters of a refusal's reason that are kept.
const REASON: usize = 300;

/// Somebody who is asked by HTTP.
#[derive(Debug)]
pub struct Remote {
    pub name: String,
    client: Client,
    base: Url,
    token: Option<Token>,
}

impl Remote {
    /// At a URL, to whose path others are added.
    pub fn new(kind: &str, url: &str, token: Option<Token>) -> Result<Self, SinkError> {
        // No redirects: they would take the token, or the content, to where nobody said it may go.
        Self::with(kind, url, token, redirect::Policy::none())
    }

    /// One that is only read from, and sends elsewhere for that.
    pub fn read_only(kind: &str, url: &str) -> Result<Self, SinkError> {
        Self::with(kind, url, None, redirect::Policy::limited(REDIRECTS))
    }

    fn with(
        kind: &str,
        url: &str,
        token: Option<Token>,
        redirects: redirect::Policy,
    ) -> Result<Self, SinkError> {
        let invalid = || SinkError::Url(without_secrets(url));
        let mut base = Url::parse(url).map_err(|_| invalid())?;
        let host = base.host_str().filter(|_| matches!(base.scheme(), "http" | "https"));
        let host = host.ok_or_else(invalid)?;
        let port = base.port().map(|port| format!(":{port}")).unwrap_or_default();
        let name = format!("{kind}:{host}{port}");
        if !base.username().is_empty() || base.password().is_some() || base.query().is_some() {
            return Err(invalid());
        }
        if !base.path().ends_with('/') {
            base.set_path(&format!("{}/", base.path()));
        }
        // The only TLS provider in the program; a second call finds it installed.
        let _installed = rustls::crypto::ring::default_provider().install_default();
        let client = Client::builder().connect_timeout(CONNECT).redirect(redirects);
        let client = client.user_agent("af").build();
        Ok(Self { name, client: client.map_err(SinkError::Unreachable)?, base, token })
    }

    /// A request to a path, which is given without a slash before it.
    pub fn request(&self, method: Method, path: &str) -> Result<RequestBuilder, SinkError> {
        Ok(self.transfer(method, path)?.timeout(EXCHANGE))
    }

    /// One that may take as long as it moves.
    pub fn transfer(&self, method: Method, path: &str) -> Result<RequestBuilder, SinkError> {
        let url = self.base.join(path).map_err(|_| SinkError::Url(path.to_owned()))?;
        let request = self.client.request(method, url);
        Ok(match &self.token {
            Some(Token(token)) => request.bearer_auth(token),
            None => request,
        })
    }
}

/// An answer whose body is still to come.
pub async fn sent(request: RequestBuilder) -> Result<Response, SinkError> {
    let response = request.send().await.map_err(unreachable)?;
    match response.status() {
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
            Err(SinkError::Busy(retry_after(&response)))
        }
        _ => Ok(response),
    }
}

/// An answer's status, and its text within bounds.
pub async fn answer(request: RequestBuilder) -> Result<(StatusCode, String), SinkError> {
    let mut response = sent(request).await?;
    let status = response.status();
    let mut text = BytesMut::new();
    while let Some(chunk) = response.chunk().await.map_err(unreachable)? {
        if text.len() + chunk.len() > ANSWER_BYTES {
            return Err(SinkError::Unexpected(format!("more than {ANSWER_BYTES} bytes")));
        }
        text.extend_from_slice(&chunk);
    }
    Ok((status, String::from_utf8_lossy(&text).into_owned()))
}

/// What it says when it does not do it: the reason of its kind of JSON, else its text.
pub fn refused(status: StatusCode, text: &str) -> SinkError {
    let json: Value = serde_json::from_str(text).unwrap_or_default();
    let reason = json.pointer("/error/details").or_else(|| json.pointer("/error/reason"));
    let reason = reason.or_else(|| json.get("error")).or_else(|| json.get("Message"));
    let reason = told(reason.and_then(Value::as_str).unwrap_or(text));
    SinkError::Refused { status: status.as_u16(), reason }
}

/// What somebody says, as it can be shown.
pub fn told(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(REASON).collect()
}

pub fn unreachable(error: reqwest::Error) -> SinkError {
    SinkError::Unreachable(error.without_url())
}

fn retry_after(response: &Response) -> Option<Duration> {
    let seconds = response.headers().get(RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds))
}

/// Whatever stands before an @ may be a password.
fn without_secrets(url: &str) -> String {
    let url = url.rsplit_once('@').map_or(url, |(_, rest)| rest);
    url.split(['?', '#']).next().unwrap_or_default().chars().take(100).collect()
}
