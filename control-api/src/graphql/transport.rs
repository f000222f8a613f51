//! How a request arrives: in the query of a GET, as JSON, or as a form with files (the GraphQL multipart request
//! specification), alone or several at once.

use std::collections::HashMap;

use af_contract::strict::Plain;
use async_graphql::{Request, UploadValue, Variables};
use axum::body::{Body, Bytes};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, StatusCode};
use multer::{Constraints, Multipart, SizeLimit};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

/// Operations in one request.
const BATCH: usize = 10;

/// A JSON body or the operations of a form, bytes: several route tables.
const BODY_BYTES: usize = 4 << 20;

/// A file of a form, bytes. They are in memory.
const FILE_BYTES: usize = 10 << 20;

/// Files of a form, and places for each.
const FILES: usize = 10;

/// What arrived.
#[derive(Debug)]
pub(super) enum Operations {
    /// One.
    One(Box<Request>),
    /// Several, to be answered by as many.
    Batch(Vec<Request>),
}

/// A request that is not one.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unreadable {
    pub(super) status: StatusCode,
    pub(super) detail: String,
}

fn bad(detail: impl ToString) -> Unreadable {
    Unreadable { status: StatusCode::BAD_REQUEST, detail: detail.to_string() }
}

/// The parameters of a GET.
///
/// # Errors
/// When one is missing, is there twice or is none.
pub(super) fn from_query(query: &str) -> Result<Request, Unreadable> {
    let mut parameters = Map::new();
    for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
        let value = match &*name {
            "variables" | "extensions" if !value.is_empty() => json(value.as_bytes(), &name)?,
            "variables" | "extensions" => Value::Null,
            _ => Value::String(value.into_owned()),
        };
        if parameters.insert(name.to_string(), value).is_some() {
            return Err(bad(format!("{name} is there twice")));
        }
    }
    request(Value::Object(parameters))
}

/// The body of a POST.
///
/// # Errors
/// When its type is another, it is too large, or is no request.
pub(super) async fn from_body(headers: &HeaderMap, body: Body) -> Result<Operations, Unreadable> {
    let kind = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if let Ok(boundary) = multer::parse_boundary(kind) {
        return form(body, boundary).await;
    }
    let media = kind.split(';').next().unwrap_or_default().trim();
    if !["application/json", "application/graphql-response+json"]
        .iter()
        .any(|known| media.eq_ignore_ascii_case(known))
    {
        return Err(Unreadable {
            status: StatusCode::UNSUPPORTED_MEDIA_TYPE,
            detail: "send the request as application/json or multipart/form-data".into(),
        });
    }
    let charset = kind.split(';').skip(1).find_map(|part| part.trim().strip_prefix("charset="));
    if charset.is_some_and(|charset| !charset.trim_matches('"').eq_ignore_ascii_case("utf-8")) {
        return Err(Unreadable {
            status: StatusCode::UNSUPPORTED_MEDIA_TYPE,
            detail: "send the request in UTF-8".into(),
        });
    }
    let too_large = |_| Unreadable {
        status: StatusCode::PAYLOAD_TOO_LARGE,
        detail: format!("the body could not be read, or has more than {BODY_BYTES} bytes"),
    };
    operations(&axum::body::to_bytes(body, BODY_BYTES).await.map_err(too_large)?)
}

async fn form(body: Body, boundary: String) -> Result<Operations, Unreadable> {
    let whole = (BODY_BYTES + FILES * FILE_BYTES) as u64;
    let limits = SizeLimit::new().whole_stream(whole).per_field(FILE_BYTES as u64);
    let limits = limits.for_field("operations", BODY_BYTES as u64).for_field("map", 64 << 10);
    let constraints = Constraints::new().size_limit(limits);
    let mut form = Multipart::with_constraints(body.into_data_stream(), boundary, constraints);
    let (mut read, mut map, mut files) = (None, None, HashMap::new());
    while let Some(field) = form.next_field().await.map_err(unreadable)? {
        let name = field.name().unwrap_or_default().to_owned();
        let file_name = field.file_name().map(str::to_owned);
        let content_type = field.content_type().map(ToString::to_string);
        match (name.as_str(), file_name) {
            ("operations", _) => read = Some(operations(&field.bytes().await.map_err(unreadable)?)?),
            ("map", _) => {
                let bytes = field.bytes().await.map_err(unreadable)?;
                let places: HashMap<String, Vec<String>> = json(&bytes, "the map")?;
                map = Some(places);
            }
            (_, Some(filename)) => {
                if files.len() >= FILES {
                    return Err(bad(format!("a form has at most {FILES} files")));
                }
                let content = field.bytes().await.map_err(unreadable)?;
                files.insert(name, UploadValue { filename, content_type, content });
            }
            // Fields of others are nobody's concern.
            _ => {}
        }
    }
    let read = read.ok_or_else(|| bad("the form has no operations"))?;
    place(read, map.ok_or_else(|| bad("the form has no map"))?, &mut files)
}

/// Puts files where the map says they belong.
fn place(
    mut read: Operations,
    map: HashMap<String, Vec<String>>,
    files: &mut HashMap<String, UploadValue>,
) -> Result<Operations, Unreadable> {
    for (name, paths) in map {
        let file =
            files.remove(&name).ok_or_else(|| bad(format!("the form lacks the file {name:?} of its map")))?;
        if paths.len() > FILES {
            return Err(bad(format!("a file has at most {FILES} places")));
        }
        for path in paths {
            let file = file.try_clone().map_err(bad)?;
            match &mut read {
                Operations::One(request) => request.set_upload(&path, file),
                Operations::Batch(requests) => {
                    let (index, path) =
                        path.split_once('.').ok_or_else(|| bad("a path in the map is none"))?;
                    let request = index.parse().ok().and_then(|index: usize| requests.get_mut(index));
                    request.ok_or_else(|| bad("a path in the map leads nowhere"))?.set_upload(path, file);
                }
            }
        }
    }
    Ok(read)
}

fn unreadable(error: multer::Error) -> Unreadable {
    match error {
        multer::Error::FieldSizeExceeded { .. } | multer::Error::StreamSizeExceeded { .. } => {
            Unreadable { status: StatusCode::PAYLOAD_TOO_LARGE, detail: error.to_string() }
        }
        error => bad(format!("the form cannot be read: {error}")),
    }
}

fn operations(bytes: &Bytes) -> Result<Operations, Unreadable> {
    match json(bytes, "the body")? {
        Value::Array(values) if values.is_empty() || values.len() > BATCH => {
            Err(bad(format!("a batch has 1 to {BATCH} operations")))
        }
        Value::Array(values) => {
            Ok(Operations::Batch(values.into_iter().map(request).collect::<Result<_, _>>()?))
        }
        value => Ok(Operations::One(Box::new(request(value)?))),
    }
}

/// JSON in which no member is there twice, of which another reader may take the other one.
fn json<T: DeserializeOwned>(bytes: &[u8], what: &str) -> Result<T, Unreadable> {
    let unreadable = |error| bad(format!("{what} cannot be read as JSON: {error}"));
    serde_json::from_slice::<Plain>(bytes).map_err(unreadable)?;
    serde_json::from_slice(bytes).map_err(unreadable)
}

/// Well-formed parameters: what is no request is told so with a status, before anything is executed.
fn request(value: Value) -> Result<Request, Unreadable> {
    let Value::Object(mut parameters) = value else { return Err(bad("a request is a JSON object")) };
    let query = match parameters.remove("query") {
        Some(Value::String(query)) => query,
        Some(_) => return Err(bad("query is a string")),
        None => return Err(bad("query is missing: the document that is to be executed")),
    };
    // As it is escaped in a document's strings. PostgreSQL has no place for it.
    let has_nul = |text: &str| text.contains('\0');
    if has_nul(&query) || query.contains("\\u0000") || parameters.values().any(|value| within(value, has_nul))
    {
        return Err(bad("a text has a NUL character; leave it out"));
    }
    let mut request = Request::new(query);
    request.operation_name = match parameters.remove("operationName") {
        None | Some(Value::Null) => None,
        Some(Value::String(name)) => Some(name).filter(|name| !name.is_empty()),
        Some(_) => return Err(bad("operationName is a string")),
    };
    request.variables = match parameters.remove("variables") {
        None | Some(Value::Null) => Variables::default(),
        Some(variables @ Value::Object(_)) => Variables::from_json(variables),
        Some(_) => return Err(bad("variables is a JSON object")),
    };
    match parameters.remove("extensions") {
        None | Some(Value::Null | Value::Object(_)) => Ok(request),
        Some(_) => Err(bad("extensions is a JSON object")),
    }
}

/// Whether any text in it is such a one. JSON is read no deeper than 128 levels.
fn within(value: &Value, is_such: fn(&str) -> bool) -> bool {
    match value {
        Value::String(text) => is_such(text),
        Value::Array(values) => values.iter().any(|value| within(value, is_such)),
        Value::Object(members) => members.iter().any(|(name, value)| is_such(name) || within(value, is_such)),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &str) -> Result<Operations, Unreadable> {
        operations(&Bytes::from(body.to_owned()))
    }

    #[test]
    fn what_is_no_request_is_refused_before_it_is_executed() {
        for body in [
            "",
            "{",
            "7",
            "[]",
            "[7]",
            "{}",
            r#"{"query":7}"#,
            r#"{"query":null}"#,
            r#"{"query":"{ a }","variables":[]}"#,
            r#"{"query":"{ a }","variables":"{}"}"#,
            r#"{"query":"{ a }","operationName":{}}"#,
            r#"{"query":"{ a }","extensions":0}"#,
            r#"{"query":"{ a(b: \"\\u0000\") }"}"#,
            r#"{"query":"{ a }","variables":{"b":["\u0000"]}}"#,
            r#"{"query":"{ a }","query":"{ b }"}"#,
            r#"{"query":"{ a }","variables":{"b":[{"c":1,"\u0063":2}]}}"#,
        ] {
            assert_eq!(
                read(body).map(drop).map_err(|error| error.status),
                Err(StatusCode::BAD_REQUEST),
                "{body}"
            );
        }
        let body = r#"{"query":"{ a }","variables":null,"operationName":null,"extensions":{"a":1}}"#;
        assert!(matches!(read(body), Ok(Operations::One(_))));
        assert!(matches!(read(&format!("[{body},{body}]")), Ok(Operations::Batch(many)) if many.len() == 2));
    }

    #[test]
    fn a_get_has_each_parameter_once() {
        let request =
            from_query("query=%7B+a+%7D&variables=%7B%22b%22%3A1%7D&operationName=&extensions=").unwrap();
        assert_eq!((request.query.as_str(), request.operation_name), ("{ a }", None));
        assert_eq!(request.variables.into_value().to_string(), "{b: 1}");
        for query in
            ["", "query=a&query=b", "query=a&variables=%7B", "query=a&variables=7", "variables=%7B%7D"]
        {
            assert!(from_query(query).is_err(), "{query}");
        }
        let twice = from_query("query=a&variables=%7B%22b%22%3A1%2C%22b%22%3A2%7D").unwrap_err();
        assert!(twice.detail.contains("the member \"b\" is there twice"), "{}", twice.detail);
    }
}
