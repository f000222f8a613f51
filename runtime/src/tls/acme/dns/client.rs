//! JSON over HTTPS, as providers' interfaces have it. They are the operator's choice, so the egress policy of guests does
//! not apply.

use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderValue, Method, Request};
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::ClientConfig;
use rustls_platform_verifier::BuilderVerifierExt;
use serde_json::Value;

use super::DnsError;

/// Whole calls.
const TIMEOUT: Duration = Duration::from_secs(20);

/// Largest answer: a page of zones.
const ANSWER: usize = 1 << 20;

/// How much of a refusal is shown.
const DETAIL: usize = 300;

/// A call's body.
pub enum Body<'a> {
    None,
    Json(&'a Value),
    /// `application/x-www-form-urlencoded`, encoded by the caller.
    Form(String),
}

/// One provider's interface.
pub struct Client {
    http: HttpClient<HttpsConnector<HttpConnector>, Full<Bytes>>,
    base: String,
}

impl Client {
    /// For paths below a URL. Certificates are judged by the system's roots.
    pub fn new(base: &str) -> Result<Self, DnsError> {
        let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let config = config.and_then(BuilderVerifierExt::with_platform_verifier);
        let config = config.map_err(|error| DnsError::Unreachable(error.to_string()))?.with_no_client_auth();
        let connector = hyper_rustls::HttpsConnectorBuilder::new().with_tls_config(config);
        // Plain HTTP is for tests: all real bases are constants with https.
        let connector = connector.https_or_http().enable_http1().build();
        Ok(Self { http: HttpClient::builder(TokioExecutor::new()).build(connector), base: base.to_owned() })
    }

    /// Calls a path, with the value of an `Authorization` header. An answer without a body is null.
    pub async fn call(
        &self,
        method: Method,
        path: &str,
        authorization: &str,
        body: Body<'_>,
    ) -> Result<Value, DnsError> {
        let (kind, bytes) = match body {
            Body::None => (None, Bytes::new()),
            Body::Json(json) => (Some("application/json"), json.to_string().into()),
            Body::Form(form) => (Some("application/x-www-form-urlencoded"), form.into()),
        };
        let url = if path.starts_with("http") { path.to_owned() } else { format!("{}{path}", self.base) };
        let mut request = Request::builder().method(method).uri(url);
        if let Some(kind) = kind {
            request = request.header(CONTENT_TYPE, kind);
        }
        if !authorization.is_empty() {
            let mut value = HeaderValue::try_from(authorization).map_err(|_| {
                DnsError::Credentials("a token has characters that no header can have".to_owned())
            })?;
            value.set_sensitive(true);
            request = request.header(AUTHORIZATION, value);
        }
        let request = request.body(Full::new(bytes)).map_err(|error| DnsError::Answer(error.to_string()))?;
        let answer = tokio::time::timeout(TIMEOUT, self.send(request)).await;
        answer.map_err(|_| DnsError::Unreachable("no answer in time".to_owned()))?
    }

    async fn send(&self, request: Request<Full<Bytes>>) -> Result<Value, DnsError> {
        let response = self.http.request(request).await;
        let response = response.map_err(|error| DnsError::Unreachable(chain(&error)))?;
        let status = response.status();
        let body = Limited::new(response.into_body(), ANSWER).collect().await;
        let body = body.map_err(|error| DnsError::Unreachable(error.to_string()))?.to_bytes();
        if !status.is_success() {
            let detail = String::from_utf8_lossy(&body).chars().take(DETAIL).collect();
            return Err(DnsError::Refused { status: status.to_string(), detail });
        }
        if body.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&body).map_err(|error| DnsError::Answer(error.to_string()))
    }
}

/// A text at a place of an answer.
pub fn text<'a>(answer: &'a Value, pointer: &str) -> Result<&'a str, DnsError> {
    let found = answer.pointer(pointer).and_then(Value::as_str);
    found.ok_or_else(|| DnsError::Answer(format!("there is no text at {pointer}")))
}

/// A list at a place of an answer; none is an empty one.
pub fn list<'a>(answer: &'a Value, pointer: &str) -> &'a [Value] {
    answer.pointer(pointer).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// A provider as tests see it: answers in turn, and the requests that came for them.
#[cfg(test)]
pub mod tests {
    use std::collections::VecDeque;
    use std::sync::{Arc, Mutex};

    use http::Response;
    use hyper::body::Incoming;
    use hyper::service::service_fn;
    use hyper_util::rt::TokioIo;
    use tokio::net::TcpListener;

    use super::*;

    /// Gives the answers of a recorded conversation in their order, and keeps what it was asked.
    pub struct Provider {
        pub url: String,
        asked: Arc<Mutex<Vec<String>>>,
    }

    impl Provider {
        pub async fn start(answers: &[(u16, &str)]) -> Self {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let url = format!("http://{}", listener.local_addr().unwrap());
            let asked = Arc::new(Mutex::new(Vec::new()));
            let answers: VecDeque<_> =
                answers.iter().map(|(status, text)| (*status, (*text).to_owned())).collect();
            let state = (asked.clone(), Arc::new(Mutex::new(answers)));
            tokio::spawn(async move {
                while let Ok((stream, _)) = listener.accept().await {
                    let state = state.clone();
                    let service = service_fn(move |request| answer(state.clone(), request));
                    tokio::spawn(
                        hyper::server::conn::http1::Builder::new()
                            .serve_connection(TokioIo::new(stream), service),
                    );
                }
            });
            Self { url, asked }
        }

        /// `METHOD path authorization body`, a line each.
        pub fn asked(&self) -> Vec<String> {
            self.asked.lock().unwrap().clone()
        }
    }

    type State = (Arc<Mutex<Vec<String>>>, Arc<Mutex<VecDeque<(u16, String)>>>);

    async fn answer(state: State, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, hyper::Error> {
        let (parts, body) = request.into_parts();
        let body = String::from_utf8(body.collect().await?.to_bytes().to_vec()).unwrap();
        let authorization = parts.headers.get(AUTHORIZATION).map_or("-", |value| value.to_str().unwrap());
        let line = format!("{} {} {authorization} {body}", parts.method, parts.uri);
        state.0.lock().unwrap().push(line.trim_end().to_owned());
        let (status, text) = state.1.lock().unwrap().pop_front().unwrap_or((500, "not expected".to_owned()));
        Ok(Response::builder().status(status).body(Full::from(text)).unwrap())
    }

    #[tokio::test]
    async fn refusals_are_told_and_endless_answers_are_not_read() {
        let endless = "x".repeat(ANSWER + 1);
        let provider =
            Provider::start(&[(403, "{\"why\": \"no\"}"), (200, &endless), (200, "no JSON"), (204, "")])
                .await;
        let client = Client::new(&provider.url).unwrap();
        let call = async || client.call(Method::GET, "/zones", "Bearer t", Body::None).await;
        assert!(
            matches!(call().await, Err(DnsError::Refused { status, detail }) if status.starts_with("403") && detail.contains("no"))
        );
        assert!(matches!(call().await, Err(DnsError::Unreachable(_))));
        assert!(matches!(call().await, Err(DnsError::Answer(_))));
        assert_eq!(call().await.unwrap(), Value::Null);
        assert_eq!(provider.asked(), ["GET /zones Bearer t"; 4]);
        let injected = client.call(Method::GET, "/", "Bearer a\r\nb: c", Body::None).await;
        assert!(matches!(injected, Err(DnsError::Credentials(_))));
    }
}
