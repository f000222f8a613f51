//! Any header is refused, or becomes an absolute URI with the host that routing has seen.

#![no_main]

#[path = "../../src/http/target.rs"]
mod target;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut headers = [httparse::EMPTY_HEADER; 16];
    let mut parsed = httparse::Request::new(&mut headers);
    if !matches!(parsed.parse(bytes), Ok(status) if status.is_complete()) {
        return;
    }
    let mut request = http::Request::builder().uri(parsed.path.unwrap_or_default());
    for header in parsed.headers.iter() {
        request = request.header(header.name, header.value);
    }
    let Ok(mut request) = request.body(()) else { return };
    let Ok(host) = target::host(&request) else { return };
    if target::make_absolute(&mut request, "http", &host).is_ok() {
        let authority = request.uri().authority().expect("it is absolute");
        assert_eq!(authority.as_str(), host.authority);
        let again = target::host(&request).expect("it has one");
        assert_eq!((again.authority.as_str(), again.name()), (host.authority.as_str(), host.name()));
    }
});
