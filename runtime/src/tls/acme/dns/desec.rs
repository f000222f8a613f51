//! deSEC: <https://desec.readthedocs.io/en/latest/dns/rrsets.html>.

use std::time::Duration;

use http::Method;
use serde_json::{Value, json};

use super::client::{Body, Client, list, text};
use super::{Answer, DnsError, DnsProvider, TxtRecord};

/// Its interface.
pub const API: &str = "https://desec.io/api/v1";

/// "It can take up to a minute" until all of its servers know a change.
const SETTLE: Duration = Duration::from_secs(80);

/// The shortest that every account may use, seconds.
const TTL: u32 = 3600;

/// An account at deSEC.
pub struct Desec {
    client: Client,
    authorization: String,
}

impl Desec {
    /// With a token.
    pub fn new(api: &str, token: &str) -> Result<Self, DnsError> {
        Ok(Self { client: Client::new(api)?, authorization: format!("Token {token}") })
    }

    async fn call(&self, method: Method, path: &str, body: Body<'_>) -> Result<Value, DnsError> {
        self.client.call(method, path, &self.authorization, body).await
    }

    /// Rewrites the texts at a name.
    async fn change(
        &self,
        record: &TxtRecord,
        change: impl Fn(&mut Vec<String>, String) + Send,
    ) -> Result<(), DnsError> {
        let name = &record.name;
        let owner = self.call(Method::GET, &format!("/domains/?owns_qname={name}"), Body::None).await?;
        let zone = list(&owner, "").first().ok_or_else(|| DnsError::NoZone(name.clone()))?;
        let zone = text(zone, "/name")?;
        let sub = name.strip_suffix(zone).and_then(|sub| sub.strip_suffix('.'));
        let sub = sub.ok_or_else(|| DnsError::NoZone(name.clone()))?;
        let path = format!("/domains/{zone}/rrsets/?subname={sub}&type=TXT");
        let found = self.call(Method::GET, &path, Body::None).await?;
        let present = list(&found, "").first().map(|set| list(set, "/records")).unwrap_or_default();
        let mut records: Vec<_> = present.iter().filter_map(Value::as_str).map(str::to_owned).collect();
        change(&mut records, format!("\"{}\"", record.value));
        // An empty set is removed, and one that is not there is made.
        let body = json!([{ "subname": sub, "type": "TXT", "ttl": TTL, "records": records }]);
        self.call(Method::PUT, &format!("/domains/{zone}/rrsets/"), Body::Json(&body)).await?;
        Ok(())
    }
}

impl DnsProvider for Desec {
    fn set_txt<'a>(&'a self, record: &'a TxtRecord) -> Answer<'a> {
        Box::pin(self.change(record, |records, text| {
            if !records.contains(&text) {
                records.push(text);
            }
        }))
    }

    fn remove_txt<'a>(&'a self, record: &'a TxtRecord) -> Answer<'a> {
        Box::pin(self.change(record, |records, text| records.retain(|other| *other != text)))
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
    async fn other_texts_at_the_name_stay() {
        let owner = r#"[{"name":"example.com"}]"#;
        let provider = Provider::start(&[
            (200, owner),
            (200, r#"[{"records":["\"other\""],"ttl":3600}]"#),
            (200, "[]"),
            (200, owner),
            (200, r#"[{"records":["\"digest\"","\"other\""]}]"#),
            (200, "[]"),
            (200, "[]"),
        ])
        .await;
        let desec = Desec::new(&provider.url, "t0k").unwrap();
        let record = TxtRecord { name: "_acme-challenge.fn.example.com".into(), value: "digest".into() };
        desec.set_txt(&record).await.unwrap();
        desec.remove_txt(&record).await.unwrap();
        assert!(matches!(desec.set_txt(&record).await, Err(DnsError::NoZone(_))));
        let asked = provider.asked();
        let put = |records: &str| {
            format!(
                "PUT /domains/example.com/rrsets/ Token t0k [{{\"subname\":\"_acme-challenge.fn\",\"type\":\"TXT\",\"ttl\":3600,\"records\":{records}}}]"
            )
        };
        assert_eq!(asked[0], "GET /domains/?owns_qname=_acme-challenge.fn.example.com Token t0k");
        assert_eq!(
            asked[1],
            "GET /domains/example.com/rrsets/?subname=_acme-challenge.fn&type=TXT Token t0k"
        );
        assert_eq!(asked[2], put(r#"["\"other\"","\"digest\""]"#));
        assert_eq!(asked[5], put(r#"["\"other\""]"#));
    }
}
