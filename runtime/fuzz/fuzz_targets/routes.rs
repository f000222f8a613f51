//! Any JSON is refused or is a table that stays the same when it is written and read, and any path finds a route of it or
//! none. Input: the table, a line break, the path.

#![no_main]

#[path = "../../src/router/matcher.rs"]
mod matcher;
#[path = "../../src/router/path.rs"]
mod path;
#[path = "../../src/router/routes.rs"]
mod routes;

/// What stands for backends here: finding a route needs nothing of them.
mod proxy {
    use std::time::Duration;

    #[derive(Debug)]
    pub struct Upstreams;

    pub struct UpstreamTarget;

    pub enum UpstreamScheme {
        Http,
        Https,
    }

    impl UpstreamTarget {
        pub fn new(_: UpstreamScheme, _: http::uri::Authority) -> Result<Self, std::convert::Infallible> {
            Ok(Self)
        }
    }

    impl Upstreams {
        pub fn new(_: Vec<Option<UpstreamTarget>>, _: Duration) -> Self {
            Self
        }
    }
}

use af_contract::RouteTable;
use af_contract::routes::Target;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let (json, request) = text.split_once('\n').unwrap_or((text, "/api/a/../b"));
    let Ok(Some(table)) = RouteTable::from_json(json) else { return };
    let again = RouteTable::from_json(&table.to_string()).expect("it was one").expect("it is not null");
    assert_eq!(again, table);
    let Some(path) = path::normal(request) else { return };
    let routes = routes::Routes::compile(&table);
    let Some(found) = routes.find("GET", "www.example.com", &path) else { return };
    assert!(path.ends_with(found.rest(&path)) && found.captures(&path).len() <= path.len() + 1);
    if let Target::Backend(backend) = &found.rule.rule.target {
        for url in &backend.urls {
            if let Ok(path) = url.path_and_query(found.rest(&path), &found.captures(&path), None) {
                assert!(path.starts_with('/'), "{path}");
            }
        }
    }
});
