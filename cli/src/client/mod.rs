//! Talks to a control API.

mod error;
mod events;

use std::time::Duration;

use af_contract::{ContentKey, Problem};
use reqwest::header::RETRY_AFTER;
use reqwest::{Client, Method, RequestBuilder, Response, StatusCode};
use serde_json::Value;

pub use self::error::{ApiError, Finding, described, exit_code};
pub use self::events::{Event, Events};
use crate::config::{Environment, Session};

/// How long an answer may take to begin; uploads and compilation have their own.
const CONNECT: Duration = Duration::from_secs(10);

/// A control API and a token for it.
pub struct Api {
    http: Client,
    session: Session,
}

/// What a server said that may find it too early.
pub enum Asked {
    /// An answer.
    Answer(Value),
    /// Come back after this time.
    Later(Duration),
}

/// A deployment to be made.
pub struct Upload {
    /// Of the function's deployments.
    pub path: String,
    /// What it is to be.
    pub query: Vec<(&'static str, String)>,
    /// What changes in its settings, as the header has it.
    pub settings: Option<String>,
    /// What it is encrypted with, if it is.
    pub content_key: Option<ContentKey>,
    /// A CAR.
    pub body: reqwest::Body,
}

impl Api {
    /// Opens the session that the environment and the configuration name.
    pub fn open(environment: &Environment) -> anyhow::Result<Self> {
        Ok(Self { http: http_client()?, session: Session::open(environment)? })
    }

    /// For a session that is not stored yet.
    pub fn with(session: Session) -> anyhow::Result<Self> {
        Ok(Self { http: http_client()?, session })
    }

    /// To work in this project, if one is given.
    pub fn of_project(mut self, project: Option<String>) -> Self {
        if let (Some(project), Some(server)) = (project, &mut self.session.server) {
            server.project_id = Some(project);
        }
        self
    }

    /// The control API's URL.
    pub fn url(&self) -> &str {
        &self.session.api_url
    }

    /// `GET` of a path.
    pub async fn get(&self, path: &str) -> Result<Value, ApiError> {
        self.json(self.request(Method::GET, path)?).await
    }

    /// A request with a JSON body.
    pub async fn send(&self, method: Method, path: &str, body: &Value) -> Result<Value, ApiError> {
        self.json(self.request(method, path)?.json(body)).await
    }

    /// `POST` with a JSON body, and what the content is encrypted with that it is about, if it is.
    pub async fn send_with_key(
        &self,
        path: &str,
        body: &Value,
        key: Option<&ContentKey>,
    ) -> Result<Value, ApiError> {
        let mut request = self.request(Method::POST, path)?.json(body);
        if let Some(key) = key {
            request = request.header("af-content-key", key.to_hex());
        }
        self.json(request).await
    }

    /// A request with a JSON body, to which the answer says nothing.
    pub async fn change(&self, method: Method, path: &str, body: &Value) -> Result<(), ApiError> {
        self.answer(self.request(method, path)?.json(body)).await.map(drop)
    }

    /// A request with a JSON body, for which nobody must be signed in.
    pub async fn open_to_all(&self, method: Method, path: &str, body: &Value) -> Result<Value, ApiError> {
        let request = match &self.session.server {
            Some(_) => self.request(method, path)?,
            None => self.http.request(method, format!("{}{path}", self.session.api_url)),
        };
        self.json(request.json(body)).await
    }

    /// `POST` with a JSON body, for which nobody must be signed in, to a server that is asked again and again.
    pub async fn ask(&self, path: &str, body: &Value) -> Result<Asked, ApiError> {
        let request = self.http.post(format!("{}{path}", self.session.api_url)).timeout(CONNECT).json(body);
        let response = request.send().await.map_err(|source| self.unreachable(source))?;
        if [StatusCode::TOO_MANY_REQUESTS, StatusCode::SERVICE_UNAVAILABLE].contains(&response.status()) {
            let after =
                response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
            return Ok(Asked::Later(Duration::from_secs(after.unwrap_or_default())));
        }
        let response = self.told(response).await?;
        Ok(Asked::Answer(response.json().await.map_err(|source| self.unreachable(source))?))
    }

    /// `DELETE` of a path; null where there is nothing to say.
    pub async fn delete(&self, path: &str) -> Result<Value, ApiError> {
        let response = self.answer(self.request(Method::DELETE, path)?).await?;
        if response.status() == StatusCode::NO_CONTENT {
            return Ok(Value::Null);
        }
        response.json().await.map_err(|source| self.unreachable(source))
    }

    /// `POST` of a stream.
    pub async fn upload(&self, upload: Upload) -> Result<Value, ApiError> {
        let mut request = self.request(Method::POST, &upload.path)?.query(&upload.query);
        if let Some(settings) = upload.settings {
            request = request.header("af-settings", settings);
        }
        if let Some(key) = upload.content_key {
            request = request.header("af-content-key", key.to_hex());
        }
        self.json(request.header("content-type", "application/vnd.ipld.car").body(upload.body)).await
    }

    /// `GET` of a path whose answer is a stream.
    pub async fn download(&self, path: &str) -> Result<Response, ApiError> {
        self.answer(self.request(Method::GET, path)?).await
    }

    /// The same, in the form that is asked for.
    pub async fn download_as(&self, path: &str, accept: &str) -> Result<Response, ApiError> {
        self.answer(self.request(Method::GET, path)?.header("accept", accept)).await
    }

    /// `GET` of a path whose answer is events, after the one with this id.
    pub async fn events(&self, path: &str, after: Option<&str>) -> Result<Response, ApiError> {
        let mut request = self.request(Method::GET, path)?.header("accept", "text/event-stream");
        if let Some(after) = after {
            request = request.header("last-event-id", after);
        }
        self.answer(request).await
    }

    /// All pages of a list.
    pub async fn list(&self, path: &str) -> Result<Vec<Value>, ApiError> {
        self.list_up_to(path, usize::MAX).await
    }

    /// The first `most` items of a list.
    pub async fn list_up_to(&self, path: &str, most: usize) -> Result<Vec<Value>, ApiError> {
        let mut items = Vec::new();
        let mut after = None::<String>;
        loop {
            let mut request = self.request(Method::GET, path)?;
            if let Some(after) = &after {
                request = request.query(&[("after", after)]);
            }
            let mut page = self.json(request).await?;
            if let Some(Value::Array(data)) = page.get_mut("data").map(Value::take) {
                items.extend(data);
            }
            if items.len() >= most {
                items.truncate(most);
                return Ok(items);
            }
            match page.get("next").and_then(Value::as_str) {
                Some(next) => after = Some(next.to_owned()),
                None => return Ok(items),
            }
        }
    }

    /// The project to work in: the stored or given one, else the only one.
    pub async fn project(&self) -> Result<String, ApiError> {
        if let Some(project) = self.session.server.as_ref().and_then(|server| server.project_id.clone()) {
            return Ok(project);
        }
        let projects = self.list("/v1/projects").await?;
        match projects.as_slice() {
            [] => Err(ApiError::NoProject),
            [only] => Ok(text(only, "id").to_owned()),
            several => Err(ApiError::Project(several.iter().map(|p| text(p, "id").to_owned()).collect())),
        }
    }

    fn request(&self, method: Method, path: &str) -> Result<RequestBuilder, ApiError> {
        let server = self.session.server.as_ref().ok_or(ApiError::SignedOut)?;
        // An id that was given as one would ask for something else.
        let before_query = path.split('?').next().unwrap_or(path);
        if before_query.split('/').any(|part| matches!(part, "." | "..")) {
            return Err(ApiError::NoId);
        }
        let url = format!("{}{path}", self.session.api_url);
        Ok(self.http.request(method, url).bearer_auth(&server.token))
    }

    async fn json(&self, request: RequestBuilder) -> Result<Value, ApiError> {
        let response = self.answer(request).await?;
        response.json().await.map_err(|source| self.unreachable(source))
    }

    async fn answer(&self, request: RequestBuilder) -> Result<Response, ApiError> {
        self.told(request.send().await.map_err(|source| self.unreachable(source))?).await
    }

    async fn told(&self, response: Response) -> Result<Response, ApiError> {
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        match response.json::<Problem>().await {
            Ok(problem) => Err(ApiError::Problem(Box::new(problem))),
            Err(_) => Err(ApiError::Status { url: self.url().to_owned(), status: status.as_u16() }),
        }
    }

    fn unreachable(&self, source: reqwest::Error) -> ApiError {
        ApiError::Unreachable { url: self.url().to_owned(), source: source.without_url() }
    }
}

/// A field that is text; empty where it is not.
pub fn text<'a>(item: &'a Value, field: &str) -> &'a str {
    item.get(field).and_then(Value::as_str).unwrap_or_default()
}

/// An HTTP client that sends nothing through a proxy to this machine.
fn http_client() -> anyhow::Result<Client> {
    // The only TLS provider in the program; a second call finds it installed.
    let _installed = rustls::crypto::ring::default_provider().install_default();
    let client =
        Client::builder().connect_timeout(CONNECT).user_agent(concat!("af/", env!("CARGO_PKG_VERSION")));
    Ok(client.build()?)
}
