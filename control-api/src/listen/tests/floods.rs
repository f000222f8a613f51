//! Clients of HTTP/2 that make the server work, or hold a place, for nothing.

#[path = "../../../tests/support/frames.rs"]
mod frames;

use tokio::io::{ReadHalf, WriteHalf, split};

use self::frames::{CALM, END_HEADERS, END_STREAM, GET, POST, frame, stream};
use super::*;

fn header(method: u8, path: &str) -> Vec<u8> {
    frames::header(method, "control", path)
}

struct Attack {
    scene: Scene,
    read: ReadHalf<DuplexStream>,
    write: WriteHalf<DuplexStream>,
}

impl Attack {
    async fn begin() -> Self {
        let mut scene = Scene::new(64 << 10);
        let (read, mut write) = split(std::mem::replace(&mut scene.client, duplex(1).0));
        write.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
        write.write_all(&frame(4, 0, 0, &[])).await.unwrap();
        Self { scene, read, write }
    }

    /// Sends what `attack` makes of 0, 1, and so on, until the server ends it, and at once. With which code it does.
    async fn run(self, attack: impl Fn(u32) -> Vec<u8> + Send + 'static) -> Option<u32> {
        let Self { scene, mut read, mut write } = self;
        let sent = tokio::spawn(async move {
            for number in 0..20_000 {
                if write.write_all(&attack(number)).await.is_err() {
                    break;
                }
            }
            write
        });
        let mut bytes = Vec::new();
        read.read_to_end(&mut bytes).await.unwrap();
        assert_eq!(scene.took(), 0, "it was ended for what it sent, not for what it left out");
        scene.connection.await.unwrap();
        drop(sent.await.unwrap());
        let mut rest = bytes.as_slice();
        let mut code = None;
        while let Some([high, middle, low, kind]) = rest.first_chunk::<4>() {
            let end = 9 + (usize::from(*high) << 16 | usize::from(*middle) << 8 | usize::from(*low));
            if *kind == 7 {
                code = Some(u32::from_be_bytes(rest[13..17].try_into().unwrap()));
            }
            rest = rest.get(end..).unwrap_or_default();
        }
        code
    }
}

#[tokio::test(start_paused = true)]
async fn frames_that_ask_for_nothing_end_a_connection() {
    for nothing in [
        frame(6, 0, 0, &[7; 8]),
        frame(6, 1, 0, &[7; 8]),
        frame(4, 0, 0, &[0, 4, 0, 0, 1, 0]),
        frame(2, 0, 1, &[0, 0, 0, 3, 5]),
        frame(8, 0, 0, &1_u32.to_be_bytes()),
        frame(0x42, 0, 0, &[]),
    ] {
        let kind = nothing[3];
        assert_eq!(Attack::begin().await.run(move |_| nothing.clone()).await, None, "{kind}: it is cut");
    }
}

#[tokio::test(start_paused = true)]
async fn requests_that_are_taken_back_or_faulty_end_a_connection() {
    let open = |number, path| frame(1, END_HEADERS, stream(number), &header(POST, path));
    let reset = |number| frame(3, 0, stream(number), &8_u32.to_be_bytes());
    let taken_back = move |number| [open(number, "/sent"), reset(number)].concat();
    assert_eq!(Attack::begin().await.run(taken_back).await, Some(CALM));
    // Made to be reset (CVE-2025-8671): a window without end.
    let window = |number| frame(8, 0, stream(number), &0x7fff_ffff_u32.to_be_bytes());
    let made_to_reset = move |number| [open(number, "/sent"), window(number)].concat();
    assert_eq!(Attack::begin().await.run(made_to_reset).await, Some(CALM));
    let too_many = |number| frame(1, END_HEADERS | END_STREAM, stream(number), &header(GET, "/events"));
    assert_eq!(Attack::begin().await.run(too_many).await, Some(CALM));
    let empty = move |number| if number == 0 { open(0, "/sent") } else { frame(0, 0, 1, &[]) };
    assert_eq!(Attack::begin().await.run(empty).await, Some(CALM));
}

#[tokio::test(start_paused = true)]
async fn headers_that_unfold_without_end_end_a_connection() {
    // A line of 3,900 bytes goes to the table, and each further byte repeats it.
    let line = [&[0x40, 1, b'x', 0x7f, 0xbd, 0x1d], &[b'y'; 3_900][..], &[0xbe; 1_000]].concat();
    let bomb = [header(GET, "/sent"), line].concat();
    let bomb = move |number| frame(1, END_HEADERS | END_STREAM, stream(number), &bomb);
    assert_eq!(Attack::begin().await.run(bomb).await, Some(CALM));
    let endless = |number| match number {
        0 => frame(1, END_STREAM, 1, &header(GET, "/sent")),
        _ => frame(9, 0, 1, &[]),
    };
    assert_eq!(Attack::begin().await.run(endless).await, Some(CALM));
}

#[tokio::test(start_paused = true)]
async fn a_header_that_goes_on_slowly_keeps_no_connection() {
    let Attack { scene, mut read, mut write } = Attack::begin().await;
    write.write_all(&frame(1, END_STREAM, 1, &header(GET, "/sent"))).await.unwrap();
    let slowly = frame(9, END_HEADERS, 1, &[0x82; 10_000]);
    let sent = tokio::spawn(async move {
        for byte in slowly {
            if write.write_all(&[byte]).await.is_err() {
                break;
            }
            sleep(Duration::from_secs(1)).await;
        }
    });
    let mut bytes = Vec::new();
    read.read_to_end(&mut bytes).await.unwrap();
    assert_eq!(scene.took(), (PING + HEADER_TIMEOUT).as_secs());
    sent.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_client_that_pings_and_asks_for_nothing_keeps_no_connection() {
    let Attack { scene, mut read, mut write } = Attack::begin().await;
    // With the answer to each ping of the server's.
    let pong = frame(6, 1, 0, &[0x3b, 0x7c, 0xdb, 0x7a, 0x0b, 0x87, 0x16, 0xb4]);
    let pings = [frame(6, 0, 0, &[7; 8]), pong].concat();
    let sent = tokio::spawn(async move {
        while write.write_all(&pings).await.is_ok() {
            sleep(Duration::from_secs(5)).await;
        }
    });
    let mut bytes = Vec::new();
    read.read_to_end(&mut bytes).await.unwrap();
    assert!(bytes.windows(5).any(|bytes| bytes == [0, 0, 8, 7, 0]), "it was told to go");
    assert!(
        (IDLE_TIMEOUT.as_secs()..=2 * IDLE_TIMEOUT.as_secs()).contains(&scene.took()),
        "{}",
        scene.took()
    );
    sent.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_client_that_reads_none_of_many_answers_makes_the_server_hold_little() {
    let Attack { scene, read, mut write } = Attack::begin().await;
    let window = |bytes: u32| bytes.to_be_bytes();
    write.write_all(&frame(4, 0, 0, &[&[0, 4], &window(0x7fff_ffff)[..]].concat())).await.unwrap();
    write.write_all(&frame(8, 0, 0, &window(0x7000_0000))).await.unwrap();
    for number in 0..STREAMS {
        let get = header(GET, "/endless");
        write.write_all(&frame(1, END_HEADERS | END_STREAM, stream(number), &get)).await.unwrap();
    }
    assert!(!scene.connection.await.unwrap(), "it was cut");
    assert_eq!(scene.begun.elapsed(), WRITE_TIMEOUT);
    let (given, most) = (scene.given.load(Ordering::Relaxed), STREAMS as usize * (SEND_BUFFER + (16 << 10)));
    assert!((1..=most).contains(&given), "{given} of {most}");
    drop((read, write));
}
