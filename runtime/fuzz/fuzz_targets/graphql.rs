//! Whatever comes as a GraphQL request is refused with a status that says why, or is one operation to ten. The first byte says how it
//! comes: in a query, as JSON, or as a form with files, between whose parts stands "--x".

#![no_main]

#[path = "../../../control-api/src/graphql/transport.rs"]
mod transport;

use axum::body::Body;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, StatusCode};
use transport::{Operations, Unreadable, from_body, from_query};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Some((kind, bytes)) = bytes.split_first() else { return };
    let media = match kind % 3 {
        0 => {
            let Ok(query) = std::str::from_utf8(bytes) else { return };
            return judge(from_query(query).map(|request| Operations::One(Box::new(request))));
        }
        1 => "application/json",
        _ => "multipart/form-data; boundary=x",
    };
    let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(media))]);
    let body = Body::from(bytes.to_vec());
    let runtime =
        tokio::runtime::Builder::new_current_thread().build().expect("it needs no more than memory");
    judge(runtime.block_on(from_body(&headers, body)));
});

fn judge(read: Result<Operations, Unreadable>) {
    match read {
        Ok(Operations::One(_)) => {}
        Ok(Operations::Batch(many)) => assert!((1..=10).contains(&many.len())),
        Err(Unreadable { status, detail }) => {
            assert!([StatusCode::BAD_REQUEST, StatusCode::PAYLOAD_TOO_LARGE].contains(&status), "{status}");
            assert!(!detail.is_empty());
        }
    }
}
