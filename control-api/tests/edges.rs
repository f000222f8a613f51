//! What edges are told after something was forgotten, which of their requests count, and what becomes of their reports.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure here is the test's failure")]

mod support;

use af_contract::edge::{Bound, DeploymentReport, FeedPage, FeedRequest, Report, Share, WorkRequest};
use serde_json::{Value, json};
use support::edges::{TestEdge, feed};
use support::{Engine, OWNER, Served, on};

async fn project(served: &Served) -> String {
    let (_, projects) = served.call("get", "/v1/projects", Some(OWNER), Value::Null).await;
    format!("/v1/projects/{}", projects["data"][0]["id"].as_str().unwrap())
}

/// Makes a site and tells the feed of it. Its path.
async fn site(served: &Served, name: &str) -> String {
    let sites = format!("{}/sites", project(served).await);
    let (status, made) = served.call("post", &sites, Some(OWNER), json!({ "name": name })).await;
    assert_eq!(status, 201, "{made}");
    let site = format!("/v1/sites/{}", made["id"].as_str().unwrap());
    let slug = json!({ "slug": format!("{name}-slug") });
    let (status, changed) = served.call("patch", &site, Some(OWNER), slug).await;
    assert_eq!(status, 200, "{changed}");
    site
}

async fn delete(served: &Served, path: &str) {
    assert_eq!(served.call("delete", path, Some(OWNER), Value::Null).await.0, 200, "{path}");
}

/// As if a week had passed.
async fn age(served: &Served) {
    served.stored.script("update feed set changed_at = changed_at - 8 * 24 * 3600 * 1000").await;
}

async fn after(edge: &TestEdge, known: &FeedPage) -> FeedPage {
    let wanted =
        FeedRequest { epoch: Some(known.epoch.clone()), after: known.until, ..FeedRequest::default() };
    edge.ask(&wanted).await.unwrap()
}

fn said(page: &FeedPage) -> Vec<(u64, bool)> {
    page.updates.iter().map(|update| (update.revision, update.change.is_there())).collect()
}

async fn what_has_been_gone_for_a_week_is_forgotten_and_who_was_away_is_told_all_anew() {
    let served = Served::start().await;
    let edge = TestEdge::join(&served, "edge-1").await;
    let (_stays, goes) = (site(&served, "stays").await, site(&served, "goes").await);
    let away = edge.all().await.pop().unwrap();
    let there = away.updates.len();
    delete(&served, &goes).await;
    let gone = after(&edge, &away).await;
    assert_eq!(said(&gone), [(away.until + 1, false)]);
    assert_eq!(served.control.compact_feed().await.unwrap(), 0, "not yet");
    age(&served).await;
    assert_eq!(served.control.compact_feed().await.unwrap(), 0, "revisions go on from the newest");
    let newest = site(&served, "newest").await;
    assert_eq!(served.control.compact_feed().await.unwrap(), 1);
    assert_eq!(served.control.compact_feed().await.unwrap(), 0);
    // Who knew of it goes on, also at the very revision that was forgotten.
    let news = after(&edge, &gone).await;
    assert_eq!((news.after, said(&news).len()), (gone.until, 1));
    // Who did not is told all anew, in which it is not.
    let anew = after(&edge, &away).await;
    assert_eq!((anew.after, anew.until), (0, news.until));
    assert_eq!(said(&anew).len(), there, "one is gone, one is new");
    assert!(said(&anew).iter().all(|(_, there)| *there));
    // Revisions are never used again.
    delete(&served, &newest).await;
    assert_eq!(said(&after(&edge, &news).await), [(news.until + 1, false)]);
}

async fn what_comes_anew_in_several_pages_comes_to_an_end_after_something_was_forgotten() {
    let served = Served::start().await;
    let edge = TestEdge::join(&served, "edge-1").await;
    let many = "with recursive n(i) as (select 1 union all select i + 1 from n where i < 600)
        insert into feed (kind, id, revision, changed_at) select 'site', 'site_of_old_' || i, 1000 + i, 9000000000000 from n";
    served.stored.script(many).await;
    let goes = site(&served, "goes").await;
    delete(&served, &goes).await;
    age(&served).await;
    site(&served, "stays").await;
    assert_eq!(served.control.compact_feed().await.unwrap(), 1);
    let pages = edge.all().await;
    let places: Vec<_> = pages.iter().map(|page| (page.after, page.more)).collect();
    let [first, .., last] = &pages[..] else { panic!("{places:?}") };
    assert_eq!(places[0], (0, true));
    for (before, this) in pages.iter().zip(&places[1..]) {
        assert_eq!(*this, (before.until, before.until != pages[pages.len() - 2].until), "{places:?}");
    }
    assert_eq!(said(last).iter().filter(|(_, there)| *there).count(), 1);
    // Who is there and not told all anew begins with that.
    assert_eq!(after(&edge, first).await.after, 0);
    assert_eq!(after(&edge, last).await.after, last.until);
}

async fn a_proof_counts_for_its_request_only_and_once_where_that_changes_something() {
    let served = Served::start().await;
    let edge = TestEdge::join(&served, "edge-1").await;
    let share = || Share::new().unwrap().public();
    let reading = || edge.prove(Bound::to("GET", "/v1/edge/feed").with_share(share()));
    // Other requests with it.
    assert_eq!(edge.send("GET", "/v1/edge/feed", &reading(), b"").await, 200);
    for (method, path) in
        [("POST", "/v1/edge/work"), ("POST", "/v1/edge/report"), ("GET", "/v1/edge/ipfs/bafkqaaa")]
    {
        assert_eq!(edge.send(method, path, &reading(), b"").await, 400, "{path}");
    }
    let work = serde_json::to_vec(&WorkRequest::default()).unwrap();
    let working = || edge.prove(Bound::to("POST", "/v1/edge/work").with_share(share()).with_body(&work));
    assert_eq!(edge.send("POST", "/v1/edge/report", &working(), &work).await, 400);
    // One that is used up, and one that is not because nothing came of it.
    let proof = working();
    assert_eq!(edge.send("POST", "/v1/edge/work", &proof, b"{}").await, 400, "another body");
    assert_eq!(edge.send("POST", "/v1/edge/work", &proof, &work).await, 200);
    assert_eq!(edge.send("POST", "/v1/edge/work", &proof, &work).await, 401, "again");
    let report = serde_json::to_vec(&Report::default()).unwrap();
    let proof = edge.prove(Bound::to("POST", "/v1/edge/report").with_body(&report));
    assert_eq!(edge.send("POST", "/v1/edge/report", &proof, &report).await, 204);
    assert_eq!(edge.send("POST", "/v1/edge/report", &proof, &report).await, 401, "again");
    // What only reads may be tried again: its answer is sealed to whoever asked first.
    let proof = reading();
    for _ in 0..2 {
        assert_eq!(edge.send("GET", "/v1/edge/feed", &proof, b"").await, 200);
    }
}

async fn what_somebody_in_between_changes_of_a_request_does_not_count() {
    let served = Served::start().await;
    let edge = TestEdge::join(&served, "edge-1").await;
    awaited(&served, "alpha").await;
    // Whom an edge tells that it was told of all since would not be told what has gone: each part of the query counts.
    let wanted = FeedRequest { epoch: Some("epoch_1".into()), after: 7, anew: false, wait_ms: 0 };
    let proof = || edge.prove(Bound::to("GET", &feed(&wanted)).with_share(Share::new().unwrap().public()));
    assert_eq!(edge.send("GET", &feed(&wanted), &proof(), b"").await, 200);
    let changed = [
        FeedRequest { epoch: None, ..wanted.clone() },
        FeedRequest { epoch: Some("epoch_2".into()), ..wanted.clone() },
        FeedRequest { after: 8, ..wanted.clone() },
        FeedRequest { anew: true, ..wanted.clone() },
        FeedRequest { wait_ms: 50_000, ..wanted.clone() },
    ];
    let asked = feed(&wanted);
    let others =
        ["/v1/edge/feed".to_owned(), format!("{asked}&"), asked.replace("anew=false", "anew=%66alse")];
    for path in changed.iter().map(feed).chain(others) {
        assert_eq!(edge.send("GET", &path, &proof(), b"").await, 400, "{path}");
    }
    // Content: what of a file is sent is in the query.
    let content = "/v1/edge/ipfs/bafkqaaa?format=raw";
    let proof = || edge.prove(Bound::to("GET", content));
    assert_eq!(edge.send("GET", content, &proof(), b"").await, 200);
    for path in ["/v1/edge/ipfs/bafkqaaa", "/v1/edge/ipfs/bafkqaaa?format=car"] {
        assert_eq!(edge.send("GET", path, &proof(), b"").await, 400, "{path}");
    }
    // A deployment that cannot be used, by one letter; and one of a call's end.
    let report = r#"{"deployments":[{"deployment":"dep_alpha"}]}"#;
    let failed = r#"{"deployments":[{"deployment":"dep_alpha","failure":"no"}]}"#;
    let work = r#"{"running":["run_1"],"waitMs":0}"#;
    let lost = r#"{"running":["run_2"],"waitMs":0}"#;
    let batch = r#"{"batch":"a","lines":[]}"#;
    let other = r#"{"batch":"b","lines":[]}"#;
    for (path, sent, changed, status) in [
        ("/v1/edge/report", report, failed, 204),
        ("/v1/edge/work", work, lost, 200),
        ("/v1/edge/logs", batch, other, 204),
    ] {
        let bound = || Bound::to("POST", path).with_share(Share::new().unwrap().public());
        let proof = edge.prove(bound().with_body(sent.as_bytes()));
        for body in [changed, "", "{}"] {
            assert_eq!(edge.send("POST", path, &proof, body.as_bytes()).await, 400, "{path} {body}");
        }
        assert_eq!(edge.send("POST", &format!("{path}?x"), &proof, sent.as_bytes()).await, 400, "{path}");
        let bodiless = edge.prove(bound());
        assert_eq!(edge.send("POST", path, &bodiless, sent.as_bytes()).await, 400, "{path}");
        // Nothing of that has used it up.
        assert_eq!(edge.send("POST", path, &proof, sent.as_bytes()).await, status, "{path}");
        assert_eq!(edge.send("POST", path, &proof, sent.as_bytes()).await, 401, "{path} again");
    }
    let rows =
        served.stored.rows("select d.reported, t.hash from deployments d, tokens t where t.id = 'tok_2'");
    assert_eq!(rows.await.into_iter().map(|(reported, _)| reported).collect::<Vec<_>>(), ["READY"]);
}

async fn whatever_an_edge_asks_says_that_it_is_there() {
    let served = Served::start().await;
    let edge = TestEdge::join(&served, "edge-1").await;
    edge.all().await;
    let listed = async || {
        let (_, edges) = served.call("get", "/v1/edges", Some(OWNER), Value::Null).await;
        edges["data"][0].clone()
    };
    let long_ago = async || {
        served.stored.script("update edges set seen_at = 1, revision = 7").await;
        served.control.write_edges_seen().await.unwrap();
        listed().await["seenAt"].as_i64()
    };
    served.control.write_edges_seen().await.unwrap();
    let bodies: [(&str, &str, &str); 5] = [
        ("GET", "/v1/edge/feed?after=3", ""),
        ("GET", "/v1/edge/ipfs/bafkqaaa?format=raw", ""),
        ("POST", "/v1/edge/work", "{}"),
        ("POST", "/v1/edge/report", "{}"),
        ("POST", "/v1/edge/logs", r#"{"batch":"a","lines":[]}"#),
    ];
    for (method, path, body) in bodies {
        assert_eq!(long_ago().await, Some(1), "what was written down is not written again");
        let bound = Bound::to(method, path).with_share(Share::new().unwrap().public());
        let proof = edge.prove(if method == "POST" { bound.with_body(body.as_bytes()) } else { bound });
        let status = edge.send(method, path, &proof, body.as_bytes()).await;
        assert!((200..300).contains(&status), "{path} {status}");
        assert_eq!(listed().await["seenAt"], 1, "not with each request");
        served.control.write_edges_seen().await.unwrap();
        let listed = listed().await;
        assert!(listed["seenAt"].as_i64() > Some(1_000_000_000_000), "{path} {listed}");
        // Only the feed says up to where it knows it; it asked for all of another history.
        let revision = if path.starts_with("/v1/edge/feed") { 0 } else { 7 };
        assert_eq!(listed["revision"], revision, "{path}");
    }
    // Nobody else's word counts.
    assert_eq!(long_ago().await, Some(1));
    let stranger = edge.prove(Bound::to("GET", "/v1/edge/work"));
    assert_eq!(edge.send("GET", "/v1/edge/feed", &stranger, b"").await, 400);
    served.control.write_edges_seen().await.unwrap();
    assert_eq!(listed().await["seenAt"], 1);
}

async fn the_control_plane_knows_which_version_an_edge_runs() {
    let served = Served::start().await;
    let edge = TestEdge::join(&served, "edge-1").await;
    let listed =
        async || served.call("get", "/v1/edges", Some(OWNER), Value::Null).await.1["data"][0].clone();
    assert_eq!(listed().await["version"], Value::Null);
    edge.all().await;
    let listed = listed().await;
    assert_eq!(listed["version"], env!("CARGO_PKG_VERSION"));
    assert!(listed["seenAt"].is_i64(), "{listed}");
}

/// A function with a deployment that edges are to report on, as rows: nobody here can run it.
async fn awaited(served: &Served, name: &str) {
    let functions = format!("{}/functions", project(served).await);
    let (_, function) = served.call("post", &functions, Some(OWNER), json!({ "name": name })).await;
    let id = function["id"].as_str().unwrap();
    served
        .stored
        .script(&format!(
            "insert into deployments (id, function_id, number, manifest_cid, code_cid, blake3, size, world, author_id, created_at, reported)
                values ('dep_{name}', '{id}', 1, 'bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e',
                'bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e', 'd7', 1, 'wasi:http/proxy@0.2', 'usr_2', 0, 'DEPLOYING');
             update functions set current_deployment_id = 'dep_{name}', status = 'ACTIVE' where id = '{id}'"
        ))
        .await;
}

async fn a_report_that_the_database_refuses_keeps_no_other_from_being_written_down() {
    let served = Served::start().await;
    let edge = TestEdge::join(&served, "edge-1").await;
    for name in ["alpha", "beta", "gamma"] {
        awaited(&served, name).await;
    }
    served
        .stored
        .script(if served.stored.is_postgres() {
            "create function refuse() returns trigger language plpgsql as $$ begin raise exception 'no'; end $$;
             create trigger refuse before update on deployments for each row when (new.id = 'dep_alpha') execute function refuse()"
        } else {
            "create trigger refuse before update on deployments when new.id = 'dep_alpha' begin select raise(abort, 'no'); end"
        })
        .await;
    let reports = |names: &[&str]| {
        let deployments = names.iter().map(|name| DeploymentReport {
            deployment: format!("dep_{name}"),
            failure: None,
            may_pass: false,
        });
        Report { deployments: deployments.collect(), ..Report::default() }
    };
    let send = async |report: &Report| {
        let body = serde_json::to_vec(report).unwrap();
        let proof = edge.prove(Bound::to("POST", "/v1/edge/report").with_body(&body));
        edge.send("POST", "/v1/edge/report", &proof, &body).await
    };
    let ready = async || {
        let rows = served.stored.rows("select d.id, t.hash from deployments d, tokens t where d.reported = 'READY' and t.id = 'tok_2' order by d.id");
        rows.await.into_iter().map(|(id, _)| id).collect::<Vec<_>>()
    };
    assert_eq!(send(&reports(&["alpha", "beta"])).await, 409);
    assert_eq!(ready().await, ["dep_beta"]);
    // The same from the edge of the server's own process.
    let refused = served.control.report(&reports(&["alpha", "gamma"])).await.unwrap_err();
    assert!(refused.is_final(), "{refused}");
    assert_eq!(ready().await, ["dep_beta", "dep_gamma"]);
    assert_eq!(send(&reports(&["beta", "gamma"])).await, 204);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proof_counts_once_at_all_servers_of_a_database() {
    on(Engine::Postgres, async {
        let first = Served::start().await;
        let second = first.beside().await;
        let edge = TestEdge::join(&first, "east").await;
        let body = b"{}".to_vec();
        let proof = || edge.prove(Bound::to("POST", "/v1/edge/logs").with_body(&body));
        let sent = async |served: &Served, proof: &str| {
            served.post("/v1/edge/logs", proof, &[], body.clone()).await.status().as_u16()
        };
        for (one, other) in [(&first, &second), (&second, &first)] {
            let proof = proof();
            // It counts, and what it came with is no batch.
            assert_eq!(sent(one, &proof).await, 400);
            assert_eq!(sent(other, &proof).await, 401);
            assert_eq!(sent(one, &proof).await, 401);
        }
    })
    .await;
}

on_both!(
    what_has_been_gone_for_a_week_is_forgotten_and_who_was_away_is_told_all_anew,
    what_comes_anew_in_several_pages_comes_to_an_end_after_something_was_forgotten,
    a_proof_counts_for_its_request_only_and_once_where_that_changes_something,
    what_somebody_in_between_changes_of_a_request_does_not_count,
    whatever_an_edge_asks_says_that_it_is_there,
    the_control_plane_knows_which_version_an_edge_runs,
    a_report_that_the_database_refuses_keeps_no_other_from_being_written_down,
);
