//! Clients of HTTP/2 that make the edge work, or hold a place, for nothing: each is ended, and others are served meanwhile.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure here is the test's failure")]

#[path = "../../control-api/tests/support/frames.rs"]
mod frames;
mod support;

use std::time::Duration;

use frames::{CALM, END_HEADERS, END_STREAM, GET, POST, frame, header, stream};
use support::{Home, Server, deploy};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedReadHalf;

/// Longer than any deadline of these tests, and shorter than those that they are not about.
const PATIENCE: Duration = Duration::from_secs(20);

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

const ACK: u8 = 1;

fn reset(number: u32) -> Vec<u8> {
    frame(RST_STREAM, 0, stream(number), &8_u32.to_be_bytes())
}

async fn begin(server: &Server) -> TcpStream {
    let mut stream = TcpStream::connect(("127.0.0.1", server.port)).await.unwrap();
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
    stream.write_all(&frame(SETTINGS, 0, 0, &[])).await.unwrap();
    stream
}

/// Frames that the server sends, to the end of the connection: kinds, with the first eight bytes of their payload.
async fn told(mut stream: OwnedReadHalf) -> Vec<(u8, Vec<u8>)> {
    let mut bytes = Vec::new();
    let all = stream.read_to_end(&mut bytes);
    let _reset = tokio::time::timeout(PATIENCE, all).await.expect("the server closes");
    let mut frames = Vec::new();
    let mut rest = bytes.as_slice();
    while rest.len() >= 9 {
        let length = usize::from(rest[0]) << 16 | usize::from(rest[1]) << 8 | usize::from(rest[2]);
        let payload = rest.get(9..9 + length.min(8)).unwrap_or_default();
        frames.push((rest[3], payload.to_vec()));
        rest = rest.get(9 + length..).unwrap_or_default();
    }
    frames
}

/// Sends what `attack` makes of 0, 1, and so on, until the server ends it. With which code it does, if it can say so.
async fn run(server: &Server, attack: impl Fn(u32) -> Vec<u8> + Send + 'static) -> Option<u32> {
    let (read, mut write) = begin(server).await.into_split();
    let told = tokio::spawn(told(read));
    for number in 0..20_000 {
        // The server may close before all is sent.
        if write.write_all(&attack(number)).await.is_err() {
            break;
        }
    }
    let frames = told.await.unwrap();
    let (_, payload) = frames.iter().rfind(|(kind, _)| *kind == GOAWAY)?;
    Some(u32::from_be_bytes(payload[4..8].try_into().unwrap()))
}

#[tokio::test]
async fn frames_that_ask_for_nothing_end_a_connection_and_no_other() {
    let home = Home::new();
    let server = home.up(&["--metrics-listen", "127.0.0.1:0"]);
    deploy(&home, "good", "hostile", &[]);
    let attacks = [
        frame(PING, 0, 0, &[7; 8]),
        frame(PING, ACK, 0, &[7; 8]),
        frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 1, 0]),
        frame(PRIORITY, 0, 1, &[0, 0, 0, 3, 5]),
        frame(WINDOW_UPDATE, 0, 0, &1_u32.to_be_bytes()),
        frame(0x42, 0, 0, &[]),
    ];
    let many = attacks.len();
    for nothing in attacks {
        let ended = run(&server, move |_| nothing.clone());
        let other = server.request("good", "/").send();
        let (_cut, other) = tokio::join!(ended, other);
        assert_eq!(other.unwrap().status(), 200);
    }
    let counted = format!("af_requests_total{{code=\"http2_flood\"}} {many}");
    let metrics = server.metrics().await;
    assert!(metrics.contains(&counted), "{metrics}");
    assert!(!home.logged().contains("never sent"), "{}", home.logged());
}

#[tokio::test]
async fn requests_that_are_taken_back_or_faulty_end_a_connection() {
    let home = Home::new();
    let server = home.up(&["--metrics-listen", "127.0.0.1:0"]);
    deploy(&home, "good", "hostile", &[]);
    let host = server.host("good");
    let get = {
        let header = header(GET, &host, "/");
        move |number| frame(HEADERS, END_STREAM | END_HEADERS, stream(number), &header)
    };
    let post = {
        let header = header(POST, &host, "/echo");
        move |number| frame(HEADERS, END_HEADERS, stream(number), &header)
    };
    let taken_back = move |number| [get(number), reset(number)].concat();
    assert_eq!(run(&server, taken_back).await, Some(CALM));
    // Made to be reset (CVE-2025-8671): a window without end.
    let window = |number| frame(WINDOW_UPDATE, 0, stream(number), &0x7fff_ffff_u32.to_be_bytes());
    let made_to_reset = {
        let post = post.clone();
        move |number| [post(number), window(number)].concat()
    };
    assert_eq!(run(&server, made_to_reset).await, Some(CALM));
    assert_eq!(run(&server, post.clone()).await, Some(CALM), "more at once than there may be");
    let empty = move |number| if number == 0 { post(0) } else { frame(DATA, 0, 1, &[]) };
    assert_eq!(run(&server, empty).await, Some(CALM));
    server.settled().await;
}

#[tokio::test]
async fn headers_without_end_end_the_connection() {
    let home = Home::new();
    let server = home.up(&[]);
    let begun = header(GET, "good.localhost", "/");
    let (one, other) = (begun.clone(), begun.clone());
    // A literal header that is never indexed: x: and 100 bytes.
    let line = [&[0x10, 1, b'x', 100], "y".repeat(100).as_bytes()].concat();
    let long = move |number| match number {
        0 => frame(HEADERS, END_STREAM, 1, &one),
        _ => frame(CONTINUATION, 0, 1, &line),
    };
    assert_eq!(run(&server, long).await, Some(CALM));
    let empty = move |number| match number {
        0 => frame(HEADERS, END_STREAM, 1, &other),
        _ => frame(CONTINUATION, 0, 1, &[]),
    };
    assert_eq!(run(&server, empty).await, Some(CALM));
    // A line of 3,900 bytes goes to HPACK's table, and each further byte repeats it.
    let line = [&[0x40, 1, b'x', 0x7f, 0xbd, 0x1d], &[b'y'; 3_900][..], &[0xbe; 1_000]].concat();
    let bomb = [begun, line].concat();
    let bomb = move |number| frame(HEADERS, END_STREAM | END_HEADERS, stream(number), &bomb);
    assert_eq!(run(&server, bomb).await, Some(CALM));
}

#[tokio::test]
async fn a_header_that_goes_on_slowly_ends_the_connection() {
    let home = Home::new();
    let server = home.up(&["--header-timeout-ms", "200"]);
    let (read, mut write) = begin(&server).await.into_split();
    let told = tokio::spawn(told(read));
    let begun = frame(HEADERS, END_STREAM, 1, &header(GET, "good.localhost", "/"));
    write.write_all(&begun).await.unwrap();
    let mut pace = tokio::time::interval(Duration::from_millis(20));
    for byte in frame(CONTINUATION, END_HEADERS, 1, &[0x82; 10_000]) {
        if write.write_all(&[byte]).await.is_err() {
            break;
        }
        pace.tick().await;
    }
    told.await.unwrap();
}

#[tokio::test]
async fn a_client_that_pings_and_asks_for_nothing_is_told_to_go_and_ended() {
    let home = Home::new();
    let server = home.up(&["--idle-timeout-ms", "200"]);
    let (read, mut write) = begin(&server).await.into_split();
    let told = tokio::spawn(told(read));
    let mut pace = tokio::time::interval(Duration::from_millis(20));
    while write.write_all(&frame(PING, 0, 0, &[7; 8])).await.is_ok() {
        pace.tick().await;
    }
    let frames = told.await.unwrap();
    let goodbye = frames.iter().find(|(kind, _)| *kind == GOAWAY).expect("it is told");
    assert_eq!(goodbye.1[4..8], [0; 4], "NO_ERROR");
}

#[tokio::test]
async fn requests_that_never_end_hold_nothing_for_long() {
    let home = Home::new();
    let server =
        home.up(&["--body-timeout-ms", "200", "--idle-timeout-ms", "200", "--metrics-listen", "127.0.0.1:0"]);
    deploy(&home, "good", "hostile", &[]);
    let (read, mut write) = begin(&server).await.into_split();
    let told = tokio::spawn(told(read));
    let header = header(POST, &server.host("good"), "/swallow");
    for number in 0..100 {
        write.write_all(&frame(HEADERS, END_HEADERS, stream(number), &header)).await.unwrap();
    }
    let mut pace = tokio::time::interval(Duration::from_millis(20));
    while write.write_all(&frame(PING, 0, 0, &[7; 8])).await.is_ok() {
        pace.tick().await;
    }
    let frames = told.await.unwrap();
    assert_eq!(frames.iter().filter(|(kind, _)| *kind == HEADERS).count(), 100, "each has an answer");
    server.settled().await;
    assert_eq!(server.request("good", "/").send().await.unwrap().status(), 200);
}
