//! A key-value store over HTTP. The store is named in the setting STORE, or the project's default one.
//!
//!   GET /            keys, one a line         GET /KEY      its value
//!   PUT /KEY         sets it to the body      POST /KEY     adds 1 to it
//!   DELETE /KEY      removes it               PATCH /KEY    appends the body, atomically

use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::types::{
    Fields, IncomingRequest, Method, OutgoingBody, OutgoingResponse, ResponseOutparam,
};
use wasip2::io::streams::StreamError;

use self::bindings::wasi::config::store as config;
use self::bindings::wasi::keyvalue::atomics::{Cas, CasError, increment, swap};
use self::bindings::wasi::keyvalue::batch::delete_many;
use self::bindings::wasi::keyvalue::store::{Bucket, Error, open};
use self::bindings::wasi::logging::logging::{Level, log};

mod bindings {
    wit_bindgen::generate!({
        inline: "package af:keyvalue-example;
            world imports {
                import wasi:config/store@0.2.0-rc.1;
                import wasi:keyvalue/store@0.2.0-draft2;
                import wasi:keyvalue/atomics@0.2.0-draft2;
                import wasi:keyvalue/batch@0.2.0-draft2;
                import wasi:logging/logging@0.1.0-draft;
            }",
        path: ["../../sdk-guest/wit/deps/config", "../../sdk-guest/wit/deps/keyvalue", "../../sdk-guest/wit/deps/logging"],
        world: "af:keyvalue-example/imports",
        generate_all,
    });
}

wasip2::http::proxy::export!(KeyValue);

struct KeyValue;

impl Guest for KeyValue {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let (status, body) = match answer(&request) {
            Ok(Some(body)) => (200, body),
            Ok(None) => (404, b"there is no such key\n".to_vec()),
            Err(error) => {
                log(Level::Error, "keyvalue", &format!("{error:?}"));
                let status = if matches!(error, Error::AccessDenied) { 403 } else { 400 };
                (status, format!("{error:?}\n").into_bytes())
            }
        };
        respond(out, status, &body);
    }
}

fn answer(request: &IncomingRequest) -> Result<Option<Vec<u8>>, Error> {
    let name = config::get("STORE").ok().flatten();
    let bucket = open(name.as_deref().unwrap_or("default"))?;
    let path = request.path_with_query().unwrap_or_default();
    let key = path.trim_start_matches('/');
    let done = || Some(b"done\n".to_vec());
    match request.method() {
        Method::Get if key.is_empty() => keys(&bucket).map(Some),
        Method::Get => bucket.get(key),
        Method::Put => bucket.set(key, &body(request)).map(|()| done()),
        Method::Post => increment(&bucket, key, 1).map(|number| Some(format!("{number}\n").into_bytes())),
        Method::Patch => append(&bucket, key, &body(request)).map(|()| done()),
        Method::Delete => delete_many(&bucket, &[key.to_owned()]).map(|()| done()),
        method => Err(Error::Other(format!("{method:?} is not a method of this function"))),
    }
}

fn keys(bucket: &Bucket) -> Result<Vec<u8>, Error> {
    let (mut all, mut cursor) = (Vec::new(), None);
    loop {
        let page = bucket.list_keys(cursor.as_deref())?;
        for key in page.keys {
            all.extend_from_slice(key.as_bytes());
            all.push(b'\n');
        }
        cursor = page.cursor;
        if cursor.is_none() {
            return Ok(all);
        }
    }
}

/// Whoever comes in between makes it try again, on the value that is there by then.
fn append(bucket: &Bucket, key: &str, more: &[u8]) -> Result<(), Error> {
    let mut cas = Cas::new(bucket, key)?;
    loop {
        let mut value = cas.current()?.unwrap_or_default();
        value.extend_from_slice(more);
        cas = match swap(cas, &value) {
            Ok(()) => return Ok(()),
            Err(CasError::CasFailed(cas)) => cas,
            Err(CasError::StoreError(error)) => return Err(error),
        };
    }
}

fn body(request: &IncomingRequest) -> Vec<u8> {
    let mut bytes = Vec::new();
    let Ok(body) = request.consume() else { return bytes };
    let Ok(stream) = body.stream() else { return bytes };
    loop {
        match stream.blocking_read(64 << 10) {
            Ok(chunk) => bytes.extend_from_slice(&chunk),
            Err(StreamError::Closed | StreamError::LastOperationFailed(_)) => return bytes,
        }
    }
}

fn respond(out: ResponseOutparam, status: u16, bytes: &[u8]) {
    let response = OutgoingResponse::new(Fields::new());
    response.set_status_code(status).expect("the status is one");
    let body = response.body().expect("the body is taken once");
    ResponseOutparam::set(out, Ok(response));
    let stream = body.write().expect("the stream is taken once");
    for chunk in bytes.chunks(4096) {
        if stream.blocking_write_and_flush(chunk).is_err() {
            return;
        }
    }
    drop(stream);
    // The client may have gone.
    let _closed = OutgoingBody::finish(body, None);
}
