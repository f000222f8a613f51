//! Work that is done on schedule, and only then: deploy it with --cron "*/5 * * * *=/work".
//!
//!   GET /         how often it was done, and for which moment the last time
//!   GET /work     does it, if the platform's schedule asks; a client gets a 403
//!   GET /fail     fails, whoever asks

use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::types::{Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam};

use self::bindings::wasi::keyvalue::atomics::increment;
use self::bindings::wasi::keyvalue::store::{Bucket, Error, open};

mod bindings {
    wit_bindgen::generate!({
        inline: "package af:cron-example;
            world imports {
                import wasi:keyvalue/store@0.2.0-draft2;
                import wasi:keyvalue/atomics@0.2.0-draft2;
            }",
        path: ["../../sdk-guest/wit/deps/keyvalue"],
        world: "af:cron-example/imports",
        generate_all,
    });
}

wasip2::http::proxy::export!(Cron);

struct Cron;

impl Guest for Cron {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let (status, text) = answer(&request).unwrap_or_else(|error| (500, format!("{error:?}\n")));
        respond(out, status, text.as_bytes());
    }
}

fn answer(request: &IncomingRequest) -> Result<(u16, String), Error> {
    let bucket = open("default")?;
    let path = request.path_with_query().unwrap_or_default();
    match path.split('?').next().unwrap_or_default() {
        "/" => Ok((200, report(&bucket)?)),
        "/work" => work(request, &bucket),
        "/fail" => Ok((500, "as asked\n".to_owned())),
        _ => Ok((404, "there is / and /work\n".to_owned())),
    }
}

/// No client can send these headers: the edge drops them.
fn work(request: &IncomingRequest, bucket: &Bucket) -> Result<(u16, String), Error> {
    if header(request, "af-trigger").as_deref() != Some("cron") {
        return Ok((403, "only the schedule may do this\n".to_owned()));
    }
    let moment = header(request, "af-scheduled-at").unwrap_or_default();
    let at = request.authority().unwrap_or_default() + &request.path_with_query().unwrap_or_default();
    bucket.set("last", format!("{moment} at {at}").as_bytes())?;
    let times = increment(bucket, "times", 1)?;
    Ok((200, format!("done {times} times\n")))
}

fn report(bucket: &Bucket) -> Result<String, Error> {
    let last = bucket.get("last")?.unwrap_or_else(|| b"never".to_vec());
    let times = increment(bucket, "times", 0)?;
    Ok(format!("{times} times, last for {}\n", String::from_utf8_lossy(&last)))
}

fn header(request: &IncomingRequest, name: &str) -> Option<String> {
    String::from_utf8(request.headers().get(name).pop()?).ok()
}

fn respond(out: ResponseOutparam, status: u16, text: &[u8]) {
    let response = OutgoingResponse::new(Fields::new());
    response.set_status_code(status).expect("the status is one");
    let body = response.body().expect("the body is taken once");
    ResponseOutparam::set(out, Ok(response));
    let stream = body.write().expect("the stream is taken once");
    // The client may have gone.
    let _closed = stream.blocking_write_and_flush(text);
    drop(stream);
    let _closed = OutgoingBody::finish(body, None);
}
