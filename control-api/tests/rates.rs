//! Rates, counted in one process and together with others.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure here is the test's failure")]

mod support;

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use af_contract::limits;
use af_control_api::ControlConfig;
use af_control_api::domain::rates::Rates;
use af_control_api::domain::standings::Standings;
use af_control_api::domain::{Actor, Call, Error};
use af_control_api::redis::SharedRates;
use serde_json::{Value, json};
use support::Served;
use support::redis::Redis;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fn actor(user: &str, token: &str) -> Actor {
    Actor {
        user: user.into(),
        token: token.into(),
        shown: Default::default(),
        grant: Default::default(),
        call: Call::default(),
        about: None,
    }
}

/// Rates of a server that counts in Redis, and how often it could not.
fn shared(url: &str, per_second: NonZeroU32) -> (Rates, Arc<AtomicU64>) {
    let shared = SharedRates::new(&url.parse().unwrap()).unwrap();
    let alone = shared.alone();
    (Rates::new(per_second, Some(Arc::new(shared))), alone)
}

async fn redis() -> Redis {
    tokio::task::spawn_blocking(Redis::start).await.unwrap()
}

/// The same, in memory and in Redis.
macro_rules! in_both {
    ($($story:ident),+ $(,)?) => {
        mod in_memory {
            $(#[tokio::test]
            async fn $story() {
                super::$story(|per_second| super::Rates::new(per_second, None)).await;
            })+
        }
        mod in_redis {
            $(#[tokio::test]
            async fn $story() {
                let redis = super::redis().await;
                let alone = std::cell::Cell::new(None);
                super::$story(|per_second| {
                    let (rates, counted) = super::shared(&redis.url(), per_second);
                    alone.set(Some(counted));
                    rates
                }).await;
                assert_eq!(alone.take().unwrap().load(super::Ordering::Relaxed), 0, "all were counted there");
            })+
        }
    };
}

async fn tokens_do_not_share_a_rate_but_their_users_do(rates: impl Fn(NonZeroU32) -> Rates) {
    let rates = rates(NonZeroU32::MIN);
    let one = actor("usr_1", "one");
    assert!(rates.count(&one).await.is_ok() && rates.count(&one).await.is_ok());
    let early = rates.count(&one).await;
    assert!(matches!(early, Err(Error::RateLimited { whose: "token", retry_after: 1 })), "{early:?}");
    assert!(rates.count(&actor("usr_2", "two")).await.is_ok());
    for number in 0..6 {
        assert!(rates.count(&actor("usr_1", &number.to_string())).await.is_ok(), "{number}");
    }
    let another = rates.count(&actor("usr_1", "another")).await;
    assert!(matches!(another, Err(Error::RateLimited { whose: "user", .. })), "{another:?}");
}

async fn networks_share_a_rate_and_this_machine_has_none(rates: impl Fn(NonZeroU32) -> Rates) {
    let rates = rates(NonZeroU32::MIN);
    let address = async |text: &str| rates.address(text.parse().unwrap(), &Standings::default()).await;
    for number in 0..20 {
        assert!(address(&format!("2001:db8::{number}")).await.is_ok());
    }
    assert!(matches!(address("2001:db8::ffff").await, Err(Error::RateLimited { whose: "address", .. })));
    assert!(address("2001:db8:0:1::1").await.is_ok());
    for _ in 0..100 {
        assert!(address("127.0.0.1").await.is_ok() && address("::ffff:127.0.0.1").await.is_ok());
    }
}

async fn whoever_guesses_is_refused_before_anything_is_looked_up(rates: impl Fn(NonZeroU32) -> Rates) {
    let rates = rates(limits::REQUESTS_PER_SECOND);
    let address: IpAddr = "192.0.2.1".parse().unwrap();
    for _ in 0..30 {
        assert!(
            rates.failed(address).await.is_ok()
                && rates.address(address, &Standings::default()).await.is_ok()
        );
    }
    let refused = rates.failed(address).await;
    assert!(matches!(refused, Err(Error::Limit { code: "too_many_failures", .. })), "{refused:?}");
    assert!(rates.address(address, &Standings::default()).await.is_err());
    assert!(rates.address("192.0.2.2".parse().unwrap(), &Standings::default()).await.is_ok());
}

async fn whoever_asks_is_told_what_is_left(rates: impl Fn(NonZeroU32) -> Rates) {
    let rates = rates(NonZeroU32::new(2).unwrap());
    let me = actor("usr_1", "one");
    let told = |standings: &Standings| -> Vec<(&str, u32, u32, u32)> {
        let all = standings.all().into_iter();
        all.map(|standing| (standing.whose, standing.quota, standing.window, standing.remaining)).collect()
    };
    rates.count(&me).await.unwrap();
    assert_eq!(told(&me.call.standings), [("token", 4, 2, 3), ("user", 16, 2, 15)]);
    assert_eq!(me.call.standings.all()[0].reset, 1);
    while rates.count(&me).await.is_ok() {}
    let refused = told(&me.call.standings);
    assert!(refused.contains(&("token", 4, 2, 0)), "{refused:?}");
    let standings = Standings::default();
    rates.address("192.0.2.1".parse().unwrap(), &standings).await.unwrap();
    rates.address("127.0.0.1".parse().unwrap(), &standings).await.unwrap();
    assert_eq!(told(&standings), [("address", 40, 2, 39)], "this machine is not counted");
}

async fn an_organization_has_the_rate_of_its_plan(rates: impl Fn(NonZeroU32) -> Rates) {
    let rates = rates(limits::REQUESTS_PER_SECOND);
    let standings = Standings::default();
    let ask = async |id: &str, per_minute: i64| rates.organization(id, per_minute, &standings).await;
    assert!(ask("org_1", 2).await.is_ok());
    let standing = standings.all()[0];
    assert_eq!((standing.whose, standing.quota, standing.window), ("organization", 2, 60));
    assert_eq!((standing.remaining, standing.reset), (1, 30));
    assert!(ask("org_1", 2).await.is_ok());
    let early = ask("org_1", 2).await;
    assert!(
        matches!(early, Err(Error::RateLimited { whose: "organization", retry_after: 1..=30 })),
        "{early:?}"
    );
    for _ in 0..1_000 {
        assert!(ask("org_2", 1_000).await.is_ok(), "all of a minute's at once");
    }
}

in_both!(
    an_organization_has_the_rate_of_its_plan,
    whoever_asks_is_told_what_is_left,
    tokens_do_not_share_a_rate_but_their_users_do,
    networks_share_a_rate_and_this_machine_has_none,
    whoever_guesses_is_refused_before_anything_is_looked_up,
);

#[tokio::test]
async fn servers_count_together_and_take_all_or_nothing() {
    let redis = redis().await;
    let (one, other) = (shared(&redis.url(), NonZeroU32::MIN).0, shared(&redis.url(), NonZeroU32::MIN).0);
    let me = actor("usr_1", "mine");
    assert!(one.count(&me).await.is_ok() && other.count(&me).await.is_ok());
    assert!(one.count(&me).await.is_err() && other.count(&me).await.is_err());
    // What the token was refused did not cost its user anything: 8 at once, of which 2 were used.
    for number in 0..6 {
        assert!(one.count(&actor("usr_1", &number.to_string())).await.is_ok(), "{number}");
    }
    assert!(matches!(
        other.count(&actor("usr_1", "new")).await,
        Err(Error::RateLimited { whose: "user", .. })
    ));
}

#[tokio::test]
async fn a_server_counts_alone_while_redis_is_away() {
    let redis = redis().await;
    let (url, port) = (redis.url(), redis.port);
    let (rates, alone) = shared(&url, limits::REQUESTS_PER_SECOND);
    assert!(rates.is_noted("one").await);
    assert_eq!(alone.load(Ordering::Relaxed), 0);
    drop(redis);
    // It is counted, by the same rate: neither for nothing nor never.
    let mut noted = 0;
    for _ in 0..60 {
        noted += u32::from(rates.is_noted("one").await);
    }
    assert!((30..60).contains(&noted), "{noted}");
    assert_eq!(alone.load(Ordering::Relaxed), 60);
    let redis = tokio::task::spawn_blocking(move || Redis::start_at(port)).await.unwrap();
    // It is asked again once a second.
    loop {
        let before = alone.load(Ordering::Relaxed);
        rates.is_noted("two").await;
        if alone.load(Ordering::Relaxed) == before {
            break;
        }
        tokio::task::yield_now().await;
    }
    assert!(rates.is_noted("one").await, "there, nobody has counted it");
    drop(redis);
}

#[tokio::test]
async fn whoever_is_no_redis_is_away_too() {
    for said in ["", "-ERR unknown command\r\n", "HTTP/1.1 400 Bad Request\r\n\r\n", "*2\r\n:7\r\n"] {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("redis://127.0.0.1:{}", listener.local_addr().unwrap().port());
        let answering = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let mut bytes = [0; 1024];
                    while matches!(stream.read(&mut bytes).await, Ok(1..)) {
                        if stream.write_all(said.as_bytes()).await.is_err() {
                            break;
                        }
                    }
                });
            }
        });
        let (rates, alone) = shared(&url, limits::REQUESTS_PER_SECOND);
        assert!(rates.is_noted("one").await && rates.is_noted("one").await, "{said}");
        assert_eq!(alone.load(Ordering::Relaxed), 2, "{said}");
        answering.abort();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn guesses_at_several_servers_count_as_one() {
    let redis = redis().await;
    let mut servers = Vec::new();
    for _ in 0..2 {
        servers.push(
            Served::changed(|config| {
                config.api.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
                config.api.redis = Some(redis.url().parse().unwrap());
            })
            .await,
        );
    }
    let mut tries = 0;
    let from = [("x-forwarded-for", "192.0.2.9")];
    // Each alone would let 30 through.
    for server in servers.iter().cycle().take(60) {
        let answer = server.answer("get", "/v1/me", Some("af_live_a_guess"), &from, Value::Null).await;
        if answer.status() == 429 {
            break;
        }
        assert_eq!(answer.status(), 401);
        tries += 1;
    }
    assert!((30..50).contains(&tries), "{tries}");
    assert!(
        servers.iter().all(|server| server.control.counted_alone().unwrap().load(Ordering::Relaxed) == 0)
    );
}

/// Of an organization that may ask ten times in a minute, by two servers of one database, each with a connection to Redis.
async fn a_plans_rate_counts_at_all_servers_together() {
    let redis = redis().await;
    let url = redis.url();
    let together = || |config: &mut ControlConfig| config.api.redis = Some(url.parse().unwrap());
    let first = Served::changed(together()).await;
    let second = first.beside_as(together()).await;
    let servers = [&first, &second];
    let limits = json!({ "name": "small", "limits": { "requestsPerMinute": 10 } });
    let (_, plan) = first.call("post", "/v1/plans", Some(support::OWNER), limits).await;
    let assign = json!({ "planId": plan["id"] });
    let path = "/v1/organizations/org_2/plan";
    assert!(first.call("put", path, Some(support::OWNER), assign).await.0 < 300);
    let ask = async |server: &Served| {
        let answer =
            server.answer("get", "/v1/projects/prj_2", Some(support::STRANGER), &[], Value::Null).await;
        let header = |name: &str| answer.headers()[name].to_str().unwrap().to_owned();
        let (policies, left) = (header("ratelimit-policy"), header("ratelimit"));
        assert!(policies.contains("\"organization\";q=10;w=60"), "{policies}");
        let left = left.split("\"organization\";r=").nth(1).unwrap().split(';').next().unwrap();
        let left: u32 = left.parse().unwrap();
        (answer.status().as_u16(), left, answer.json::<Value>().await.unwrap())
    };
    let mut left = Vec::new();
    // Each alone would let ten through.
    for server in servers.iter().cycle().take(20) {
        let (status, now, said) = ask(server).await;
        if status == 429 {
            assert_eq!(said["code"], "rate_limit_exceeded");
            break;
        }
        assert_eq!(status, 200, "{said}");
        left.push(now);
    }
    assert!((10..20).contains(&left.len()) && left[..2] == [9, 8], "{left:?}");
    // Both say the same, but for the seconds.
    let mut said = Vec::new();
    for server in servers {
        let (status, left, answer) = ask(server).await;
        assert_eq!((status, left), (429, 0), "{answer}");
        let detail = answer["detail"].as_str().unwrap().to_owned();
        assert!(
            detail.starts_with("org_2 may be asked about 10 times in a minute by its plan small"),
            "{detail}"
        );
        said.push((answer["code"].clone(), detail.split(" try again in ").next().unwrap().to_owned()));
        assert_eq!(server.control.counted_alone().unwrap().load(Ordering::Relaxed), 0);
    }
    assert_eq!(said[0], said[1]);
}

on_both!(a_plans_rate_counts_at_all_servers_together);

#[tokio::test]
async fn answers_say_what_is_left() {
    let served = Served::changed(|config| {
        config.api.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
        config.rate_limit = NonZeroU32::MIN;
    })
    .await;
    let from = [("x-forwarded-for", "192.0.2.9")];
    let ask = async |token: Option<&str>| {
        let answer = served.answer("get", "/v1/me", token, &from, Value::Null).await;
        let header = |name: &str| answer.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
        (answer.status().as_u16(), header("ratelimit-policy"), header("ratelimit"))
    };
    let (status, policy, limit) = ask(Some(support::OWNER)).await;
    let policies = "\"address\";q=20;w=2, \"token\";q=2;w=2, \"user\";q=8;w=2";
    assert_eq!((status, policy.as_deref()), (200, Some(policies)));
    assert_eq!(limit.unwrap(), "\"address\";r=19;t=1, \"token\";r=1;t=1, \"user\";r=7;t=1");
    let (status, policy, _) = ask(None).await;
    assert_eq!((status, policy.as_deref()), (401, Some("\"address\";q=20;w=2")));
    for _ in 0..100 {
        let (status, policy, limit) = ask(Some(support::OWNER)).await;
        if status == 429 {
            assert_eq!(policy.unwrap(), "\"address\";q=20;w=2, \"token\";q=2;w=2");
            assert!(limit.unwrap().ends_with("\"token\";r=0;t=1"));
            return;
        }
    }
    panic!("nothing was refused");
}
