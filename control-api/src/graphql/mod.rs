//! GraphQL at `/graphql`, for clients of Alternate Futures and of Fleek: shapes over `domain`, as REST is. This file has the
//! schema and what one operation may cost.

mod asker;
mod document;
mod domains;
mod events;
mod failure;
mod functions;
mod http;
mod loaders;
mod negotiation;
mod projects;
mod scalars;
mod sites;
mod socket;
mod storage;
mod subscriptions;
mod tokens;
mod transport;
mod zones;

use std::sync::Arc;
use std::time::Duration;

use async_graphql::parser::types::{OperationType, Selection};
use async_graphql::{MergedObject, Request, Response, Schema as GraphqlSchema};
use axum::Router;
use futures::StreamExt;
use futures::stream::{self, BoxStream};

use self::document::Size;
use self::subscriptions::Subscription;
use crate::app::State;
use crate::places::Places;

/// Fields within each other. Introspection alone goes deeper.
const DEPTH: usize = 10;

/// The introspection that all tools send has 13.
const INTROSPECTION_DEPTH: usize = 20;

/// Fields, each as often as its list may have items, roughly. The largest selection of the published clients costs 4,000.
const COMPLEXITY: usize = 20_000;

/// Fragments and selections within each other, before anything is counted.
const RECURSION: usize = 32;

/// Selections, with every fragment as often as it is spread, before anything is counted. The largest document of the published
/// clients has 150.
const SELECTIONS: usize = 4_000;

/// Fields of a mutation itself, each of which may do as much as a request of its own.
const MUTATIONS: usize = 20;

/// Those of a query, each of which may read several pages.
const QUERIES: usize = 50;

/// Bytes of a document; the largest of the published clients has 1,500.
const DOCUMENT_BYTES: usize = 32 << 10;

/// Brackets within each other in a document. The parser's stack grows with them.
const NESTING: usize = 64;

/// Directives of a field.
const DIRECTIVES: usize = 8;

/// How GraphQL is served.
#[derive(Clone, Copy, Debug)]
pub struct GraphqlConfig {
    /// Whether the schema tells about itself.
    pub introspection: bool,
    /// What a query may take.
    pub query_timeout: Duration,
    /// What a mutation may take; what it has begun goes on when its client is told that it takes too long.
    pub mutation_timeout: Duration,
    /// WebSockets.
    pub sockets: SocketConfig,
}

/// What WebSockets may do.
#[derive(Clone, Copy, Debug)]
pub struct SocketConfig {
    /// Connections at the same time.
    pub all: usize,
    /// Of one user, and of one address that has not said who it is.
    pub per_user: usize,
    /// Operations of one connection at the same time.
    pub operations: usize,
    /// Until a connection has said who it is.
    pub patience: Duration,
    /// Between two pings; who answers none of two is gone.
    pub ping: Duration,
    /// A connection without operations is ended after so long.
    pub idle: Duration,
}

impl Default for GraphqlConfig {
    fn default() -> Self {
        Self {
            // The schema is published with the source.
            introspection: true,
            // It needs milliseconds.
            query_timeout: Duration::from_secs(10),
            // A deployment may fetch its content from far away.
            mutation_timeout: Duration::from_secs(120),
            sockets: SocketConfig::default(),
        }
    }
}

impl Default for SocketConfig {
    fn default() -> Self {
        Self {
            all: 1_000,
            // Tabs of a browser.
            per_user: 20,
            operations: 40,
            patience: Duration::from_secs(10),
            // Proxies end connections that are silent for a minute.
            ping: Duration::from_secs(25),
            idle: Duration::from_secs(5 * 60),
        }
    }
}

#[derive(MergedObject, Default)]
struct Query(
    functions::af::Query,
    functions::fleek::Query,
    projects::Query,
    tokens::Query,
    sites::Query,
    domains::Query,
    storage::Query,
);

#[derive(MergedObject, Default)]
struct Mutation(
    functions::af::Mutation,
    functions::fleek::Mutation,
    projects::Mutation,
    tokens::Mutation,
    sites::Mutation,
    domains::Mutation,
    storage::Mutation,
);

type Limited = GraphqlSchema<Query, Mutation, Subscription>;

/// The schema, with the limits of operations. Cheap to clone.
#[derive(Clone)]
struct Schema {
    usual: Limited,
    introspecting: Limited,
    config: GraphqlConfig,
}

impl Schema {
    fn new(config: GraphqlConfig) -> Self {
        let places: Places = subscriptions::places();
        let build = |depth| {
            let schema = GraphqlSchema::build(Query::default(), Mutation::default(), Subscription);
            let schema = schema.limit_depth(depth).limit_complexity(COMPLEXITY).data(places.clone());
            let schema = schema.limit_recursive_depth(RECURSION).limit_directives(DIRECTIVES);
            if config.introspection { schema.finish() } else { schema.disable_introspection().finish() }
        };
        Self { usual: build(DEPTH), introspecting: build(INTROSPECTION_DEPTH), config }
    }

    /// Executes a query or mutation.
    async fn execute(&self, parsed: Parsed) -> Response {
        if let Some(refused) = self.keeps_to_itself(&parsed) {
            return refused;
        }
        let limit = self.limit(&parsed);
        let schema = if parsed.introspects { &self.introspecting } else { &self.usual };
        let executing = Box::pin(schema.execute(parsed.request));
        failure::classed(tokio::time::timeout(limit, executing).await.unwrap_or_else(|_| too_long(limit)))
    }

    /// Executes anything.
    fn stream(&self, parsed: Parsed) -> BoxStream<'static, Response> {
        if let Some(refused) = self.keeps_to_itself(&parsed) {
            return stream::once(std::future::ready(refused)).boxed();
        }
        let (limit, kind) = (self.limit(&parsed), parsed.kind);
        let schema = if parsed.introspects { &self.introspecting } else { &self.usual };
        let mut responses = schema.execute_stream(parsed.request).map(failure::classed).boxed();
        if kind == OperationType::Subscription {
            return responses;
        }
        let once = async move {
            let response = tokio::time::timeout(limit, responses.next()).await;
            response.unwrap_or_else(|_| Some(too_long(limit)))
        };
        stream::once(once).filter_map(std::future::ready).boxed()
    }

    /// A schema that tells nothing about itself would answer null where its own type says that there is no null.
    fn keeps_to_itself(&self, parsed: &Parsed) -> Option<Response> {
        let refused = parsed.asks_about_schema && !self.config.introspection;
        let detail = "this server does not tell about its schema; docs/graphql.md says where it is published";
        refused.then(|| failure::refusal("introspection_disabled", detail))
    }

    fn limit(&self, parsed: &Parsed) -> Duration {
        match parsed.kind {
            OperationType::Mutation => self.config.mutation_timeout,
            _ => self.config.query_timeout,
        }
    }
}

/// In the error of an operation that took too long, of which nobody knows what it has done.
struct TooLong;

fn too_long(limit: Duration) -> Response {
    let detail = format!("this took longer than {} s; ask for less at once", limit.as_secs_f32());
    let mut response = failure::refusal("too_slow", &detail);
    for error in &mut response.errors {
        error.source = Some(Arc::new(TooLong));
    }
    response
}

/// A request whose document can be read.
struct Parsed {
    request: Request,
    kind: OperationType,
    /// So many fields of the operation itself.
    fields: usize,
    /// It asks about the schema, and nothing else.
    introspects: bool,
    /// It asks about the schema, among other things or alone.
    asks_about_schema: bool,
}

impl Parsed {
    /// # Errors
    /// With the response, when the document is none, or has no such operation.
    fn new(mut request: Request) -> Result<Self, Box<Response>> {
        let refuse = |detail: String| Box::new(failure::refusal(failure::UNREADABLE, &detail));
        if request.query.len() > DOCUMENT_BYTES || document::nesting(&request.query) > NESTING {
            let detail = format!(
                "a document has at most {DOCUMENT_BYTES} bytes and {NESTING} brackets within each other"
            );
            return Err(refuse(detail));
        }
        // As it is escaped in a document's strings. PostgreSQL has no place for it.
        if request.query.contains("\\u0000") {
            return Err(refuse("a text has a NUL character; leave it out".into()));
        }
        let name = request.operation_name.clone();
        let document = request
            .parsed_query()
            .map_err(|error| Box::new(failure::classed(Response::from_errors(vec![error]))))?;
        let mut operations = document.operations.iter();
        let operation = match &name {
            Some(name) => operations.find(|(known, _)| known.is_some_and(|known| known == name.as_str())),
            None => operations.next(),
        };
        let Some((_, operation)) = operation else {
            return Err(refuse(
                "the document has no such operation; name one that it has in operationName".into(),
            ));
        };
        let kind = operation.node.ty;
        let size = document
            .operations
            .iter()
            .map(|(_, operation)| Size::of(document, &operation.node.selection_set, RECURSION))
            .max_by_key(|size| size.all)
            .unwrap_or_default();
        if size.all > SELECTIONS {
            let detail = format!(
                "an operation has at most {SELECTIONS} selections, with all fragments where they are spread, and \
                 {RECURSION} within each other"
            );
            return Err(refuse(detail));
        }
        let fields = Size::of(document, &operation.node.selection_set, RECURSION).roots;
        let most = if kind == OperationType::Mutation { MUTATIONS } else { QUERIES };
        if fields > most {
            return Err(refuse(format!("such an operation has at most {most} fields itself; send several")));
        }
        let introspects = document.operations.iter().all(|(_, operation)| {
            operation.node.selection_set.node.items.iter().all(|selection| match &selection.node {
                Selection::Field(field) => field.node.name.node.starts_with("__"),
                _ => false,
            })
        });
        let asks_about_schema = document::asks_about_schema(document);
        Ok(Self { request, kind, fields, introspects, asks_about_schema })
    }
}

/// The schema in the language of GraphQL.
#[must_use]
pub fn sdl() -> String {
    let options =
        async_graphql::SDLExportOptions::new().sorted_fields().sorted_arguments().sorted_enum_items();
    Schema::new(GraphqlConfig::default()).usual.sdl_with_options(options)
}

/// `/graphql`.
pub(crate) fn router(state: &Arc<State>, config: GraphqlConfig) -> Router<Arc<State>> {
    let SocketConfig { all, per_user, .. } = config.sockets;
    let endpoint = http::Endpoint {
        state: state.clone(),
        schema: Schema::new(config),
        handshakes: Places::new(per_user, all),
        sockets: Places::new(per_user, all),
    };
    let methods = axum::routing::get(http::get).post(http::post);
    Router::new().route("/graphql", methods.with_state(endpoint))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(query: &str) -> Result<Parsed, Box<Response>> {
        Parsed::new(Request::new(query))
    }

    #[test]
    fn a_document_that_only_introspects_may_be_deeper() {
        assert!(
            parsed("{ __schema { types { name } } __typename }").unwrap_or_else(|_| panic!()).introspects
        );
        for query in
            ["{ me { id } }", "{ __typename me { id } }", "query { ...f } fragment f on Query { __typename }"]
        {
            assert!(!parsed(query).unwrap_or_else(|_| panic!()).introspects, "{query}");
        }
    }

    #[test]
    fn documents_are_bounded_before_they_are_parsed() {
        let deep = |open: &str, close: &str| {
            format!("{{ a(b: {}1{}) }}", open.repeat(100_000), close.repeat(100_000))
        };
        assert!(parsed(&deep("[", "]")).is_err() && parsed(&deep("{a:", "}")).is_err());
        assert!(parsed(&format!("{{ {} }}", "a ".repeat(40_000))).is_err());
        assert!(parsed(&format!("{{{}", "a{".repeat(10_000))).is_err());
        assert!(parsed("query A { me { id } }").is_ok());
    }
}
