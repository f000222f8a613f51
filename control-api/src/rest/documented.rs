//! What every operation of the OpenAPI document has alike: said once, here.

use utoipa::openapi::header::HeaderBuilder;
use utoipa::openapi::path::{Operation, Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::response::{Response, ResponseBuilder};
use utoipa::openapi::schema::{KnownFormat, ObjectBuilder, SchemaFormat, Type};
use utoipa::openapi::{Content, HttpMethod, OpenApi, PathItem, Ref, RefOr, Required, Schema};

/// Of error answers.
const PROBLEM: &str = "application/problem+json";

/// Things with an entity tag, and what belongs to them.
const TAGGED: [&str; 13] = [
    "/v1/organizations/{organization}",
    "/v1/organizations/{organization}/members/{user}",
    "/v1/plans/{plan}",
    "/v1/projects/{project}",
    "/v1/projects/{project}/members/{user}",
    "/v1/projects/{project}/secrets",
    "/v1/projects/{project}/settings",
    "/v1/functions/{function}",
    "/v1/functions/{function}/secrets",
    "/v1/functions/{function}/settings",
    "/v1/sites/{site}",
    "/v1/domains/{domain}",
    "/v1/domains/{domain}/certificate",
];

/// Paths of the upload proxy, which name no project.
const UPLOAD_PROXY: [&str; 5] = ["/store", "/upload", "/upload/private", "/duplicity/{cid}", "/delete/{cid}"];

/// Of an answer that says when to come back.
const RATES: [(&str, &str); 3] = [
    ("retry-after", "Seconds until it is worth while."),
    (
        "ratelimit-policy",
        "How often may be asked (draft-ietf-httpapi-ratelimit-headers-10); other answers say it, too.",
    ),
    ("ratelimit", "How much of that is left, and when there is more; other answers say it, too."),
];

/// Completes a document.
pub(super) fn complete(mut document: OpenApi) -> OpenApi {
    for (path, item) in &mut document.paths.paths {
        for (method, operation) in operations(item) {
            common(operation);
            if method != HttpMethod::Get {
                once(operation);
            }
            if operation.request_body.is_some() {
                body(operation);
                bytes(operation);
            }
            if UPLOAD_PROXY.contains(&path.as_str()) {
                parameter(operation, project());
            }
            if TAGGED.contains(&path.as_str()) {
                tagged(&method, operation);
            }
            problems(operation);
        }
    }
    document
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = (HttpMethod, &mut Operation)> {
    let all = [
        (HttpMethod::Get, &mut item.get),
        (HttpMethod::Put, &mut item.put),
        (HttpMethod::Post, &mut item.post),
        (HttpMethod::Patch, &mut item.patch),
        (HttpMethod::Delete, &mut item.delete),
    ];
    all.into_iter().filter_map(|(method, operation)| operation.as_mut().map(|operation| (method, operation)))
}

fn common(operation: &mut Operation) {
    add(operation, "400", "The request cannot be read, or a value in it cannot be used.");
    add(
        operation,
        "429",
        "Too many requests of this token, user or address, or about this organization; `retry-after` says when to come back.",
    );
    if let Some(RefOr::T(early)) = operation.responses.responses.get_mut("429") {
        for (name, description) in RATES {
            let header = HeaderBuilder::new().schema(Some(string())).description(Some(description));
            early.headers.insert(name.into(), RefOr::T(header.build()));
        }
    }
    add(operation, "500", "The platform failed. Its log has the request's id.");
}

fn once(operation: &mut Operation) {
    let key = text("Idempotency-Key", ParameterIn::Header)
        .description(Some(
            "1 to 255 visible characters. For a day, the same request with the same key gets the first answer again.",
        ))
        .build();
    parameter(operation, key);
    add(
        operation,
        "409",
        "Something is in the way, or the first request with this Idempotency-Key is at work.",
    );
    add(
        operation,
        "422",
        "What was sent is understood and refused, or the Idempotency-Key was used for another request.",
    );
}

fn body(operation: &mut Operation) {
    add(operation, "413", "The body is too large.");
    add(operation, "415", "The body is of another type than the operation takes.");
}

/// Bytes are bytes, and no list of numbers; and none, where the server fetches what it is to have.
fn bytes(operation: &mut Operation) {
    let mut parameters = operation.parameters.iter().flatten();
    let fetches = parameters.any(|parameter| matches!(parameter, RefOr::T(known) if known.name == "fetch"));
    let Some(RefOr::T(body)) = &mut operation.request_body else { return };
    for content in body.content.values_mut() {
        let RefOr::T(content) = content else { continue };
        if let Some(RefOr::T(Schema::Array(_))) = &content.schema {
            let binary = SchemaFormat::KnownFormat(KnownFormat::Binary);
            let bytes = ObjectBuilder::new().schema_type(Type::String).format(Some(binary));
            content.schema = Some(RefOr::T(bytes.build().into()));
        }
    }
    if fetches {
        body.required = Some(Required::False);
    }
}

fn project() -> Parameter {
    text("X-Project-Id", ParameterIn::Header)
        .description(Some("Which project this is about; left out: the token's, or the only one there is."))
        .build()
}

fn tagged(method: &HttpMethod, operation: &mut Operation) {
    if let Some(RefOr::T(done)) = operation.responses.responses.get_mut("200") {
        let shown = *method != HttpMethod::Delete || done.headers.contains_key("etag");
        if shown {
            let tag =
                HeaderBuilder::new().schema(Some(string())).description(Some("Of what is shown (RFC 9110)."));
            done.headers.insert("etag".into(), RefOr::T(tag.build()));
        }
    }
    if *method == HttpMethod::Get {
        parameter(operation, text("If-None-Match", ParameterIn::Header).build());
        let unchanged = ResponseBuilder::new().description("What you have is what there is.");
        operation.responses.responses.insert("304".into(), RefOr::T(unchanged.build()));
        return;
    }
    let seen = text("If-Match", ParameterIn::Header)
        .description(Some("The ETag of what you have seen: it is changed only if it is still that."));
    parameter(operation, seen.build());
    add(operation, "412", "It was changed since.");
}

/// Whatever fails is told by a problem document (RFC 9457), unless the operation says otherwise.
fn problems(operation: &mut Operation) {
    let failed = operation.responses.responses.iter_mut().filter(|(status, _)| status.as_str() >= "400");
    for (_, response) in failed {
        if let RefOr::T(response) = response {
            if response.content.values().any(is_answer) {
                continue;
            }
            response.content.clear();
            let problem = Content::new(Some(Ref::from_schema_name("Problem")));
            response.content.insert(PROBLEM.into(), RefOr::T(problem));
        }
    }
}

/// 409 of `/duplicity/{cid}` is an answer.
fn is_answer(content: &RefOr<Content>) -> bool {
    let problem = Ref::from_schema_name("Problem");
    let RefOr::T(content) = content else { return false };
    matches!(&content.schema, Some(RefOr::Ref(known)) if *known != problem)
}

fn add(operation: &mut Operation, status: &str, description: &str) {
    let response: Response = ResponseBuilder::new().description(description).build();
    let known = operation.responses.responses.entry(status.to_owned()).or_insert(RefOr::T(response));
    if let RefOr::T(known) = known
        && known.description.is_empty()
    {
        known.description = description.to_owned();
    }
}

fn parameter(operation: &mut Operation, parameter: Parameter) {
    operation.parameters.get_or_insert_default().push(RefOr::T(parameter));
}

fn text(name: &str, place: ParameterIn) -> ParameterBuilder {
    ParameterBuilder::new().name(name).parameter_in(place).required(Required::False).schema(Some(string()))
}

fn string() -> Schema {
    ObjectBuilder::new().schema_type(Type::String).build().into()
}
