//! Custom domains: who gets a name, who loses it, and what the DNS has to do with it.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure here is the test's failure")]

mod support;

use std::net::IpAddr;
use std::time::Duration;

use af_contract::{Change, DomainState, Owner};
use af_control_api::DomainConfig;
use hickory_resolver::proto::op::ResponseCode;
use serde_json::{Value, json};
use support::dns::DnsServer;
use support::{OWNER, STRANGER, Served};

const EDGE: &str = "203.0.113.7";
const EDGE_6: &str = "2001:db8::7";

/// A platform at `af.test`, its DNS, and a function of each project: `mine` and `theirs`.
struct Platform {
    served: Served,
    dns: DnsServer,
    mine: (String, String),
    theirs: (String, String),
}

impl Platform {
    async fn start() -> Self {
        Self::checking(Duration::from_secs(24 * 3600)).await
    }

    async fn checking(check_interval: Duration) -> Self {
        let dns = DnsServer::start().await;
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        let config = DomainConfig {
            platform: vec!["AF.test".into(), "other.test".into()],
            edge_addresses: vec![address(EDGE), address(EDGE_6)],
            dns_servers: vec![dns.address],
            check_interval,
        };
        let served = Served::with(config).await;
        let (_, page) = served.call("get", "/v1/projects", Some(OWNER), Value::Null).await;
        let project = page["data"][0]["id"].as_str().unwrap().to_owned();
        let mine = function(&served, OWNER, &project, "mine").await;
        let theirs = function(&served, STRANGER, "prj_2", "theirs").await;
        Self { served, dns, mine: (project, mine), theirs: ("prj_2".into(), theirs) }
    }

    async fn call(&self, method: &str, path: &str, token: &str, body: Value) -> (u16, Value) {
        self.served.call(method, path, Some(token), body).await
    }

    /// Claims a name, for the project of whoever has the token.
    async fn claim(&self, token: &str, hostname: &str, method: &str) -> (u16, Value) {
        let (project, function) = if token == OWNER { &self.mine } else { &self.theirs };
        let body = json!({ "hostname": hostname, "functionId": function, "verificationMethod": method });
        self.call("post", &format!("/v1/projects/{project}/domains"), token, body).await
    }

    /// Claims a name and returns the id and the token of the claim.
    async fn claimed(&self, token: &str, hostname: &str, method: &str) -> (String, String) {
        let (status, domain) = self.claim(token, hostname, method).await;
        assert_eq!(status, 201, "{domain}");
        let text = |field: &str| domain[field].as_str().unwrap().to_owned();
        (text("id"), text("txtVerificationToken"))
    }

    async fn get(&self, token: &str, id: &str) -> Value {
        self.call("get", &format!("/v1/domains/{id}"), token, Value::Null).await.1
    }

    /// The status after a check, and what was amiss.
    async fn verify(&self, token: &str, id: &str) -> (String, String) {
        let (status, domain) =
            self.call("post", &format!("/v1/domains/{id}/verify"), token, Value::Null).await;
        assert_eq!(status, 200, "{domain}");
        said(&domain)
    }

    async fn is_verified(&self, token: &str, id: &str) -> bool {
        self.verify(token, id).await == ("VERIFIED".into(), String::new())
    }

    /// Where edges are told that a name leads.
    async fn leads_to(&self, hostname: &str) -> Option<DomainState> {
        let updates = self.served.control.changes_since(0).await.unwrap().updates;
        updates.into_iter().find_map(|update| match update.change {
            Change::Domain { name, state } if name.as_str() == hostname => state,
            _ => None,
        })
    }

    async fn is_mine(&self, hostname: &str) -> bool {
        self.leads_to(hostname).await.is_some_and(|state| state.owner == Owner::Function(self.mine.1.clone()))
    }
}

async fn function(served: &Served, token: &str, project: &str, name: &str) -> String {
    let path = format!("/v1/projects/{project}/functions");
    let (_, function) = served.call("post", &path, Some(token), json!({ "name": name })).await;
    function["id"].as_str().unwrap().to_owned()
}

fn said(domain: &Value) -> (String, String) {
    let text = |field: &str| domain[field].as_str().unwrap_or_default().to_owned();
    (text("verificationStatus"), text("verificationError"))
}

fn record(token: &str) -> String {
    format!("af-site-verification={token}")
}

async fn a_txt_record_proves_a_name() {
    let platform = Platform::start().await;
    let (_, domain) = platform.claim(OWNER, "WWW.Example.com.", "TXT").await;
    let token = domain["txtVerificationToken"].as_str().unwrap();
    assert_eq!(domain["hostname"], "www.example.com");
    assert_eq!(
        domain["records"],
        json!([
            { "purpose": "VERIFICATION", "type": "TXT", "name": "_af.www.example.com", "value": record(token) },
            { "purpose": "TRAFFIC", "type": "A", "name": "www.example.com", "value": EDGE },
            { "purpose": "TRAFFIC", "type": "AAAA", "name": "www.example.com", "value": EDGE_6 },
        ])
    );
    let id = domain["id"].as_str().unwrap();
    let (status, why) = platform.verify(OWNER, id).await;
    assert!(status == "PENDING" && why.contains("there is no name www.example.com in the DNS"), "{why}");
    assert!(platform.leads_to("www.example.com").await.is_none());

    platform.dns.txt("www.example.com", &["v=spf1 -all"]);
    let (_, why) = platform.verify(OWNER, id).await;
    assert!(why.contains(&record(token)), "{why}");
    platform.dns.txt("www.example.com", &["af-site-veri", "fication=", token]);
    assert!(platform.is_verified(OWNER, id).await, "strings of a record are joined");
    assert!(platform.is_mine("www.example.com").await);
    assert_eq!(platform.get(OWNER, id).await["sslStatus"], "PENDING");

    let (status, _) = platform.call("delete", &format!("/v1/domains/{id}"), OWNER, Value::Null).await;
    assert_eq!(status, 204);
    assert!(platform.leads_to("www.example.com").await.is_none());
}

async fn a_name_with_an_alias_is_proven_below_it() {
    let platform = Platform::start().await;
    let (id, token) = platform.claimed(OWNER, "www.example.com", "TXT").await;
    platform.dns.cname("www.example.com", "elsewhere.example.net.");
    platform.dns.txt("_af.www.example.com", &[&record(&token)]);
    assert!(platform.is_verified(OWNER, &id).await);
}

async fn a_failing_dns_is_told_from_a_record_that_is_not_there() {
    let platform = Platform::start().await;
    let (id, token) = platform.claimed(OWNER, "example.com", "TXT").await;
    platform.dns.fail("example.com", ResponseCode::ServFail);
    let (status, why) = platform.verify(OWNER, &id).await;
    assert!(status == "PENDING" && why.contains("did not answer"), "{why}");
    platform.dns.txt("_af.example.com", &[&record(&token)]);
    assert!(platform.is_verified(OWNER, &id).await, "one of the two places is enough");
}

async fn a_wildcard_is_proven_at_its_base_and_not_through_an_alias() {
    let platform = Platform::start().await;
    assert_eq!(
        platform.claim(OWNER, "*.example.com", "CNAME").await.1["code"],
        "invalid_verification_method"
    );
    let (id, token) = platform.claimed(OWNER, "*.example.com", "TXT").await;
    platform.dns.cname("example.com", "host.example.net.");
    platform.dns.txt("host.example.net", &[&record(&token)]);
    assert_eq!(platform.verify(OWNER, &id).await.0, "PENDING", "the alias gives the base away only");
    platform.dns.clear("example.com");
    platform.dns.txt("example.com", &[&record(&token)]);
    assert!(platform.is_verified(OWNER, &id).await);
    assert!(platform.is_mine("*.example.com").await);
}

async fn an_alias_of_a_host_of_the_project_proves_a_name() {
    let platform = Platform::start().await;
    let (id, _) = platform.claimed(OWNER, "www.example.com", "CNAME").await;
    let (_, why) = platform.verify(OWNER, &id).await;
    assert!(why.contains("there is no name"), "{why}");
    platform.dns.cname("www.example.com", "cdn.example.com.");
    platform.dns.cname("cdn.example.com", "theirs.af.test.");
    let (_, why) = platform.verify(OWNER, &id).await;
    assert!(why.contains("theirs.af.test, which is no host of this project"), "{why}");
    platform.dns.clear("cdn.example.com");
    platform.dns.cname("cdn.example.com", "Mine.Other.Test.");
    assert!(platform.is_verified(OWNER, &id).await);

    let (id, _) = platform.claimed(OWNER, "loop.example.com", "CNAME").await;
    platform.dns.cname("loop.example.com", "pool.example.com.");
    platform.dns.cname("pool.example.com", "loop.example.com.");
    let (status, why) = platform.verify(OWNER, &id).await;
    assert!(status == "PENDING" && why.contains("more than 8 times"), "{why}");
}

async fn the_edges_addresses_prove_a_name_that_has_no_others() {
    let platform = Platform::start().await;
    let (id, _) = platform.claimed(OWNER, "example.com", "A").await;
    assert!(platform.verify(OWNER, &id).await.1.contains(EDGE));
    platform.dns.address("example.com", EDGE.parse().unwrap());
    platform.dns.address("example.com", "198.51.100.1".parse().unwrap());
    assert!(platform.verify(OWNER, &id).await.1.contains("198.51.100.1"));
    platform.dns.clear("example.com");
    platform.dns.address("example.com", EDGE_6.parse().unwrap());
    assert!(platform.is_verified(OWNER, &id).await);
}

async fn an_address_proves_nothing_where_others_have_a_claim() {
    let platform = Platform::start().await;
    platform.dns.address("example.com", EDGE.parse().unwrap());
    let (mine, token) = platform.claimed(OWNER, "example.com", "A").await;
    let (theirs, _) = platform.claimed(STRANGER, "example.com", "A").await;
    for (token, id) in [(OWNER, &mine), (STRANGER, &theirs)] {
        let (status, why) = platform.verify(token, id).await;
        assert!(status == "PENDING" && why.contains("another project claims"), "{why}");
    }
    let change = json!({ "verificationMethod": "TXT" });
    platform.call("patch", &format!("/v1/domains/{mine}"), OWNER, change).await;
    platform.dns.txt("example.com", &[&record(&token)]);
    assert!(platform.is_verified(OWNER, &mine).await);
}

async fn records_that_were_left_behind_prove_nothing_for_others() {
    let platform = Platform::start().await;
    platform.dns.address("www.example.com", EDGE.parse().unwrap());
    platform.dns.cname("api.example.com", "mine.af.test.");
    for (name, method) in [("www.example.com", "A"), ("api.example.com", "CNAME")] {
        let (id, _) = platform.claimed(OWNER, name, method).await;
        assert!(platform.is_verified(OWNER, &id).await, "{name}");
    }
    // The function goes, and its domains with it; the DNS stays as it was, and the slug is free.
    let function = format!("/v1/functions/{}", platform.mine.1);
    let (status, deleted) = platform.call("delete", &function, OWNER, Value::Null).await;
    assert_eq!((status, &deleted["domains"]), (200, &json!(["www.example.com", "api.example.com"])));
    assert!(platform.leads_to("www.example.com").await.is_none());
    self::function(&platform.served, STRANGER, "prj_2", "mine").await;
    for (name, method) in [("www.example.com", "A"), ("api.example.com", "CNAME")] {
        let (id, _) = platform.claimed(STRANGER, name, method).await;
        let (status, why) = platform.verify(STRANGER, &id).await;
        assert!(status == "PENDING" && why.contains("proven this name before"), "{name}: {why}");
    }
}

async fn names_below_anothers_wildcard_need_a_txt_record() {
    let platform = Platform::start().await;
    let (id, token) = platform.claimed(OWNER, "*.example.com", "TXT").await;
    platform.dns.txt("example.com", &[&record(&token)]);
    assert!(platform.is_verified(OWNER, &id).await);
    platform.dns.address("www.example.com", EDGE.parse().unwrap());
    let (id, _) = platform.claimed(STRANGER, "www.example.com", "A").await;
    assert!(platform.verify(STRANGER, &id).await.1.contains("proven this name before"));
}

async fn a_txt_record_moves_a_name_once_the_other_one_is_gone() {
    let platform = Platform::start().await;
    let (mine, my_token) = platform.claimed(OWNER, "example.com", "TXT").await;
    platform.dns.txt("example.com", &[&record(&my_token)]);
    assert!(platform.is_verified(OWNER, &mine).await);

    let (theirs, token) = platform.claimed(STRANGER, "example.com", "TXT").await;
    assert!(platform.verify(STRANGER, &theirs).await.1.contains("another claim's"));
    platform.dns.txt("example.com", &[&record(&token)]);
    let (status, why) = platform.verify(STRANGER, &theirs).await;
    assert!(status == "PENDING" && why.contains("still there"), "{why}");
    assert!(platform.is_mine("example.com").await);

    platform.dns.clear("example.com");
    platform.dns.txt("example.com", &[&record(&token)]);
    assert!(platform.is_verified(STRANGER, &theirs).await);
    let state = platform.leads_to("example.com").await.unwrap();
    assert_eq!(state.owner, Owner::Function(platform.theirs.1.clone()));
    let (status, why) = said(&platform.get(OWNER, &mine).await);
    assert!(status == "FAILED" && why.contains("another project"), "{why}");
}

async fn claims_that_cannot_be_right_are_refused() {
    let platform = Platform::start().await;
    for (hostname, method, code) in [
        ("localhost", "TXT", "invalid_hostname"),
        ("127.0.0.1", "TXT", "invalid_hostname"),
        ("https://example.com/", "TXT", "invalid_hostname"),
        ("af.test", "TXT", "hostname_reserved"),
        ("theirs.af.test", "TXT", "hostname_reserved"),
        ("*.other.test", "TXT", "hostname_reserved"),
        ("example.com", "HTTP", "invalid_verification_method"),
    ] {
        let (status, problem) = platform.claim(OWNER, hostname, method).await;
        assert_eq!((status, &problem["code"]), (400, &json!(code)), "{hostname}");
    }
    platform.claimed(OWNER, "example.com", "TXT").await;
    assert_eq!(platform.claim(OWNER, "Example.com", "TXT").await.1["code"], "domain_exists");
    let path = format!("/v1/projects/{}/domains", platform.mine.0);
    let theirs = json!({ "hostname": "example.org", "functionId": platform.theirs.1 });
    assert_eq!(platform.call("post", &path, OWNER, theirs).await.1["code"], "not_found");
    let neither = json!({ "hostname": "example.org" });
    assert_eq!(platform.call("post", &path, OWNER, neither).await.1["code"], "invalid_owner");
    for number in 1..100 {
        platform.claimed(OWNER, &format!("n{number}.example.com"), "TXT").await;
    }
    assert_eq!(platform.claim(OWNER, "example.net", "TXT").await.1["code"], "too_many_domains");
}

async fn a_domain_can_lead_elsewhere() {
    let platform = Platform::start().await;
    let (id, token) = platform.claimed(OWNER, "example.com", "TXT").await;
    platform.dns.txt("example.com", &[&record(&token)]);
    assert!(platform.is_verified(OWNER, &id).await);
    let other = function(&platform.served, OWNER, &platform.mine.0, "other").await;
    let path = format!("/v1/domains/{id}");
    let (status, _) = platform.call("patch", &path, OWNER, json!({ "functionId": other })).await;
    assert_eq!(status, 200);
    assert_eq!(platform.leads_to("example.com").await.unwrap().owner, Owner::Function(other));
    let theirs = json!({ "functionId": platform.theirs.1 });
    assert_eq!(platform.call("patch", &path, OWNER, theirs).await.0, 404);
}

async fn asking_too_often_is_refused() {
    let platform = Platform::start().await;
    let (id, _) = platform.claimed(OWNER, "example.com", "TXT").await;
    let path = format!("/v1/domains/{id}/verify");
    let mut refused = None;
    for _ in 0..12 {
        let (status, problem) = platform.call("post", &path, OWNER, Value::Null).await;
        refused = refused.or((status == 429).then_some(problem));
    }
    assert_eq!(refused.unwrap()["code"], "too_many_requests");
}

async fn a_name_is_lost_when_its_proof_stays_away_and_never_because_the_dns_fails() {
    let platform = Platform::checking(Duration::from_millis(20)).await;
    let mut tokens = Vec::new();
    for name in ["kept.example.com", "lost.example.com", "broken.example.com"] {
        let (id, token) = platform.claimed(OWNER, name, "TXT").await;
        platform.dns.txt(name, &[&record(&token)]);
        assert!(platform.is_verified(OWNER, &id).await);
        tokens.push(id);
    }
    let [kept, lost, broken] = &tokens[..] else { unreachable!() };
    platform.dns.clear("lost.example.com");
    platform.dns.clear("broken.example.com");
    platform.dns.fail("broken.example.com", ResponseCode::ServFail);
    let checked = async |id: &str| platform.get(OWNER, id).await["checkedAt"].as_i64().unwrap();
    let before = checked(broken).await;
    let watching = platform.served.control.clone();
    let watching = tokio::spawn(async move { watching.watch_domains(std::future::pending()).await });
    while said(&platform.get(OWNER, lost).await).0 != "FAILED" || checked(broken).await == before {
        tokio::task::yield_now().await;
    }
    watching.abort();
    assert!(platform.leads_to("lost.example.com").await.is_none());
    for (id, name) in [(kept, "kept.example.com"), (broken, "broken.example.com")] {
        assert_eq!(said(&platform.get(OWNER, id).await).0, "VERIFIED", "{name}");
        assert!(platform.is_mine(name).await, "{name}");
    }
    assert!(said(&platform.get(OWNER, broken).await).1.contains("did not answer"));
}

async fn a_certificate_goes_to_the_edges_and_its_key_nowhere_else() {
    let platform = Platform::start().await;
    let (id, token) = platform.claimed(OWNER, "example.com", "TXT").await;
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(vec!["example.com".to_owned()]).unwrap();
    let chain = params.self_signed(&key).unwrap().pem();
    let key = key.serialize_pem();
    let path = format!("/v1/domains/{id}/certificate");
    let put = async |chain: &str, key: &str| {
        platform.call("put", &path, OWNER, json!({ "chain": chain, "key": key })).await
    };
    assert_eq!(put(&chain, "none").await.1["code"], "invalid_certificate");
    let (status, domain) = put(&chain, &key).await;
    assert_eq!((status, &domain["sslStatus"]), (200, &json!("NONE")), "not before it is verified");
    assert!(domain["certificateExpiresAt"].as_i64().is_some());
    assert!(!domain.to_string().contains("PRIVATE"));

    platform.dns.txt("example.com", &[&record(&token)]);
    assert!(platform.is_verified(OWNER, &id).await);
    assert_eq!(platform.get(OWNER, &id).await["sslStatus"], "ACTIVE");
    let certificate = platform.leads_to("example.com").await.unwrap().certificate.unwrap();
    assert_eq!((certificate.chain, certificate.key), (chain, key));

    let (_, domain) = platform.call("delete", &path, OWNER, Value::Null).await;
    assert_eq!(domain["sslStatus"], "PENDING");
    assert!(platform.leads_to("example.com").await.unwrap().certificate.is_none());
}

crate::on_both!(
    a_txt_record_proves_a_name,
    a_name_with_an_alias_is_proven_below_it,
    a_failing_dns_is_told_from_a_record_that_is_not_there,
    a_wildcard_is_proven_at_its_base_and_not_through_an_alias,
    an_alias_of_a_host_of_the_project_proves_a_name,
    the_edges_addresses_prove_a_name_that_has_no_others,
    an_address_proves_nothing_where_others_have_a_claim,
    records_that_were_left_behind_prove_nothing_for_others,
    names_below_anothers_wildcard_need_a_txt_record,
    a_txt_record_moves_a_name_once_the_other_one_is_gone,
    claims_that_cannot_be_right_are_refused,
    a_domain_can_lead_elsewhere,
    asking_too_often_is_refused,
    a_name_is_lost_when_its_proof_stays_away_and_never_because_the_dns_fails,
    a_certificate_goes_to_the_edges_and_its_key_nowhere_else,
);
