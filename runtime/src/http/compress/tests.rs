use http_body_util::Full;

use super::*;

fn response(kind: &str, length: usize) -> Response<ResponseBody> {
    let body = ResponseBody::Full(Full::new(Bytes::from("abcd".repeat(length / 4))));
    Response::builder().header(CONTENT_TYPE, kind).header(CONTENT_LENGTH, length).body(body).unwrap()
}

fn compressed(accept: &str, response: Response<ResponseBody>) -> Response<ResponseBody> {
    let mut headers = HeaderMap::new();
    headers.insert(ACCEPT_ENCODING, accept.parse().unwrap());
    Compressor::default().compress(&headers, response)
}

fn encoding(response: &Response<ResponseBody>) -> Option<&str> {
    response.headers().get(CONTENT_ENCODING).map(|value| value.to_str().unwrap())
}

#[test]
fn the_client_chooses() {
    for (accept, expected) in [
        ("gzip", Some("gzip")),
        ("br, gzip, zstd", Some("zstd")),
        ("zstd;q=1, br;q=0.5", Some("zstd")),
        ("br;q=1, zstd;q=0.5", Some("br")),
        ("gzip;q=0", None),
        ("identity", None),
        ("deflate", None),
        ("identity;q=0, deflate", None),
        ("*;q=0", None),
    ] {
        let response = compressed(accept, response("text/html; charset=utf-8", 4096));
        assert_eq!(encoding(&response), expected, "{accept}");
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers().get(VARY).unwrap(), "accept-encoding");
        let exact = response.body().size_hint().exact().unwrap();
        assert_eq!(exact < 200, expected.is_some(), "{accept}: {exact}");
        assert_eq!(response.headers().contains_key(CONTENT_LENGTH), expected.is_none());
    }
}

#[test]
fn what_is_not_worth_it_or_not_allowed_stays() {
    let with = |name: &'static str, value: &str| {
        let mut response = response("text/plain", 4096);
        response.headers_mut().insert(name, value.parse().unwrap());
        response
    };
    let mut empty = response("text/plain", 4096);
    *empty.status_mut() = StatusCode::NOT_MODIFIED;
    for response in [
        response("image/png", 4096),
        response("text/event-stream", 4096),
        response("text/plain", 512),
        with("content-encoding", "br"),
        with("content-range", "bytes 0-4095/9000"),
        with("cache-control", "public, no-transform"),
        empty,
    ] {
        let before = response.headers().clone();
        assert_eq!(compressed("gzip", response).headers(), &before);
    }
}

#[test]
fn a_strong_tag_becomes_a_weak_one() {
    let mut tagged = response("application/json", 4096);
    tagged.headers_mut().insert(ETAG, HeaderValue::from_static("\"a\""));
    tagged.headers_mut().insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    let response = compressed("zstd", tagged);
    assert_eq!(response.headers().get(ETAG).unwrap(), "W/\"a\"");
    assert!(!response.headers().contains_key(ACCEPT_RANGES));
}

#[test]
fn compressors_are_bounded_and_come_back() {
    let compressor = Compressor::default();
    let all = compressor.places.clone().try_acquire_many_owned(u32::try_from(STREAMS).unwrap()).unwrap();
    let mut accept = HeaderMap::new();
    accept.insert(ACCEPT_ENCODING, HeaderValue::from_static("gzip"));
    assert_eq!(encoding(&compressor.compress(&accept, response("text/plain", 4096))), None);
    drop(all);
    assert_eq!(encoding(&compressor.compress(&accept, response("text/plain", 4096))), Some("gzip"));
    assert_eq!(compressor.places.available_permits(), STREAMS);
}
