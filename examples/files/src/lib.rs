//! Serves the files that it was deployed with: `af functions deploy --assets DIR`.
//!
//!   GET /FILE        the file; with `Range: bytes=FROM-TO`, a part of it
//!   GET /DIRECTORY   its index.html, or what is in it, one name a line

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};

use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::types::{Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam};

wasip2::http::proxy::export!(Files);

struct Files;

/// What a request gets.
struct Answer {
    status: u16,
    content_type: &'static str,
    length: u64,
    body: Box<dyn Read>,
}

impl Guest for Files {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let path = request.path_with_query().unwrap_or_default();
        let path = path.split('?').next().unwrap_or_default();
        let range = request.headers().get("range");
        let range = range.first().and_then(|range| std::str::from_utf8(range).ok());
        // A path that leads out of the files is refused by the platform.
        let answer = answer(&decoded(path), range).unwrap_or_else(|error| match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => text(404, "there is no such file\n"),
            io::ErrorKind::PermissionDenied => text(403, "that is not one of the files\n"),
            _ => text(500, &format!("{error}\n")),
        });
        respond(out, answer);
    }
}

fn answer(path: &str, range: Option<&str>) -> io::Result<Answer> {
    let meta = fs::metadata(path)?;
    if meta.is_dir() {
        let index = format!("{}/index.html", path.trim_end_matches('/'));
        return match fs::metadata(&index) {
            Ok(meta) => part(&index, meta.len(), range),
            Err(_) => list(path),
        };
    }
    part(path, meta.len(), range)
}

fn list(path: &str) -> io::Result<Answer> {
    let mut names = String::new();
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        let slash = if entry.file_type()?.is_dir() { "/" } else { "" };
        names.push_str(&format!("{}{slash}\n", entry.file_name().to_string_lossy()));
    }
    Ok(text(200, &names))
}

fn part(path: &str, size: u64, range: Option<&str>) -> io::Result<Answer> {
    let (from, to) = match range.map(|range| bounds(range, size)) {
        None => (0, size),
        Some(Some(bounds)) => bounds,
        Some(None) => return Ok(text(416, "that range is not in the file\n")),
    };
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(from))?;
    let status = if range.is_some() { 206 } else { 200 };
    let length = to - from;
    Ok(Answer { status, content_type: content_type(path), length, body: Box::new(file.take(length)) })
}

/// `bytes=FROM-TO` or `bytes=FROM-`, the last byte included (RFC 9110 section 14.1.2).
fn bounds(range: &str, size: u64) -> Option<(u64, u64)> {
    let (from, to) = range.strip_prefix("bytes=")?.split_once('-')?;
    let from = from.parse().ok()?;
    let to = if to.is_empty() { size } else { to.parse::<u64>().ok()?.checked_add(1)?.min(size) };
    (from < to).then_some((from, to))
}

fn content_type(path: &str) -> &'static str {
    match path.rsplit_once('.').map(|(_, end)| end) {
        Some("html") => "text/html; charset=utf-8",
        Some("css") => "text/css",
        Some("js") => "text/javascript",
        Some("json") => "application/json",
        Some("svg") => "image/svg+xml",
        Some("png") => "image/png",
        Some("txt") => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}

fn text(status: u16, text: &str) -> Answer {
    let length = text.len() as u64;
    let body = Box::new(io::Cursor::new(text.to_owned()));
    Answer { status, content_type: "text/plain; charset=utf-8", length, body }
}

/// `%20` and the like as what they stand for.
fn decoded(path: &str) -> String {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let [byte, after @ ..] = rest {
        let digits = after.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        let escaped = digits.filter(|_| *byte == b'%').and_then(|digits| u8::from_str_radix(digits, 16).ok());
        bytes.push(escaped.unwrap_or(*byte));
        rest = if escaped.is_some() { &after[2..] } else { after };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn respond(out: ResponseOutparam, mut answer: Answer) {
    let headers = Fields::new();
    let length = answer.length.to_string();
    for (name, value) in [("content-type", answer.content_type), ("content-length", &length)] {
        headers.append(name, value.as_bytes()).expect("the header is one");
    }
    let response = OutgoingResponse::new(headers);
    response.set_status_code(answer.status).expect("the status is one");
    let body = response.body().expect("the body is taken once");
    ResponseOutparam::set(out, Ok(response));
    let mut stream = body.write().expect("the stream is taken once");
    let mut chunk = vec![0; 64 << 10];
    loop {
        match answer.body.read(&mut chunk) {
            Ok(0) => break,
            // Without its end, a body that broke off does not look complete.
            Err(error) => return eprintln!("cannot read on: {error}"),
            Ok(read) if stream.write_all(&chunk[..read]).is_err() => return,
            Ok(_) => {}
        }
    }
    let _gone = stream.flush();
    drop(stream);
    let _gone = OutgoingBody::finish(body, None);
}
