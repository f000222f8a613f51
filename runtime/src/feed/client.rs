//! Asks the control plane.

use std::sync::Arc;
use std::time::Duration;

use af_contract::Problem;
use af_contract::edge::{
    Bound, FeedPage, FeedRequest, JoinAnswer, JoinRequest, Logs, PageError, Report, SILENCE, Share,
    UsageBatch, UsageTaken, Work, WorkRequest,
};
use reqwest::header::CONTENT_TYPE;
use reqwest::redirect::Policy;
use reqwest::{Response, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use url::Url;

use super::known::Told;
use super::{FeedError, Identity};

/// To get a connection.
const CONNECT: Duration = Duration::from_secs(5);

/// A page has a few hundred changes, each with two dozen deployments and their settings.
const PAGE: usize = 256 << 20;

/// A few hundred calls.
const WORK: usize = 4 << 20;

/// Of any other answer.
const MESSAGE: usize = 64 << 10;

/// What an edge asks, under the control plane's address.
const FEED: &str = "/v1/edge/feed";
const LOGS: &str = "/v1/edge/logs";
const REPORT: &str = "/v1/edge/report";
const USAGE: &str = "/v1/edge/usage";
const WORK_PATH: &str = "/v1/edge/work";

/// An edge's way to its control plane.
pub struct Client {
    http: reqwest::Client,
    feed: Url,
    report: Url,
    work: Url,
    logs: Url,
    usage: Url,
    identity: Arc<Identity>,
}

impl Client {
    pub fn new(control: &Url, identity: Arc<Identity>) -> Result<Self, FeedError> {
        let [feed, report, work, logs, usage] =
            [FEED, REPORT, WORK_PATH, LOGS, USAGE].map(|path| under(control, path));
        Ok(Self { http: http()?, feed, report, work, logs, usage, identity })
    }

    /// The next page, opened and verified.
    pub async fn ask(&self, wanted: &FeedRequest) -> Result<Told, FeedError> {
        let share = Share::new()?;
        let asked = self.http.get(self.feed.clone()).query(wanted).build().map_err(unreachable)?;
        let url = asked.url().clone();
        let target = format!("{FEED}?{}", url.query().unwrap_or_default());
        let proof = self.identity.prove(Bound::to("GET", &target).with_share(share.public()))?;
        let request = self.http.get(url).bearer_auth(&proof);
        let response = answered(request.send().await.map_err(unreachable)?).await?;
        let sealed = body(response, PAGE).await?;
        let text = share.open(&proof, self.identity.feed_key(), &sealed)?;
        let page = FeedPage::read(&text).map_err(|error| match error {
            PageError::Form(error) => FeedError::Unreadable(error),
            error @ PageError::Unknown(_) => FeedError::TooOld(error),
        })?;
        let goes_on = wanted.epoch.as_ref() == Some(&page.epoch) && page.after == wanted.after;
        if page.until < page.after || !(goes_on || page.after == 0) {
            return Err(FeedError::Unreadable("the page is another one than was asked for".into()));
        }
        Ok(Told { page, text })
    }

    /// Tells what happened here.
    pub async fn report(&self, report: &Report) -> Result<(), FeedError> {
        self.tell(&self.report, REPORT, report).await.map(drop)
    }

    /// Hands over what functions logged here.
    pub async fn logs(&self, logs: &Logs) -> Result<(), FeedError> {
        self.tell(&self.logs, LOGS, logs).await.map(drop)
    }

    /// Tells what functions and sites used here.
    pub async fn usage(&self, batch: &UsageBatch) -> Result<UsageTaken, FeedError> {
        let response = self.tell(&self.usage, USAGE, batch).await?;
        read(&body(response, MESSAGE).await?)
    }

    async fn tell(&self, url: &Url, path: &str, told: &impl Serialize) -> Result<Response, FeedError> {
        let body = written(told)?;
        let proof = self.identity.prove(Bound::to("POST", path).with_body(&body))?;
        self.post(url, &proof, body).await
    }

    /// What there is to do, opened and verified, once there is anything or the time is over.
    pub async fn work(&self, wanted: &WorkRequest) -> Result<Work, FeedError> {
        let body = written(wanted)?;
        let share = Share::new()?;
        let bound = Bound::to("POST", WORK_PATH).with_share(share.public()).with_body(&body);
        let proof = self.identity.prove(bound)?;
        let response = self.post(&self.work, &proof, body).await?;
        let sealed = self::body(response, WORK).await?;
        read(&share.open(&proof, self.identity.feed_key(), &sealed)?)
    }

    async fn post(&self, url: &Url, proof: &str, body: Vec<u8>) -> Result<Response, FeedError> {
        let request = self.http.post(url.clone()).header(CONTENT_TYPE, "application/json");
        let request = request.bearer_auth(proof).body(body);
        answered(request.send().await.map_err(unreachable)?).await
    }
}

/// Becomes an edge.
pub async fn join(control: &Url, request: &JoinRequest) -> Result<JoinAnswer, FeedError> {
    let response = http()?.post(under(control, "/v1/edge/join")).json(request).send().await;
    let response = answered(response.map_err(unreachable)?).await?;
    read(&body(response, MESSAGE).await?)
}

fn http() -> Result<reqwest::Client, FeedError> {
    // Whoever was first has installed the same.
    let _installed = rustls::crypto::ring::default_provider().install_default();
    let agent = concat!("af/", env!("CARGO_PKG_VERSION"));
    let builder = reqwest::Client::builder().connect_timeout(CONNECT).read_timeout(SILENCE).user_agent(agent);
    builder.redirect(Policy::none()).build().map_err(unreachable)
}

fn unreachable(error: reqwest::Error) -> FeedError {
    FeedError::Unreachable(Box::new(error))
}

async fn answered(response: Response) -> Result<Response, FeedError> {
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let text = body(response, MESSAGE).await.unwrap_or_default();
    let (code, detail) = match serde_json::from_slice::<Problem>(&text) {
        Ok(problem) => (Some(problem.code), problem.detail),
        Err(_) => (None, "and no problem document".to_owned()),
    };
    let said = match status {
        StatusCode::UNAUTHORIZED => {
            "it does not know this edge (any more), or its token to join was used or is over an hour old"
                .to_owned()
        }
        _ => detail,
    };
    Err(FeedError::Refused { status: status.as_u16(), code, said })
}

async fn body(mut response: Response, most: usize) -> Result<Vec<u8>, FeedError> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(unreachable)? {
        if body.len() + chunk.len() > most {
            return Err(FeedError::Unreadable(format!("it has more than {most} bytes")));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

fn written<T: Serialize>(value: &T) -> Result<Vec<u8>, FeedError> {
    serde_json::to_vec(value).map_err(|error| FeedError::Unreadable(error.to_string()))
}

fn read<T: DeserializeOwned>(text: &[u8]) -> Result<T, FeedError> {
    serde_json::from_slice(text).map_err(|error| FeedError::Unreadable(error.to_string()))
}

/// A path under a base that may have a path itself.
fn under(base: &Url, path: &str) -> Url {
    let mut url = base.clone();
    url.set_path(&format!("{}{path}", base.path().trim_end_matches('/')));
    url.set_query(None);
    url
}
