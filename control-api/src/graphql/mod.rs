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

use std::any::TypeId;
use std::sync::Arc;
use std::time::Duration;

use async_graphql::parser::types::{OperationType, Selection};
use async_graphql::{
    Data, Executor, MergedObject, Pos, Request, Response, Schema as GraphqlSchema, ServerError,
};
use axum::Router;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use tokio::sync::Semaphore;

use self::asker::Asker;
use self::failure::Failure;
use self::subscriptions::{Places, Subscription};
use crate::app::State;
use crate::domain::Error;

/// Fields within each other. Introspection alone goes deeper.
const DEPTH: usize = 10;

/// The introspection that all tools send has 13.
const INTROSPECTION_DEPTH: usize = 20;

/// Fields, each as often as its list may have items, roughly. The largest selection of the published clients costs 4,000.
const COMPLEXITY: usize = 20_000;

/// Fragments and selections within each other, before anything is counted.
const RECURSION: usize = 32;

/// Bytes of a document; the largest of the published clients has 1,500.
const DOCUMENT_BYTES: usize = 32 << 10;

/// Brackets within each other in a document. The parser's stack grows with them.
const NESTING: usize = 64;

/// Directives of a field.
const DIRECTIVES: usize = 8;

/// A query needs milliseconds.
const QUERY_TIMEOUT: Duration = Duration::from_secs(10);

/// A deployment may fetch its content from far away, and goes on when its client is answered before.
const MUTATION_TIMEOUT: Duration = Duration::from_secs(120);

/// How GraphQL is served.
#[derive(Clone, Copy, Debug)]
pub struct GraphqlConfig {
    /// Whether the schema tells about itself.
    pub introspection: bool,
}

impl Default for GraphqlConfig {
    fn default() -> Self {
        // The schema is published with the source.
        Self { introspection: true }
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
}

impl Schema {
    fn new(config: GraphqlConfig) -> Self {
        let build = |depth| {
            let schema = GraphqlSchema::build(Query::default(), Mutation::default(), Subscription);
            let schema = schema.limit_depth(depth).limit_complexity(COMPLEXITY).data(Places::default());
            let schema = schema.limit_recursive_depth(RECURSION).limit_directives(DIRECTIVES);
            if config.introspection { schema.finish() } else { schema.disable_introspection().finish() }
        };
        Self { usual: build(DEPTH), introspecting: build(INTROSPECTION_DEPTH) }
    }

    /// Executes a query or mutation.
    async fn execute(&self, parsed: Parsed) -> Response {
        let limit = parsed.limit();
        let schema = if parsed.introspects { &self.introspecting } else { &self.usual };
        let executing = Box::pin(schema.execute(parsed.request));
        tokio::time::timeout(limit, executing).await.unwrap_or_else(|_| too_long(limit))
    }

    /// Executes anything, with what a connection has besides the request.
    fn stream(&self, parsed: Parsed, connection: Option<Arc<Data>>) -> BoxStream<'static, Response> {
        let (limit, kind) = (parsed.limit(), parsed.kind);
        let schema = if parsed.introspects { &self.introspecting } else { &self.usual };
        let mut responses =
            schema.execute_stream_with_session_data(parsed.request, connection.unwrap_or_default());
        if kind == OperationType::Subscription {
            return responses;
        }
        let once = async move {
            let response = tokio::time::timeout(limit, responses.next()).await;
            response.unwrap_or_else(|_| Some(too_long(limit)))
        };
        stream::once(once).filter_map(std::future::ready).boxed()
    }
}

fn too_long(limit: Duration) -> Response {
    let detail = format!("this took longer than {} s; ask for less at once", limit.as_secs());
    Response::from_errors(vec![ServerError::new(detail, None)])
}

/// For connections of WebSocket.
impl Executor for Schema {
    async fn execute(&self, request: Request) -> Response {
        match Parsed::new(request) {
            Ok(parsed) => Self::execute(self, parsed).await,
            Err(refused) => *refused,
        }
    }

    fn execute_stream(
        &self,
        request: Request,
        connection: Option<Arc<Data>>,
    ) -> BoxStream<'static, Response> {
        if let Err(error) = counted(connection.as_deref()) {
            let error = async_graphql::Error::from(Failure::from(error)).into_server_error(Pos::default());
            return stream::once(std::future::ready(Response::from_errors(vec![error]))).boxed();
        }
        match Parsed::new(request) {
            Ok(parsed) => self.stream(parsed, connection),
            Err(refused) => stream::once(std::future::ready(*refused)).boxed(),
        }
    }
}

/// Counts an operation of a connection as a request of its own.
fn counted(connection: Option<&Data>) -> Result<(), Error> {
    let Some(connection) = connection else { return Ok(()) };
    let asker = connection.get(&TypeId::of::<Asker>()).and_then(|asker| asker.downcast_ref::<Asker>());
    let state =
        connection.get(&TypeId::of::<Arc<State>>()).and_then(|state| state.downcast_ref::<Arc<State>>());
    match (asker, state) {
        (Some(asker), Some(state)) => asker.count(state),
        _ => Ok(()),
    }
}

/// A request whose document can be read.
struct Parsed {
    request: Request,
    kind: OperationType,
    /// It asks about the schema, and nothing else.
    introspects: bool,
}

impl Parsed {
    /// # Errors
    /// With the response, when the document is none, or has no such operation.
    fn new(mut request: Request) -> Result<Self, Box<Response>> {
        let refuse = |detail: String| Box::new(Response::from_errors(vec![ServerError::new(detail, None)]));
        if request.query.len() > DOCUMENT_BYTES || document::nesting(&request.query) > NESTING {
            let detail = format!(
                "a document has at most {DOCUMENT_BYTES} bytes and {NESTING} brackets within each other"
            );
            return Err(refuse(detail));
        }
        let name = request.operation_name.clone();
        let document =
            request.parsed_query().map_err(|error| Box::new(Response::from_errors(vec![error])))?;
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
        let introspects = document.operations.iter().all(|(_, operation)| {
            operation.node.selection_set.node.items.iter().all(|selection| match &selection.node {
                Selection::Field(field) => field.node.name.node.starts_with("__"),
                _ => false,
            })
        });
        Ok(Self { request, kind, introspects })
    }

    fn limit(&self) -> Duration {
        if self.kind == OperationType::Mutation { MUTATION_TIMEOUT } else { QUERY_TIMEOUT }
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
    let sockets = Arc::new(Semaphore::new(socket::SOCKETS));
    let endpoint = http::Endpoint { state: state.clone(), schema: Schema::new(config), sockets };
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
