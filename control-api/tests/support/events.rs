//! What functions log, as it comes.

use reqwest::Response;
use serde_json::{Value, json};

use super::{OWNER, Served};

/// Server-sent events as they come.
pub struct Events {
    pub response: Response,
    pub unread: String,
}

impl Events {
    pub async fn open(served: &Served, function: &str, token: &str, after: Option<&str>) -> Self {
        let headers: Vec<_> = after.map(|after| ("last-event-id", after)).into_iter().collect();
        let path = format!("/v1/functions/{function}/logs");
        let response = served.answer("get", &path, Some(token), &headers, Value::Null).await;
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self { response, unread: String::new() }
    }

    /// Name and data of the next one; none at the end.
    pub async fn next(&mut self) -> Option<(String, Value)> {
        loop {
            if let Some((event, rest)) = self.unread.split_once("\n\n") {
                let field = |name: &str| event.lines().find_map(|line| line.strip_prefix(name));
                let told: Option<(String, Value)> = field("data: ")
                    .map(|data| (field("event: ").unwrap().to_owned(), serde_json::from_str(data).unwrap()));
                if let (Some(id), Some((_, data))) = (field("id: "), &told) {
                    assert_eq!(data["id"], id);
                }
                self.unread = rest.to_owned();
                if told.is_some() {
                    return told;
                }
                continue;
            }
            let chunk = self.response.chunk().await.unwrap()?;
            self.unread.push_str(std::str::from_utf8(&chunk).unwrap());
        }
    }

    pub async fn line(&mut self) -> Value {
        let (name, data) = self.next().await.unwrap();
        assert_eq!(name, "line", "{data}");
        data
    }

    /// Why it is over.
    pub async fn failure(&mut self) -> String {
        let (name, data) = self.next().await.unwrap();
        assert_eq!(name, "failed", "{data}");
        assert!(data["detail"].is_string());
        assert_eq!(self.next().await, None);
        data["code"].as_str().unwrap().to_owned()
    }
}

/// The id of a new function of the owner's project.
pub async fn function(served: &Served, name: &str) -> String {
    let (_, projects) = served.call("get", "/v1/projects", Some(OWNER), Value::Null).await;
    let path = format!("/v1/projects/{}/functions", projects["data"][0]["id"].as_str().unwrap());
    let (_, function) = served.call("post", &path, Some(OWNER), json!({ "name": name })).await;
    function["id"].as_str().unwrap().to_owned()
}
