use serde_json::json;

use super::*;

fn refusal(text: &str) -> String {
    RouteTable::from_json(text).unwrap_err().to_string()
}

#[test]
fn faults_have_the_older_platforms_texts() {
    for (table, text) in [
        ("[]", "Routes must be an object mapping path patterns to target URLs"),
        ("\"/a\"", "Routes must be an object mapping path patterns to target URLs"),
        ("7", "Routes must be an object mapping path patterns to target URLs"),
        ("{}", "Routes object cannot be empty"),
        (r#"{"api":"https://t"}"#, r#"Invalid path pattern "api". Path patterns must start with "/""#),
        (r#"{"":7}"#, r#"Invalid path pattern "". Path patterns must start with "/""#),
        (r#"{"/a":7}"#, r#"Invalid target URL for path "/a". Target must be a string"#),
        (r#"{"/a":null}"#, r#"Invalid target URL for path "/a". Target must be a string"#),
        (r#"{"/a":{}}"#, r#"Invalid target URL for path "/a". Target must be a string"#),
        (r#"{"/a":[]}"#, r#"Invalid target URL for path "/a". Target must be a string"#),
        (r#"{"/a":"t"}"#, r#"Invalid target URL "t" for path "/a". Must be a valid URL"#),
        (r#"{"/a":"https://"}"#, r#"Invalid target URL "https://" for path "/a". Must be a valid URL"#),
        (
            r#"{"/a":"ftp://t"}"#,
            r#"Invalid target URL "ftp://t" for path "/a". Must use http:// or https:// protocol"#,
        ),
        (
            r#"{"/a":"HTTPS://t"}"#,
            r#"Invalid target URL "HTTPS://t" for path "/a". Must use http:// or https:// protocol"#,
        ),
        // The first fault in the order of the members.
        (r#"{"/b":7,"a":7}"#, r#"Invalid target URL for path "/b". Target must be a string"#),
    ] {
        assert_eq!(refusal(table), text, "{table}");
    }
    assert!(RouteTable::from_json("null").unwrap().is_none());
}

#[test]
fn a_table_keeps_its_order_and_what_was_written() {
    let text = r#"{"/z":"https://t/","/a/*":{"urls":["http://a","http://b"]},"/m":[{"methods":["GET"],"function":"other"},"https://t"]}"#;
    let table = RouteTable::from_json(text).unwrap().unwrap();
    assert_eq!(table.to_string(), text);
    let again: RouteTable = serde_json::from_str(text).unwrap();
    assert_eq!(again, table);
    let twice =
        RouteTable::from_json(r#"{"/a":"https://1","/b":"https://2","/a":"https://3"}"#).unwrap().unwrap();
    assert_eq!(twice.to_string(), r#"{"/a":"https://3","/b":"https://2"}"#);
}

fn forwarded(target: &str, rest: &str, query: Option<&str>) -> String {
    let url = BackendUrl::joined(target).unwrap();
    let path = url.path_and_query(rest, &[], query).unwrap();
    format!("{}://{}{path}", url.scheme.as_str(), url.authority)
}

#[test]
fn the_rest_is_joined_to_the_target_as_text() {
    for (target, rest, query, url) in [
        ("https://t", "123", Some("x=1"), "https://t/123?x=1"),
        ("https://t", "", None, "https://t/"),
        ("https://t/", "", None, "https://t/"),
        ("https://t/", "a/b", None, "https://t/a/b"),
        ("https://t/v1", "/a", None, "https://t/v1/a"),
        ("https://t/v1/", "a", None, "https://t/v1/a"),
        ("https://t/v1//", "a", None, "https://t/v1//a"),
        ("https://t//", "a", None, "https://t//a"),
        ("https://t/v1", "", Some("a=1&a=2"), "https://t/v1?a=1&a=2"),
        ("http://t:8080/x", "1/", None, "http://t:8080/x/1/"),
        ("http://t:80/x", "1", None, "http://t/x/1"),
        ("https://user:secret@t/x", "1", None, "https://t/x/1"),
        ("https://t/x?k=1", "a", Some("q=2"), "https://t/x?k=1/a&q=2"),
        ("https://t/x#f", "a", Some("q=2"), "https://t/x"),
        ("https://t/a/../b", "c", None, "https://t/b/c"),
        ("https://T.Example", "a", None, "https://t.example/a"),
    ] {
        assert_eq!(forwarded(target, rest, query), url, "{target} {rest}");
    }
}

fn rule(pattern: &str, rule: serde_json::Value) -> Result<Rule, String> {
    let table =
        RouteTable::from_json(&json!({ pattern: rule }).to_string()).map_err(|error| error.to_string())?;
    Ok(table.unwrap().routes()[0].rules[0].clone())
}

#[test]
fn placeholders_are_filled_in() {
    let filled = |pattern: &str, url: &str, captures: &[&str]| {
        let rule = rule(pattern, json!({ "url": url })).unwrap();
        let Target::Backend(backend) = rule.target else { panic!("{url}") };
        backend.urls[0].path_and_query("", captures, Some("q")).map_err(|error| error.to_string())
    };
    assert_eq!(
        filled("/u/:id/*", "https://t/users/:id/files/*", &["7", "a/b"]).unwrap(),
        "/users/7/files/a/b?q"
    );
    assert_eq!(filled("/:a/:b", "https://t/:b/:a/:b", &["1", "2"]).unwrap(), "/2/1/2?q");
    assert_eq!(filled("/:a/:a", "https://t/:a", &["1", "2"]).unwrap(), "/1?q");
    for (a, b) in [(".", "."), ("%2e", "%2E"), ("", "..")] {
        assert!(filled("/:a-:b", "https://t/x/:a:b/y", &[a, b]).unwrap_err().contains("another place"));
    }
}

#[test]
fn rules_that_mean_nothing_are_refused_with_a_reason() {
    for (object, text) in [
        (json!({"url": "https://t/:id"}), "the pattern has no parameter :id"),
        (json!({"url": "https://t/*/*"}), "there are more * than in the pattern"),
        (json!({"url": "https://t", "function": "f"}), "give one of"),
        (json!({"url": "https://t", "colour": 1}), "unknown field `colour`"),
        (json!({"url": "ftp://t"}), "is not an http:// or https:// URL"),
        (json!({"url": "https://a:b@t"}), "without a user name"),
        (json!({"urls": []}), "urls has 0 entries"),
        (json!({"url": "https://t", "timeoutMs": 0}), "timeoutMs is 0"),
        (json!({"site": "hello"}), "site:"),
        (json!({"redirect": "elsewhere"}), "no place to redirect to"),
        (json!({"redirect": "//elsewhere"}), "no place to redirect to"),
        (json!({"redirect": "javascript:alert(1)"}), "no place to redirect to"),
        (json!({"redirect": "/x", "status": 200}), "not a status of a redirect"),
        (json!({"function": "f", "status": 301}), "status is for redirect only"),
        (json!({"function": "f", "methods": ["get"]}), "not a request method in upper case"),
        (json!({"function": "f", "hosts": ["x"]}), "hosts:"),
        (json!({"response": {"status": 99}}), "not a status"),
        (json!({"response": {"headers": {"a b": "1"}}}), "not the name of a header"),
        (json!({"response": {"headers": {"a": "1\r\nb: 2"}}}), "outside of ASCII"),
        (json!({"response": {"headers": {"Content-Length": "1"}}}), "connection's own"),
    ] {
        let error = rule("/a/*", object.clone()).unwrap_err();
        assert!(
            error.starts_with("Invalid target for path \"/a/*\": ") && error.contains(text),
            "{object}: {error}"
        );
    }
}

#[test]
fn conditions_are_about_method_and_host() {
    let rule =
        rule("/a", json!({"function": "f", "methods": ["GET", "HEAD"], "hosts": ["*.example.com"]})).unwrap();
    assert!(rule.applies("GET", "www.example.com"));
    assert!(!rule.applies("POST", "www.example.com"));
    assert!(!rule.applies("GET", "example.com"));
}

#[test]
fn tables_are_bounded() {
    let many: serde_json::Map<_, _> = (0..=ROUTES).map(|n| (format!("/{n}"), json!("https://t"))).collect();
    assert!(refusal(&serde_json::Value::from(many).to_string()).contains("too many"));
    let long = format!("/{}", "a".repeat(PATTERN_BYTES));
    assert!(refusal(&json!({ long: "https://t" }).to_string()).contains("at most"));
    let large: serde_json::Map<_, _> =
        (0..ROUTES).map(|n| (format!("/{n}"), json!(format!("https://t/{}", "a".repeat(400))))).collect();
    assert!(refusal(&serde_json::Value::from(large).to_string()).contains("bytes"));
}
