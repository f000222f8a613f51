//! A function's route table as requests use it: compiled off the request path, then never changed.

use std::collections::HashMap;
use std::time::Duration;

use af_contract::RouteTable;
use af_contract::routes::{Backend, BackendUrl, Class, Pattern, Rule, Scheme, Target, Token};

use super::matcher::{Matcher, Spans};
use crate::proxy::{UpstreamScheme, UpstreamTarget, Upstreams};

/// How long a backend may take to begin its response, as on the older platform.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Finds the rule for a request.
#[derive(Debug)]
pub struct Routes {
    /// What was compiled.
    table: RouteTable,
    /// In the order of precedence.
    routes: Vec<Compiled>,
    /// Of patterns without parameter and wildcard: places in `routes`.
    exact: HashMap<Box<str>, usize>,
    /// Of all others, sorted by their first literals.
    prefixes: Vec<Prefix>,
}

#[derive(Debug)]
struct Compiled {
    pattern: Pattern,
    /// None for an exact pattern.
    matcher: Option<Matcher>,
    rules: Vec<CompiledRule>,
}

/// A rule and, where it leads to backends, their connections.
#[derive(Debug)]
pub struct CompiledRule {
    /// The rule.
    pub rule: Rule,
    /// Backends in the order of the rule's.
    pub upstreams: Option<Upstreams>,
}

/// Patterns that begin with the same literal.
#[derive(Debug)]
struct Prefix {
    text: Box<str>,
    /// The longest of the others that this one begins with.
    parent: Option<usize>,
    /// Places in `routes`, ascending.
    routes: Vec<usize>,
}

/// The rule for a request, and what its pattern's parts stood for.
#[derive(Debug)]
pub struct Match<'a> {
    /// The pattern.
    pub pattern: &'a Pattern,
    /// The first one whose conditions hold.
    pub rule: &'a CompiledRule,
    /// From and to in the path.
    pub spans: Spans,
}

impl Routes {
    /// Sorts and indexes a table.
    #[must_use]
    pub fn compile(table: &RouteTable) -> Self {
        let mut sorted: Vec<_> = table.routes().iter().collect();
        // A stable sort: equal ones keep the order of the table.
        sorted.sort_by_key(|route| route.pattern.rank());
        let mut exact = HashMap::new();
        let mut by_prefix: HashMap<Box<str>, Vec<usize>> = HashMap::new();
        let mut routes = Vec::with_capacity(sorted.len());
        for (place, route) in sorted.into_iter().enumerate() {
            let pattern = &route.pattern;
            // A colon without a name makes no parameter.
            let plain = matches!(pattern.tokens().as_slice(), [Token::Literal(_)]);
            if plain {
                exact.insert(pattern.as_str().into(), place);
            } else {
                by_prefix.entry(prefix(pattern).into()).or_default().push(place);
            }
            routes.push(Compiled {
                pattern: pattern.clone(),
                matcher: (!plain).then(|| Matcher::new(pattern)),
                rules: route.rules.iter().map(CompiledRule::new).collect(),
            });
        }
        Self { table: table.clone(), routes, exact, prefixes: prefixes(by_prefix) }
    }

    /// The table that this was compiled of.
    #[must_use]
    pub fn table(&self) -> &RouteTable {
        &self.table
    }

    /// The rule for a request. `path` is in its [normal](super::path::normal) form; `host` is lower case, without port.
    #[must_use]
    pub fn find(&self, method: &str, host: &str, path: &str) -> Option<Match<'_>> {
        let exact = self.exact.get(path).and_then(|place| {
            let route = self.routes.get(*place)?;
            Some((*place, route.rule(method, host)?))
        });
        let mut best = exact;
        if let Some((place, rule)) = best
            && let Some(route) = self.routes.get(place)
            && route.pattern.rank().0 == Class::Exact
        {
            return Some(Match { pattern: &route.pattern, rule, spans: Spans::new() });
        }
        let mut spans = Spans::new();
        let mut found = Spans::new();
        for place in self.candidates(path) {
            // Only what comes before what was found needs to be asked.
            if best.is_some_and(|(best, _)| best < place) {
                continue;
            }
            let Some(route) = self.routes.get(place) else { continue };
            if route.matcher.as_ref().is_some_and(|matcher| matcher.matches(path, &mut spans))
                && let Some(rule) = route.rule(method, host)
            {
                best = Some((place, rule));
                std::mem::swap(&mut spans, &mut found);
            }
        }
        let (place, rule) = best?;
        Some(Match { pattern: &self.routes.get(place)?.pattern, rule, spans: found })
    }

    /// Patterns whose first literal the path begins with, the longest literals first.
    fn candidates(&self, path: &str) -> impl Iterator<Item = usize> {
        // Of all prefixes, those of the path are the last one that is not greater, and the ones that it begins with.
        let after = self.prefixes.partition_point(|prefix| &*prefix.text <= path);
        let chain = std::iter::successors(after.checked_sub(1), |place| self.prefixes.get(*place)?.parent);
        let prefixes = chain.filter_map(|place| self.prefixes.get(place));
        prefixes
            .filter(|prefix| path.starts_with(&*prefix.text))
            .flat_map(|prefix| prefix.routes.iter().copied())
    }
}

impl Compiled {
    fn rule(&self, method: &str, host: &str) -> Option<&CompiledRule> {
        self.rules.iter().find(|compiled| compiled.rule.applies(method, host))
    }
}

impl CompiledRule {
    fn new(rule: &Rule) -> Self {
        let upstreams = match &rule.target {
            Target::Backend(backend) => Some(upstreams(backend)),
            _ => None,
        };
        Self { rule: rule.clone(), upstreams }
    }
}

fn upstreams(backend: &Backend) -> Upstreams {
    let target = |url: &BackendUrl| {
        let scheme = match url.scheme {
            Scheme::Http => UpstreamScheme::Http,
            Scheme::Https => UpstreamScheme::Https,
        };
        // What the URL standard takes for a host, and HTTP does not, is a backend that nobody can reach.
        UpstreamTarget::new(scheme, url.authority.parse().ok()?).ok()
    };
    let timeout = backend.timeout_ms.map_or(TIMEOUT, |ms| Duration::from_millis(ms.into()));
    Upstreams::new(backend.urls.iter().map(target).collect(), timeout)
}

/// The literal that a pattern begins with: at least its first slash.
fn prefix(pattern: &Pattern) -> &str {
    match pattern.tokens().first() {
        Some(Token::Literal(text)) => text,
        _ => "",
    }
}

fn prefixes(by_prefix: HashMap<Box<str>, Vec<usize>>) -> Vec<Prefix> {
    let mut sorted: Vec<_> = by_prefix.into_iter().collect();
    sorted.sort();
    let mut prefixes: Vec<Prefix> = Vec::with_capacity(sorted.len());
    for (text, routes) in sorted {
        // The one before is either the parent, or has it above.
        let mut parent = prefixes.len().checked_sub(1);
        while let Some(above) =
            parent.and_then(|place| prefixes.get(place)).filter(|above| !text.starts_with(&*above.text))
        {
            parent = above.parent;
        }
        prefixes.push(Prefix { text, parent, routes });
    }
    prefixes
}

impl Match<'_> {
    /// What the pattern's first `*` stood for, as the older platform tells it: what comes behind the text before it. Without a
    /// `*`, or where that text has a parameter in it, nothing.
    #[must_use]
    pub fn rest<'p>(&self, path: &'p str) -> &'p str {
        self.pattern.before_wildcard().and_then(|before| path.strip_prefix(before)).unwrap_or_default()
    }

    /// What all parts of the pattern stood for.
    #[must_use]
    pub fn captures<'p>(&self, path: &'p str) -> Vec<&'p str> {
        self.spans.iter().map(|(from, to)| path.get(*from..*to).unwrap_or_default()).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::cmp::Ordering;

    use proptest::prelude::*;
    use serde_json::{Map, Value, json};

    use super::super::matcher::tests::naive;
    use super::super::path;
    use super::*;

    fn compile(routes: &[(String, Value)]) -> Option<Routes> {
        let members: Map<String, Value> = routes.iter().cloned().collect();
        RouteTable::parse(members.into()).unwrap().map(|table| Routes::compile(&table))
    }

    /// Where the older platform would send a request.
    fn forwarded(routes: &[(&str, &str)], target: &str) -> Option<String> {
        let routes: Vec<_> = routes.iter().map(|(p, t)| ((*p).to_owned(), json!(t))).collect();
        let (path, query) =
            target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
        let path = path::normal(path)?;
        let routes = compile(&routes)?;
        let found = routes.find("GET", "h.localhost", &path)?;
        let Target::Backend(backend) = &found.rule.rule.target else { return None };
        let url = &backend.urls[0];
        let path = url.path_and_query(found.rest(&path), &found.captures(&path), query).unwrap();
        Some(format!("{}://{}{path}", url.scheme.as_str(), url.authority))
    }

    #[test]
    fn forwarding_is_the_documents() {
        for (pattern, target, request, to) in [
            ("/api/users/*", "https://t", "/api/users/123?x=1", Some("https://t/123?x=1")),
            ("/*", "https://t", "/", Some("https://t/")),
            ("/api/users", "https://t", "/api/users", Some("https://t/")),
            ("/users/:id", "https://t", "/users/7", Some("https://t/")),
            ("/:id/*", "https://t", "/7/a", Some("https://t/")),
            ("/users/*/posts", "https://t", "/users/1/2/posts", Some("https://t/1/2/posts")),
            ("/api/*", "https://t", "/api/", Some("https://t/")),
            ("/api/*", "https://t", "/api/a/b", Some("https://t/a/b")),
            ("/api/*", "https://t", "/api", None),
            ("/api*", "https://t", "/api/a", Some("https://t/a")),
            ("/api*", "https://t", "/apis", Some("https://t/s")),
            ("/**", "https://t", "/a/b", Some("https://t/a/b")),
            ("/files/*.png", "https://t", "/files/a/b.png", Some("https://t/a/b.png")),
            ("/api/users", "https://t", "/api/users/", None),
            ("/api/users/", "https://t", "/api/users", None),
            ("/api/users", "https://t", "/API/users", None),
            ("/users/:id", "https://t", "/users/", None),
            ("/users/:id", "https://t", "/users/7/8", None),
            ("/b/*", "https://t", "/a/../b/%2e/c%2fd?q=%2e", Some("https://t/c%2fd?q=%2e")),
            ("/:id-:id", "https://t/x/", "/1-2?a=1&a=2", Some("https://t/x?a=1&a=2")),
        ] {
            assert_eq!(forwarded(&[(pattern, target)], request).as_deref(), to, "{pattern} {request}");
        }
    }

    #[test]
    fn precedence_is_the_documents() {
        let to = |patterns: &[&str], request: &str| {
            let targets: Vec<String> =
                (0..patterns.len()).map(|number| format!("https://t{number}.x")).collect();
            let routes: Vec<_> = patterns.iter().copied().zip(targets.iter().map(String::as_str)).collect();
            let url = forwarded(&routes, request)?;
            url.strip_prefix("https://t")?.split_once('.')?.0.parse::<usize>().ok()
        };
        for (patterns, request, winner) in [
            (["/api/users/*", "/:tenant/*"], "/api/users/7", 1),
            (["/api/:id", "/api/:id/*"], "/api/7/", 1),
            (["/api/*", "/api/users"], "/api/users", 1),
            (["/api/:id", "/api/users"], "/api/users", 1),
            (["/*", "/api/*"], "/api/users", 1),
            (["/*/:b", "/:a/:b"], "/1/2", 1),
            (["/:a/x", "/y/:b"], "/y/x", 0),
            (["/y/:b", "/:a/x"], "/y/x", 0),
            (["/a*", "/*a"], "/aa", 0),
            (["/*a", "/a*"], "/aa", 0),
            (["/a:/*", "/a:/b"], "/a:/b", 1),
        ] {
            assert_eq!(to(&patterns, request), Some(winner), "{patterns:?} {request}");
        }
    }

    #[test]
    fn a_rule_whose_conditions_do_not_hold_is_not_there() {
        let members = [
            ("/a".to_owned(), json!({"methods": ["POST"], "url": "https://post"})),
            (
                "/:x".to_owned(),
                json!([{"hosts": ["*.example.com"], "url": "https://host"}, {"methods": ["GET"], "url": "https://get"}]),
            ),
        ];
        let routes = compile(&members).unwrap();
        let authority = |method, host| match &routes.find(method, host, "/a")?.rule.rule.target {
            Target::Backend(backend) => Some(backend.urls[0].authority.clone()),
            _ => None,
        };
        assert_eq!(authority("POST", "h.localhost").as_deref(), Some("post"));
        assert_eq!(authority("GET", "h.localhost").as_deref(), Some("get"));
        assert_eq!(authority("DELETE", "www.example.com").as_deref(), Some("host"));
        assert_eq!(authority("DELETE", "h.localhost"), None);
    }

    /// The order of two patterns, as the document words it.
    fn order(a: &str, b: &str) -> Ordering {
        let class = |text: &str| match (text.contains(':'), text.contains('*')) {
            (false, false) => 0,
            (true, _) => 1,
            (false, true) => 2,
        };
        let segments = |text: &str| text.split('/').filter(|segment| !segment.is_empty()).count();
        class(a)
            .cmp(&class(b))
            .then(segments(b).cmp(&segments(a)))
            .then(a.contains('*').cmp(&b.contains('*')))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(3_000))]
        #[test]
        fn a_table_finds_what_a_naive_one_finds(
            patterns in proptest::collection::vec("/([ab/*:-]|:x|/:y|/\\*|/ab){0,6}", 1..12),
            paths in proptest::collection::vec("/[ab/:-]{0,8}", 1..8),
        ) {
            let members: Vec<_> = patterns.iter().map(|pattern| (pattern.clone(), json!("https://t"))).collect();
            let routes = compile(&members).unwrap();
            let mut unique: Vec<&String> = Vec::new();
            for pattern in &patterns {
                if !unique.contains(&pattern) {
                    unique.push(pattern);
                }
            }
            unique.sort_by(|a, b| order(a, b));
            for path in &paths {
                let expected = unique.iter().find(|pattern| naive(pattern, path)).map(|pattern| pattern.as_str());
                let found = routes.find("GET", "h.localhost", path).map(|found| found.pattern.as_str());
                prop_assert_eq!(found, expected, "{:?} {}", unique, path);
            }
        }

        #[test]
        fn no_pattern_makes_matching_slow(pieces in proptest::collection::vec("\\*|:x|a|aa|/|-", 1..200)) {
            // Would take hours if a byte could be tried anew for each place of each piece.
            let pattern = format!("/{}", pieces.concat());
            let routes = compile(&[(pattern, json!("https://t"))]).unwrap();
            let path = format!("/{}b", "a/aa-".repeat(1_000));
            let _found = routes.find("GET", "h.localhost", &path);
        }
    }
}
