//! Google Cloud DNS: <https://cloud.google.com/dns/docs/reference/rest/v1>, signed in to as a service account
//! (RFC 7523: <https://developers.google.com/identity/protocols/oauth2/service-account>).

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64;
use http::Method;
use ring::rand::SystemRandom;
use ring::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject;
use serde_json::{Value, json};

use super::client::{Body, Client, list, text};
use super::{Answer, DnsError, DnsProvider, TxtRecord, candidates};

/// Its interface.
pub const API: &str = "https://dns.googleapis.com/dns/v1";

/// What a token is asked for.
const SCOPE: &str = "https://www.googleapis.com/auth/ndev.clouddns.readwrite";

/// A change that is done is at all of its servers; this is for resolvers on the way.
const SETTLE: Duration = Duration::from_secs(5);

/// How often a change is asked for, and how many times: up to two minutes.
const POLL: Duration = Duration::from_secs(1);
const POLLS: usize = 120;

const TTL: u32 = 60;

/// A project at Google Cloud.
pub struct Google {
    client: Client,
    project: String,
    email: String,
    token_uri: String,
    key: RsaKeyPair,
}

impl Google {
    /// With the JSON file of a service account's key.
    pub fn open(api: &str, path: &Path, project: Option<&str>) -> Result<Self, DnsError> {
        let unusable =
            |why: &dyn std::fmt::Display| DnsError::Credentials(format!("{}: {why}", path.display()));
        let json = std::fs::read(path).map_err(|error| unusable(&error))?;
        let json: Value = serde_json::from_slice(&json).map_err(|error| unusable(&error))?;
        let field = |name: &str| {
            let found = json.get(name).and_then(Value::as_str).map(str::to_owned);
            found.ok_or_else(|| unusable(&format!("there is no {name}")))
        };
        let pem = field("private_key")?;
        let key = PrivatePkcs8KeyDer::from_pem_slice(pem.as_bytes()).map_err(|error| unusable(&error))?;
        let key = RsaKeyPair::from_pkcs8(key.secret_pkcs8_der()).map_err(|error| unusable(&error))?;
        let project = project.map_or_else(|| field("project_id"), |project| Ok(project.to_owned()))?;
        Ok(Self {
            client: Client::new(api)?,
            project,
            email: field("client_email")?,
            token_uri: field("token_uri")?,
            key,
        })
    }

    /// A token for an hour. Changes are rare, so it is not kept.
    async fn authorization(&self) -> Result<String, DnsError> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let claims = json!({ "iss": self.email, "scope": SCOPE, "aud": self.token_uri, "iat": now, "exp": now + 3600 });
        let assertion = self.sign(&claims)?;
        let form =
            format!("grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&assertion={assertion}");
        let answer = self.client.call(Method::POST, &self.token_uri, "", Body::Form(form)).await?;
        Ok(format!("Bearer {}", text(&answer, "/access_token")?))
    }

    fn sign(&self, claims: &Value) -> Result<String, DnsError> {
        let header = BASE64.encode(r#"{"alg":"RS256","typ":"JWT"}"#);
        let signed = format!("{header}.{}", BASE64.encode(claims.to_string()));
        let mut signature = vec![0; self.key.public().modulus_len()];
        self.key
            .sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), signed.as_bytes(), &mut signature)
            .map_err(|_| DnsError::Credentials("the service account's key cannot sign".to_owned()))?;
        Ok(format!("{signed}.{}", BASE64.encode(signature)))
    }

    async fn zone(&self, name: &str, authorization: &str) -> Result<String, DnsError> {
        for zone in candidates(name) {
            let path = format!("/projects/{}/managedZones?dnsName={zone}.", self.project);
            let found = self.client.call(Method::GET, &path, authorization, Body::None).await?;
            // A private zone of the same name is seen by no authority.
            let is_public = |zone: &&Value| zone.get("visibility").is_none_or(|visible| visible == "public");
            if let Some(zone) = list(&found, "/managedZones").iter().find(is_public) {
                return Ok(format!("/projects/{}/managedZones/{}", self.project, text(zone, "/name")?));
            }
        }
        Err(DnsError::NoZone(name.to_owned()))
    }

    /// Rewrites the texts at a name, in one change, which fails if they have changed meanwhile.
    async fn change(
        &self,
        record: &TxtRecord,
        change: impl Fn(&mut Vec<Value>, Value) + Send,
    ) -> Result<(), DnsError> {
        let authorization = self.authorization().await?;
        let zone = self.zone(&record.name, &authorization).await?;
        let path = format!("{zone}/rrsets?name={}.&type=TXT", record.name);
        let found = self.client.call(Method::GET, &path, &authorization, Body::None).await?;
        let present = list(&found, "/rrsets");
        let before = present.first().map(|set| list(set, "/rrdatas").to_vec()).unwrap_or_default();
        let mut texts = before.clone();
        change(&mut texts, Value::from(format!("\"{}\"", record.value)));
        if texts == before {
            return Ok(());
        }
        let set = json!({ "name": format!("{}.", record.name), "type": "TXT", "ttl": TTL, "rrdatas": texts });
        let additions = if texts.is_empty() { json!([]) } else { json!([set]) };
        let body = json!({ "additions": additions, "deletions": present });
        let made = self
            .client
            .call(Method::POST, &format!("{zone}/changes"), &authorization, Body::Json(&body))
            .await?;
        self.done(&zone, made, &authorization).await
    }

    async fn done(&self, zone: &str, mut change: Value, authorization: &str) -> Result<(), DnsError> {
        let path = format!("{zone}/changes/{}", text(&change, "/id")?);
        for _ in 0..POLLS {
            if text(&change, "/status")? == "done" {
                return Ok(());
            }
            tokio::time::sleep(POLL).await;
            change = self.client.call(Method::GET, &path, authorization, Body::None).await?;
        }
        Err(DnsError::Unreachable("a change is not done in time".to_owned()))
    }
}

impl DnsProvider for Google {
    fn set_txt<'a>(&'a self, record: &'a TxtRecord) -> Answer<'a> {
        Box::pin(self.change(record, |texts, text| {
            if !texts.contains(&text) {
                texts.push(text);
            }
        }))
    }

    fn remove_txt<'a>(&'a self, record: &'a TxtRecord) -> Answer<'a> {
        Box::pin(self.change(record, |texts, text| texts.retain(|other| *other != text)))
    }

    fn settle(&self) -> Duration {
        SETTLE
    }
}

#[cfg(test)]
mod tests {
    use ring::signature::{RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};

    use super::super::client::tests::Provider;
    use super::*;

    /// Signs nothing but what this test checks.
    const KEY: &str = include_str!("google-test-key.pem");

    fn open(provider: &Provider, project: Option<&str>) -> Google {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key.json");
        let token_uri = format!("{}/token", provider.url);
        let json = json!({ "private_key": KEY, "project_id": "own", "client_email": "af@own.test", "token_uri": token_uri });
        std::fs::write(&path, json.to_string()).unwrap();
        Google::open(&provider.url, &path, project).unwrap()
    }

    #[tokio::test]
    async fn a_change_keeps_other_texts_and_is_waited_for() {
        let token = r#"{"access_token":"t0k","expires_in":3600}"#;
        let zones = r#"{"managedZones":[{"name":"inside","visibility":"private"},{"name":"z","visibility":"public"}]}"#;
        let set = r#"{"rrsets":[{"name":"_acme-challenge.example.com.","type":"TXT","ttl":60,"rrdatas":["\"other\""]}]}"#;
        let provider = Provider::start(&[
            (200, token),
            (200, r#"{"kind":"none"}"#),
            (200, zones),
            (200, set),
            (200, r#"{"id":"1","status":"pending"}"#),
            (200, r#"{"id":"1","status":"done"}"#),
        ])
        .await;
        let google = open(&provider, Some("other"));
        let record = TxtRecord { name: "_acme-challenge.example.com".into(), value: "digest".into() };
        google.set_txt(&record).await.unwrap();
        let asked = provider.asked();
        let form = asked[0].strip_prefix(
            "POST /token - grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&assertion=",
        );
        let (signed, signature) = form.unwrap().rsplit_once('.').unwrap();
        let claims = BASE64.decode(signed.split_once('.').unwrap().1).unwrap();
        let claims: Value = serde_json::from_slice(&claims).unwrap();
        assert_eq!((&claims["iss"], &claims["scope"]), (&json!("af@own.test"), &json!(SCOPE)));
        let public = google.key.public().as_ref().to_vec();
        let public = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, public);
        public.verify(signed.as_bytes(), &BASE64.decode(signature).unwrap()).unwrap();
        assert_eq!(
            asked[1..],
            [
                "GET /projects/other/managedZones?dnsName=_acme-challenge.example.com. Bearer t0k",
                "GET /projects/other/managedZones?dnsName=example.com. Bearer t0k",
                "GET /projects/other/managedZones/z/rrsets?name=_acme-challenge.example.com.&type=TXT Bearer t0k",
                "POST /projects/other/managedZones/z/changes Bearer t0k {\"additions\":[{\"name\":\"_acme-challenge.example.com.\",\"type\":\"TXT\",\"ttl\":60,\"rrdatas\":[\"\\\"other\\\"\",\"\\\"digest\\\"\"]}],\"deletions\":[{\"name\":\"_acme-challenge.example.com.\",\"type\":\"TXT\",\"ttl\":60,\"rrdatas\":[\"\\\"other\\\"\"]}]}",
                "GET /projects/other/managedZones/z/changes/1 Bearer t0k",
            ]
        );
    }

    #[tokio::test]
    async fn the_last_text_takes_the_set_with_it() {
        let set = r#"{"rrsets":[{"name":"_acme-challenge.example.com.","type":"TXT","ttl":60,"rrdatas":["\"digest\""]}]}"#;
        let provider = Provider::start(&[
            (200, r#"{"access_token":"t0k"}"#),
            (200, r#"{"managedZones":[{"name":"z"}]}"#),
            (200, set),
            (200, r#"{"id":"2","status":"done"}"#),
        ])
        .await;
        let record = TxtRecord { name: "_acme-challenge.example.com".into(), value: "digest".into() };
        open(&provider, None).remove_txt(&record).await.unwrap();
        let asked = provider.asked();
        assert!(
            asked[3].starts_with(
                "POST /projects/own/managedZones/z/changes Bearer t0k {\"additions\":[],\"deletions\":[{"
            ),
            "{}",
            asked[3]
        );
    }

    #[test]
    fn a_key_that_is_none_is_refused_with_its_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key.json");
        for text in ["", "{}", r#"{"private_key":"none"}"#] {
            std::fs::write(&path, text).unwrap();
            let error = Google::open(API, &path, None).err().unwrap();
            assert!(matches!(error, DnsError::Credentials(why) if why.contains("key.json")), "{text}");
        }
    }
}
