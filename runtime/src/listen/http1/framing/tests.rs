use super::*;

/// How many headers passed.
fn read(pieces: &[&[u8]]) -> Result<u32, Refusal> {
    let mut framing = Framing::default();
    for piece in pieces {
        framing.read(piece)?;
    }
    Ok(framing.heads())
}

/// The same, whole, byte by byte, and cut in two anywhere.
fn verdict(text: &str) -> Result<u32, Refusal> {
    let bytes = text.as_bytes();
    let whole = read(&[bytes]);
    let singly: Vec<&[u8]> = bytes.chunks(1).collect();
    assert_eq!(read(&singly), whole, "{text:?} byte by byte");
    for at in 0..bytes.len() {
        let (one, two) = bytes.split_at(at);
        assert_eq!(read(&[one, two]), whole, "{text:?} cut at {at}");
    }
    whole
}

fn with(headers: &str) -> Result<u32, Refusal> {
    verdict(&format!("POST / HTTP/1.1\r\nHost: a\r\n{headers}\r\n\r\n"))
}

fn chunked(body: &str) -> Result<u32, Refusal> {
    let next = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    verdict(&format!("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{body}{next}"))
}

#[test]
fn good_requests_pass_one_after_the_other() {
    let get = "GET /a?b HTTP/1.1\r\nHost: a\r\nAccept:\r\nX-Y: \t\u{e9}\r\n\r\n";
    let post = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nx\n\n";
    let pieces = "POST / HTTP/1.1\r\nHost: a\r\ntransfer-encoding: Chunked\r\n\r\n\
        3;a=\"b\"\r\n\r\n\n\r\nA\r\n0123456789\r\n000\r\nTrailer: x\r\n\r\n";
    assert_eq!(verdict(&format!("{get}{post}{get}{pieces}{pieces}\r\n{get}")), Ok(6));
    assert_eq!(verdict("GET / HTTP/1.0\r\n\r\n"), Ok(1));
}

#[test]
fn lengths_that_can_be_read_in_two_ways_are_refused() {
    assert_eq!(with("Content-Length: 0\r\nTransfer-Encoding: chunked"), Err(Refusal::TwoFramings));
    assert_eq!(with("Transfer-Encoding: chunked\r\nContent-Length: 0"), Err(Refusal::TwoFramings));
    for wrong in
        ["1\r\nContent-Length: 2", "0\r\nContent-Length: 0", "1, 1", "+1", "-1", "0x1", "1 1", "", "1_0"]
    {
        assert_eq!(with(&format!("Content-Length: {wrong}")), Err(Refusal::Length), "{wrong}");
    }
    assert_eq!(with("Content-Length: 18446744073709551616"), Err(Refusal::Length));
    for wrong in [
        "gzip",
        "chunked, gzip",
        "chunked, chunked",
        "identity",
        "xchunked",
        "chunked;a=b",
        "\"chunked\"",
        "",
    ] {
        assert_eq!(with(&format!("Transfer-Encoding: {wrong}")), Err(Refusal::NotChunked), "{wrong}");
    }
    let twice = "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked";
    assert_eq!(with(twice), Err(Refusal::NotChunked));
    assert_eq!(with("Transfer-Encoding: gzip, chunked"), Err(Refusal::UnknownCoding));
    let old = "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_eq!(verdict(old), Err(Refusal::NotChunked));
}

#[test]
fn lines_that_can_be_read_in_two_ways_are_refused() {
    for wrong in [
        "Content-Length : 0",
        " Content-Length: 0",
        "\tfolded",
        "A: b\r\n folded",
        "no colon",
        ": nameless",
        "a b: c",
        "a\u{b}: c",
        "Transfer-Encoding\u{a0}: chunked",
        "a\0: b",
    ] {
        assert_eq!(with(wrong), Err(Refusal::HeaderName), "{wrong:?}");
    }
    for wrong in ["a: b\0c", "a: b\rc", "a: \u{1b}", "a: \u{7f}", "a: b\r\r"] {
        assert_eq!(with(wrong), Err(Refusal::HeaderValue), "{wrong:?}");
    }
    assert_eq!(with("a: b\nTransfer-Encoding: chunked"), Err(Refusal::LineEnd));
    assert_eq!(verdict("GET / HTTP/1.1\nHost: a\n\n"), Err(Refusal::LineEnd));
    assert_eq!(verdict("\nGET / HTTP/1.1\r\n\r\n"), Err(Refusal::LineEnd));
    assert_eq!(verdict("\r\n\r\nGET / HTTP/1.1\r\n\r\n"), Err(Refusal::RequestLine));
}

#[test]
fn request_lines_have_three_parts() {
    for wrong in [
        "GET /",
        "GET  / HTTP/1.1",
        "GET / HTTP/1.1 ",
        "GET / x HTTP/1.1",
        "GET\t/ HTTP/1.1",
        " GET / HTTP/1.1",
        "G(T / HTTP/1.1",
        "GET /\u{e4} HTTP/1.1",
        "GET / HTTP/1.",
        "GET / HTTP/1.10",
        "GET / http/1.1",
        "GET / HTTP/x.1",
        "GET /\0 HTTP/1.1",
    ] {
        assert_eq!(verdict(&format!("{wrong}\r\nHost: a\r\n\r\n")), Err(Refusal::RequestLine), "{wrong:?}");
    }
    for other in ["HTTP/2.0", "HTTP/1.2", "HTTP/0.9", "HTTP/3"] {
        assert_eq!(verdict(&format!("GET / {other}\r\n\r\n")), Err(Refusal::Version), "{other}");
    }
}

#[test]
fn chunks_are_read_in_one_way_only() {
    assert_eq!(chunked("0\r\n\r\n"), Ok(2));
    assert_eq!(chunked("00000000000000a;x=y\r\n0123456789\r\n0\r\nA: b\r\n\r\n"), Ok(2));
    for wrong in [
        "\r\n",
        "g\r\n",
        "-1\r\n",
        "0x1\r\na\r\n",
        "1 \r\na\r\n",
        "1\na\r\n",
        "1;a\n\r\na\r\n",
        "1\r\nab\r\n",
        "1\r\na\n",
        "1\r\na\r\r",
        "1\rXa\r\n",
        ";a\r\n",
        "00000000000000001\r\na\r\n",
        "fffffffffffffffff\r\n",
    ] {
        assert_eq!(chunked(wrong), Err(Refusal::Chunk), "{wrong:?}");
    }
    assert_eq!(chunked("0\r\nA : b\r\n\r\n"), Err(Refusal::HeaderName));
    assert_eq!(chunked("0\r\nA: b\n\r\n"), Err(Refusal::LineEnd));
    let endless = format!("1;{}\r\na\r\n", "x".repeat(5000));
    let mut framing = Framing::default();
    let head = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
    framing.read(head).unwrap();
    assert_eq!(framing.read(endless.as_bytes()), Err(Refusal::Chunk));
}

#[test]
fn what_is_too_large_is_refused_before_it_has_ended() {
    let url = format!("GET /{}", "x".repeat(limits::URL_BYTES + 20));
    assert_eq!(read(&[url.as_bytes()]), Err(Refusal::UrlTooLong));
    let whole = format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(limits::URL_BYTES));
    assert_eq!(read(&[whole.as_bytes()]), Err(Refusal::UrlTooLong));
    let line = format!("a: {}\r\n", "x".repeat(4096));
    let large = format!("GET / HTTP/1.1\r\n{}", line.repeat(40));
    assert_eq!(read(&[large.as_bytes()]), Err(Refusal::HeaderTooLarge));
    let many = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(limits::HEADER_COUNT + 1));
    assert_eq!(read(&[many.as_bytes()]), Err(Refusal::HeaderTooLarge));
}

proptest::proptest! {
    #[test]
    fn any_bytes_are_judged_the_same_however_they_arrive(
        start in 0usize..4,
        noise in proptest::collection::vec(
            proptest::prop_oneof![
                proptest::strategy::Just(b'\r'), proptest::strategy::Just(b'\n'), proptest::strategy::Just(b':'),
                proptest::strategy::Just(b'0'), proptest::strategy::Just(b'1'), proptest::prelude::any::<u8>(),
            ],
            0..200,
        ),
        cuts in proptest::collection::vec(0usize..300, 0..8),
    ) {
        let starts = [
            "",
            "GET / HTTP/1.1\r\n",
            "POST / HTTP/1.1\r\nContent-Length: 4\r\n\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",
        ];
        let bytes = [starts[start].as_bytes(), &noise].concat();
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut % (bytes.len() + 1)).collect();
        cuts.sort_unstable();
        let mut pieces = Vec::new();
        let mut from = 0;
        for cut in cuts {
            pieces.push(&bytes[from..cut]);
            from = cut;
        }
        pieces.push(&bytes[from..]);
        proptest::prop_assert_eq!(read(&pieces), read(&[&bytes]));
    }
}
