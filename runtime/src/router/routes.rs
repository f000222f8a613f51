//! A function's route table as requests use it: compiled off the request path, then never changed.

use std::collections::HashMap;
use std::sync::Arc;

use af_contract::RouteTable;
use af_contract::routes::{Class, Pattern, Rule};

use super::matcher::{Matcher, Spans};

/// Finds the rule for a request.
#[derive(Debug)]
pub struct Routes {
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
    rules: Vec<Arc<Rule>>,
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
    pub rule: &'a Arc<Rule>,
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
            let plain = matches!(pattern.tokens().as_slice(), [af_contract::routes::Token::Literal(_)]);
            if plain {
                exact.insert(pattern.as_str().into(), place);
            } else {
                by_prefix.entry(prefix(pattern).into()).or_default().push(place);
            }
            routes.push(Compiled {
                pattern: pattern.clone(),
                matcher: (!plain).then(|| Matcher::new(pattern)),
                rules: route.rules.iter().cloned().map(Arc::new).collect(),
            });
        }
        Self { routes, exact, prefixes: prefixes(by_prefix) }
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
    fn rule(&self, method: &str, host: &str) -> Option<&Arc<Rule>> {
        self.rules.iter().find(|rule| rule.applies(method, host))
    }
}

/// The literal that a pattern begins with: at least its first slash.
fn prefix(pattern: &Pattern) -> &str {
    match pattern.tokens().first() {
        Some(af_contract::routes::Token::Literal(text)) => text,
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
