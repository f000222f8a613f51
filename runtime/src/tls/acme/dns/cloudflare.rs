//! Cloudflare: <https://developers.cloudflare.com/api/resources/dns/subresources/records/>.

use std::time::Duration;

use http::Method;
use serde_json::{Value, json};

use super::client::{Body, Client, list, text};
use super::{Answer, DnsError, DnsProvider, TxtRecord, candidates};

/// Its interface.
pub const API: &str = "https://api.cloudflare.com/client/v4";

/// Records are at all of its servers within seconds.
const SETTLE: Duration = Duration::from_secs(10);

/// The shortest that it allows, seconds.
const TTL: u32 = 60;

/// An account at Cloudflare.
pub struct Cloudflare {
    client: Client,
    authorization: String,
}

impl Cloudflare {
    /// With a token that has `Zone.DNS` edit and `Zone.Zone` read permission.
    pub fn new(api: &str, token: &str) -> Result<Self, DnsError> {
        Ok(Self { client: Client::new(api)?, authorization: format!("Bearer {token}") })
    }

    async fn call(&self, method: Method, path: &str, body: Body<'_>) -> Result<Value, DnsError> {
        self.client.call(method, path, &self.authorization, body).await
    }

    async fn zone(&self, name: &str) -> Result<String, DnsError> {
        for zone in candidates(name) {
            let found = self.call(Method::GET, &format!("/zones?name={zone}"), Body::None).await?;
            if let Some(zone) = list(&found, "/result").first() {
                return Ok(text(zone, "/id")?.to_owned());
            }
        }
        Err(DnsError::NoZone(name.to_owned()))
    }

    async fn set(&self, record: &TxtRecord) -> Result<(), DnsError> {
        let zone = self.zone(&record.name).await?;
        let content = format!("\"{}\"", record.value);
        let body = json!({ "type": "TXT", "name": record.name, "content": content, "ttl": TTL });
        self.call(Method::POST, &format!("/zones/{zone}/dns_records"), Body::Json(&body)).await?;
        Ok(())
    }

    async fn remove(&self, record: &TxtRecord) -> Result<(), DnsError> {
        let zone = self.zone(&record.name).await?;
        let path = format!("/zones/{zone}/dns_records?type=TXT&name={}", record.name);
        let found = self.call(Method::GET, &path, Body::None).await?;
        for entry in list(&found, "/result") {
            if text(entry, "/content")?.trim_matches('"') == record.value {
                let path = format!("/zones/{zone}/dns_records/{}", text(entry, "/id")?);
                self.call(Method::DELETE, &path, Body::None).await?;
            }
        }
        Ok(())
    }
}

impl DnsProvider for Cloudflare {
    fn set_txt<'a>(&'a self, record: &'a TxtRecord) -> Answer<'a> {
        Box::pin(self.set(record))
    }

    fn remove_txt<'a>(&'a self, record: &'a TxtRecord) -> Answer<'a> {
        Box::pin(self.remove(record))
    }

    fn settle(&self) -> Duration {
        SETTLE
    }
}

#[cfg(test)]
mod tests {
    use super::super::client::tests::Provider;
    use super::*;

    #[tokio::test]
    async fn a_record_is_set_and_only_that_one_is_removed() {
        let zone = r#"{"success":true,"result":[{"id":"z1","name":"example.com"}]}"#;
        let none = r#"{"success":true,"result":[]}"#;
        let records = r#"{"result":[{"id":"r1","content":"\"other\""},{"id":"r2","content":"\"digest\""}]}"#;
        let provider = Provider::start(&[
            (200, none),
            (200, zone),
            (200, r#"{"success":true,"result":{"id":"r2"}}"#),
            (200, zone),
            (200, records),
            (200, r#"{"result":{"id":"r2"}}"#),
            (200, none),
            (200, none),
        ])
        .await;
        let cloudflare = Cloudflare::new(&provider.url, "t0k").unwrap();
        let record = TxtRecord { name: "_acme-challenge.example.com".into(), value: "digest".into() };
        cloudflare.set_txt(&record).await.unwrap();
        cloudflare.remove_txt(&record).await.unwrap();
        assert!(matches!(cloudflare.set_txt(&record).await, Err(DnsError::NoZone(_))));
        assert_eq!(
            provider.asked()[..6],
            [
                "GET /zones?name=_acme-challenge.example.com Bearer t0k",
                "GET /zones?name=example.com Bearer t0k",
                "POST /zones/z1/dns_records Bearer t0k {\"type\":\"TXT\",\"name\":\"_acme-challenge.example.com\",\"content\":\"\\\"digest\\\"\",\"ttl\":60}",
                "GET /zones?name=_acme-challenge.example.com Bearer t0k",
                "GET /zones/z1/dns_records?type=TXT&name=_acme-challenge.example.com Bearer t0k",
                "DELETE /zones/z1/dns_records/r2 Bearer t0k",
            ]
        );
    }
}
