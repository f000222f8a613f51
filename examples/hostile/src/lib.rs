//! What a bad guest does. The path says what: `/spin`, `/allocate`, …; `/` behaves.

use wasip2::clocks::monotonic_clock::subscribe_duration;
use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::types::{
    ErrorCode, Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam,
};
use wasip2::io::streams::StreamError;

wasip2::http::proxy::export!(Hostile);

struct Hostile;

impl Guest for Hostile {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let path = request.path_with_query().unwrap_or_default();
        match path.as_str() {
            "/spin" => loop {
                std::hint::spin_loop();
            },
            "/allocate" => allocate(),
            "/trap" => core::arch::wasm32::unreachable(),
            "/recurse" => respond(out, &recurse(1).to_le_bytes()),
            "/silent" => {}
            "/error" => ResponseOutparam::set(out, Err(ErrorCode::LoopDetected)),
            "/sleep" => subscribe_duration(3_600_000_000_000).block(),
            "/flood" => flood(out),
            "/half" => half(out),
            "/slow" => slow(out),
            "/chatter" => chatter(out),
            "/echo" => echo(request, out),
            "/files" => respond(out, format!("{:?}", std::fs::read_dir("/").map(|_| ())).as_bytes()),
            "/environment" => {
                respond(out, format!("{:?}", std::env::vars().collect::<Vec<_>>()).as_bytes());
            }
            "/outbound" => outbound(out),
            "/remember" => remember(out),
            _ => respond(out, b"this time I behave\n"),
        }
    }
}

fn respond(out: ResponseOutparam, text: &[u8]) {
    let response = OutgoingResponse::new(Fields::new());
    let body = response.body().expect("the body is taken once");
    ResponseOutparam::set(out, Ok(response));
    let stream = body.write().expect("the stream is taken once");
    for part in text.chunks(4096) {
        if stream.blocking_write_and_flush(part).is_err() {
            return;
        }
    }
    drop(stream);
    let _closed = OutgoingBody::finish(body, None);
}

/// Memory without end: every page is touched.
fn allocate() {
    let mut hoard = Vec::new();
    loop {
        hoard.push(std::hint::black_box(vec![1_u8; 1 << 20]));
    }
}

#[expect(unconditional_recursion, reason = "that is the attack")]
fn recurse(depth: u64) -> u64 {
    let frame = std::hint::black_box([depth; 64]);
    recurse(depth + 1).wrapping_add(frame[(depth % 64) as usize])
}

/// A response that never ends.
fn flood(out: ResponseOutparam) {
    let response = OutgoingResponse::new(Fields::new());
    let body = response.body().expect("the body is taken once");
    ResponseOutparam::set(out, Ok(response));
    let stream = body.write().expect("the stream is taken once");
    while stream.blocking_write_and_flush(&[b'x'; 4096]).is_ok() {}
}

/// Crashes in the middle of a body.
fn half(out: ResponseOutparam) {
    let response = OutgoingResponse::new(Fields::new());
    let body = response.body().expect("the body is taken once");
    ResponseOutparam::set(out, Ok(response));
    let stream = body.write().expect("the stream is taken once");
    let _ = stream.blocking_write_and_flush(b"the first half");
    core::arch::wasm32::unreachable()
}

/// Begins its response at once and ends it half a second later.
fn slow(out: ResponseOutparam) {
    let response = OutgoingResponse::new(Fields::new());
    let body = response.body().expect("the body is taken once");
    ResponseOutparam::set(out, Ok(response));
    let stream = body.write().expect("the stream is taken once");
    subscribe_duration(500_000_000).block();
    let _ = stream.blocking_write_and_flush(b"slow but sure\n");
    drop(stream);
    let _closed = OutgoingBody::finish(body, None);
}

/// More log than anyone wants.
fn chatter(out: ResponseOutparam) {
    for line in 0..20_000 {
        println!("line {line} of a log that nobody asked for");
    }
    respond(out, b"said enough\n");
}

/// Streams the request's body back.
fn echo(request: IncomingRequest, out: ResponseOutparam) {
    let response = OutgoingResponse::new(Fields::new());
    let body = response.body().expect("the body is taken once");
    ResponseOutparam::set(out, Ok(response));
    let output = body.write().expect("the stream is taken once");
    let incoming = request.consume().expect("the body is taken once");
    let input = incoming.stream().expect("the stream is taken once");
    loop {
        match input.blocking_read(64 << 10) {
            Ok(bytes) => {
                for part in bytes.chunks(4096) {
                    if output.blocking_write_and_flush(part).is_err() {
                        return;
                    }
                }
            }
            Err(StreamError::Closed) => break,
            Err(StreamError::LastOperationFailed(_)) => return,
        }
    }
    drop(output);
    let _closed = OutgoingBody::finish(body, None);
}

/// Tries to reach the machine that it runs on.
fn outbound(out: ResponseOutparam) {
    use wasip2::http::outgoing_handler::handle;
    use wasip2::http::types::{OutgoingRequest, Scheme};
    let request = OutgoingRequest::new(Fields::new());
    let _ = request.set_scheme(Some(&Scheme::Http));
    let _ = request.set_authority(Some("127.0.0.1:4000"));
    let _ = request.set_path_with_query(Some("/health"));
    let answer = handle(request, None).map(|future| {
        future.subscribe().block();
        future.get().map(|result| result.map(|result| result.map(|response| response.status())))
    });
    respond(out, format!("{answer:?}\n").as_bytes());
}

/// Counts its calls: more than 1 would mean that an instance was used twice.
fn remember(out: ResponseOutparam) {
    use std::sync::atomic::{AtomicU32, Ordering};
    static CALLS: AtomicU32 = AtomicU32::new(0);
    let calls = CALLS.fetch_add(1, Ordering::Relaxed) + 1;
    respond(out, format!("{calls}\n").as_bytes());
}
