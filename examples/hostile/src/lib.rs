//! What a bad guest does. The path says what: `/spin`, `/allocate`, …; `/` behaves.

mod files;

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
            "/half" => half(out, 1),
            "/most" => half(out, 256),
            "/slow" => slow(out),
            "/chatter" => chatter(out),
            "/echo" => echo(request, out),
            "/swallow" => swallow(request, out),
            "/picky" => picky(request, out),
            "/files" => respond(out, format!("{:?}", std::fs::read_dir("/").map(|_| ())).as_bytes()),
            "/environment" => {
                respond(out, format!("{:?}", std::env::vars().collect::<Vec<_>>()).as_bytes());
            }
            "/handles" => handles(),
            "/headers" => headers(),
            "/random" => random(),
            "/grow" => grow(out),
            "/hostcalls" => loop {
                std::hint::black_box(wasip2::clocks::monotonic_clock::now());
            },
            "/remember" => remember(out),
            "/plant" => plant(out),
            "/search" => search(out),
            "/size" => respond(out, format!("{}\n", core::arch::wasm32::memory_size::<0>()).as_bytes()),
            "/keep" => keep(out),
            "/guess" => guess(out),
            "/change" => respond(out, files::change().as_bytes()),
            "/impatient" => respond(out, files::impatient().as_bytes()),
            path => match path.strip_prefix("/header?") {
                Some(name) => respond(out, &request.headers().get(name).concat()),
                None => special(path, out),
            },
        }
    }
}

/// Paths that say more than what to do.
fn special(path: &str, out: ResponseOutparam) {
    let after = |prefix| path.strip_prefix(prefix);
    if let Some(authority) = after("/to/") {
        outbound(authority, out);
    } else if let Some(authority) = after("/many/") {
        many(authority, out);
    } else if let Some(path) = after("/open?") {
        respond(out, files::open(path).as_bytes());
    } else if let Some(path) = after("/reread?") {
        files::reread(path);
    } else {
        respond(out, b"this time I behave\n");
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

/// Crashes in the middle of a body, after so many pieces of 4 KiB.
fn half(out: ResponseOutparam, pieces: usize) {
    let response = OutgoingResponse::new(Fields::new());
    let body = response.body().expect("the body is taken once");
    ResponseOutparam::set(out, Ok(response));
    let stream = body.write().expect("the stream is taken once");
    for _ in 0..pieces {
        let _ = stream.blocking_write_and_flush(&[b'x'; 4096]);
    }
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

/// Reads all of the request's body before it answers.
fn swallow(request: IncomingRequest, out: ResponseOutparam) {
    let incoming = request.consume().expect("the body is taken once");
    let input = incoming.stream().expect("the stream is taken once");
    let mut length = 0;
    while let Ok(bytes) = input.blocking_read(64 << 10) {
        length += bytes.len();
    }
    respond(out, format!("{length}\n").as_bytes());
}

/// As [`swallow`], and crashes where the body breaks off.
fn picky(request: IncomingRequest, out: ResponseOutparam) {
    let incoming = request.consume().expect("the body is taken once");
    let input = incoming.stream().expect("the stream is taken once");
    let mut length = 0;
    loop {
        match input.blocking_read(64 << 10) {
            Ok(bytes) => length += bytes.len(),
            Err(StreamError::Closed) => break,
            Err(StreamError::LastOperationFailed(_)) => core::arch::wasm32::unreachable(),
        }
    }
    respond(out, format!("{length}\n").as_bytes());
}

/// `GET http://<authority>/`: the status, or the error.
fn fetch(authority: &str) -> Result<u16, String> {
    use wasip2::http::outgoing_handler::handle;
    use wasip2::http::types::{OutgoingRequest, Scheme};
    let request = OutgoingRequest::new(Fields::new());
    request.set_scheme(Some(&Scheme::Http)).map_err(|()| "scheme")?;
    request.set_authority(Some(authority)).map_err(|()| "authority")?;
    request.set_path_with_query(Some("/")).map_err(|()| "path")?;
    let future = handle(request, None).map_err(|error| format!("{error:?}"))?;
    future.subscribe().block();
    let response = future.get().and_then(Result::ok).ok_or("no answer")?;
    response.map(|response| response.status()).map_err(|error| format!("{error:?}"))
}

/// Goes where the path says: `/to/127.0.0.1:4000`.
fn outbound(authority: &str, out: ResponseOutparam) {
    respond(out, format!("{:?}\n", fetch(authority)).as_bytes());
}

/// More requests than anyone may send: how many were answered.
fn many(authority: &str, out: ResponseOutparam) {
    let answered = (0..10_000).filter(|_| fetch(authority).is_ok()).count();
    respond(out, format!("{answered}\n").as_bytes());
}

/// A million things that the host has to keep.
fn handles() {
    let hoard: Vec<_> = (0..1_000_000).map(|_| Fields::new()).collect();
    std::mem::forget(hoard);
}

/// A hundred megabytes of headers.
fn headers() {
    let fields = Fields::new();
    let value = vec![b'x'; 1 << 10];
    for number in 0..100_000 {
        let _ = fields.append(&format!("x-{number}"), &value);
    }
}

/// More random bytes than memory, in one call.
fn random() {
    std::hint::black_box(wasip2::random::random::get_random_bytes(1 << 40));
}

/// Memory page by page until there is no more: how many MiB there are.
fn grow(out: ResponseOutparam) {
    while core::arch::wasm32::memory_grow::<0>(1) != usize::MAX {}
    respond(out, format!("{}\n", core::arch::wasm32::memory_size::<0>() >> 4).as_bytes());
}

/// What `/plant` leaves behind. Computed, so that it stands in no data segment.
fn secret() -> [u64; 4] {
    let seed = std::hint::black_box(0x9e37_79b9_7f4a_7c15_u64);
    [1, 3, 5, 7].map(|factor: u64| seed.wrapping_mul(factor).rotate_left(17))
}

/// Fills memory, old and new, with something that a later instance must not find.
fn plant(out: ResponseOutparam) {
    let mut hoard = Vec::new();
    for _ in 0..64 {
        hoard.push(std::hint::black_box(vec![secret(); 1 << 10]));
    }
    std::mem::forget(hoard);
    respond(out, b"planted\n");
}

/// Looks at all of its memory, and at twice what it had when it began.
fn search(out: ResponseOutparam) {
    let pages = core::arch::wasm32::memory_size::<0>();
    core::arch::wasm32::memory_grow::<0>(pages);
    let [first, second, ..] = secret();
    let mut found = 0;
    for at in (8..2 * pages * (64 << 10) - 16).step_by(8) {
        // SAFETY: within the memory. Read as volatile, since no Rust object is there.
        let (one, two) = unsafe {
            let at = at as *const u64;
            (at.read_volatile(), at.add(1).read_volatile())
        };
        // The two are compared apart, so that they never stand side by side on the stack.
        found += usize::from(one == first) & usize::from(two == second);
    }
    respond(out, format!("{found}\n").as_bytes());
}

/// Leaves handles of what nobody else may see.
fn keep(out: ResponseOutparam) {
    for _ in 0..32 {
        let fields = Fields::new();
        let _ = fields.append("hidden", b"of another request");
        std::mem::forget(fields);
    }
    respond(out, b"kept\n");
}

/// Asks for handles that it was never given; the host should end it.
fn guess(out: ResponseOutparam) {
    let found = (3..32).any(|handle| {
        // SAFETY: a number; what is behind it is the host's to judge.
        let fields = std::mem::ManuallyDrop::new(unsafe { Fields::from_handle(handle) });
        fields.has("hidden")
    });
    respond(out, format!("{found}\n").as_bytes());
}

/// Counts its calls: more than 1 would mean that an instance was used twice.
fn remember(out: ResponseOutparam) {
    use std::sync::atomic::{AtomicU32, Ordering};
    static CALLS: AtomicU32 = AtomicU32::new(0);
    let calls = CALLS.fetch_add(1, Ordering::Relaxed) + 1;
    respond(out, format!("{calls}\n").as_bytes());
}
